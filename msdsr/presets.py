"""Recipes for models: what `preset` fills in where the configuration is silent.

`paper` is the published recipe (Jiang et al. 2024, section 4.2, and its code); `default` keeps
the network and changes what the network sees; `tiny` is `default` for a laptop's CPU.
"""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        "network": {},
        "objective": {
            "data": "unit",
            "derive_ch1": True,
            "conditioning": "rows",
            "prediction": "epsilon",
            "loss_rows": "all",
            "masks": "paper",
        },
        "optimiser": {"learning_rate": 1e-7, "batch": 256, "clip_norm": 0.5, "warmup": 0.1},
    },
    "default": {"network": {}, "objective": {}, "optimiser": {}},
    "tiny": {
        "network": {
            "block_out_channels": [16, 32, 64, 128],
            "layers_per_block": 1,
            "attention_levels": [False, False, True, True],
            "attention_head_dim": 32,
            "norm_num_groups": 8,
        },
        "objective": {"prediction": "v"},
        "optimiser": {
            "images": 80_000,
            "batch": 16,
            "micro_batch": 16,
            "learning_rate": 1e-3,
            "ema_decay": 0.999,
            "clip_norm": 1.0,
            "validate_every": 10_000,
            "validate_restored_every": 20_000,
            "restored_crops": 48,
            "precision": "float32",
            "compile": False,
        },
    },
}
