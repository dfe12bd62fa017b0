"""Recipes for models: what `preset` fills in, by kind, where the configuration is silent.

`paper` is the published recipe (Jiang et al. 2024, section 4.2, and its code); `default` keeps
the network and changes what the network sees; `tiny` is `default` for a laptop's CPU.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, cast

Kind = Literal["msdsr", "ms_unet", "e2e_unet", "rscd_prior", "rscd_calibrator"]
"""What a model is; it stands in the model's folder too."""

Recipe = dict[str, dict[str, Any]]

ALLOWED: dict[Kind, dict[str, tuple[Any, ...]]] = {
    "msdsr": {
        "data": ("unit", "standardised"),
        "conditioning": ("rows", "mask_and_rows"),
        "prediction": ("epsilon", "v"),
        "masks": ("paper", "mixture"),
    },
    "ms_unet": {
        "data": ("unit", "standardised"),
        "conditioning": ("rows", "mask_and_rows"),
        "prediction": ("x0",),
        "masks": ("paper", "mixture"),
    },
    "e2e_unet": {
        "data": ("unit", "standardised"),
        "conditioning": ("neighbours",),
        "prediction": ("x0",),
        "loss_rows": ("all",),
        "masks": ("none",),
    },
    "rscd_prior": {
        "data": ("symmetric", "standardised"),
        "derive_ch1": (False,),
        "conditioning": ("none",),
        "prediction": ("epsilon", "v"),
        "loss_rows": ("all",),
        "masks": ("none",),
    },
    "rscd_calibrator": {
        "data": ("symmetric", "standardised"),
        "derive_ch1": (False,),
        "conditioning": ("none",),
        "prediction": ("noise_level",),
        "loss_rows": ("all",),
        "masks": ("none",),
    },
}
"""Values of the section `objective` that mean something for a kind; other keys are free."""

_PAPER: Recipe = {
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
}

_DEFAULT: Recipe = {"network": {}, "objective": {}, "optimiser": {}}

_TINY: Recipe = {
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
}

_MIDPLANE: Recipe = {
    "network": {},
    "objective": {
        "conditioning": "neighbours",
        "prediction": "x0",
        "loss_rows": "all",
        "masks": "none",
    },
    "optimiser": {"learning_rate": 1e-3},
}

_ONE_PASS: Recipe = {
    "network": {},
    "objective": {"prediction": "x0"},
    "optimiser": {"learning_rate": 1e-3},
}

_WHOLE_IMAGE: Recipe = {
    "network": {},
    "objective": {
        "derive_ch1": False,
        "conditioning": "none",
        "prediction": "epsilon",
        "loss_rows": "all",
        "masks": "none",
    },
    "optimiser": {"learning_rate": 1e-4},
}

_LARGE_IMAGE: Recipe = {
    "network": {
        "image_size": 256,
        "block_out_channels": [64, 128, 256, 384, 512],
        "attention_levels": [False, False, False, True, True],
    },
    "objective": {},
    "optimiser": {"images": 1_000_000, "batch": 32, "micro_batch": 8, "validate_every": 50_000},
}
"""Ours: the layout of the published denoiser's networks is not known here."""

_SMALL_IMAGE: Recipe = {
    "network": {
        "image_size": 32,
        "block_out_channels": [16, 32, 64],
        "attention_levels": [False, False, True],
    },
    "objective": {},
    "optimiser": {"learning_rate": 1e-3},
}

_SYMMETRIC: Recipe = {"network": {}, "objective": {"data": "symmetric"}, "optimiser": {}}

_JUDGE: Recipe = {
    "network": {"layers_per_block": 1},
    "objective": {"prediction": "noise_level"},
    "optimiser": {},
}

_PRIOR: dict[str, tuple[Recipe, ...]] = {
    "paper": (_WHOLE_IMAGE, _LARGE_IMAGE, _SYMMETRIC),
    "default": (_WHOLE_IMAGE, _LARGE_IMAGE),
    "tiny": (_TINY, _WHOLE_IMAGE, _SMALL_IMAGE),
}

_RECIPES: dict[Kind, dict[str, tuple[Recipe, ...]]] = {
    "msdsr": {"paper": (_PAPER,), "default": (_DEFAULT,), "tiny": (_TINY,)},
    "ms_unet": {
        "paper": (_PAPER, _ONE_PASS),
        "default": (_DEFAULT, _ONE_PASS),
        "tiny": (_TINY, _ONE_PASS),
    },
    "e2e_unet": {
        "paper": (_PAPER, _MIDPLANE),
        "default": (_DEFAULT, _MIDPLANE),
        "tiny": (_TINY, _MIDPLANE),
    },
    "rscd_prior": _PRIOR,
    "rscd_calibrator": {preset: (*parts, _JUDGE) for preset, parts in _PRIOR.items()},
}


def recipe(kind: str, preset: str) -> Recipe:
    """Return the sections of a model that a preset of a kind fills; later parts go first.

    Unknown names give nothing: whoever validates the configuration refuses them.
    """
    filled: Recipe = {}
    for part in _RECIPES.get(cast("Kind", kind), {}).get(preset, ()):
        for section, values in part.items():
            filled[section] = {**filled.get(section, {}), **copy.deepcopy(values)}
    return filled
