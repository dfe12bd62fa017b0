"""How fast superresolve is, beside a plain re-creation of the paper's inference.

    python benchmarks/superresolve.py [--compile]

On a CPU: CPU seconds of one thread, measured on a stated crop and scaled to a slide by the number
of tiles. On a GPU: a whole slide with the 274-million-parameter network. Writes
benchmarks/results/superresolve.json; a section that the machine cannot measure keeps what is there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import beds
import paper_inference
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from msdsr.config import ModelConfig, SuperresolveConfig
from msdsr.diffusion.denoiser import NetworkDenoiser
from msdsr.diffusion.inference import Precision
from msdsr.diffusion.network import Model, build_network, load_model
from msdsr.diffusion.transform import ChannelStatistics, standardised_transform
from msdsr.superresolve.engine import Block, Mode, Tiling, Walk, count_walk, restore
from msdsr.train.speed import peak_flops
from msdsr.volume import Region

RESULT = beds.REPOSITORY / "benchmarks/results/superresolve.json"
SLIDE, PLANES, FACTOR, CHANNELS = 1000, 20, 2, 2
FEW: tuple[Mode, int] = ("alternate", 20)
DEFAULT = SuperresolveConfig()
TILE, STRIDE = 48, 40
ROUNDS = 3
TODAY = datetime.datetime.now(datetime.UTC).date().isoformat()
CROP, CPU_STEPS, PAPER_STEPS = 96, 2, 4
CPU_BATCHES, GPU_BATCHES = (8, 32, 64, 256), (256, 512, 1024, 2048)


class Clock:
    """Seconds of a device: of one thread's CPU time, or of a GPU with all its work done."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> float:
        """Return the time."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.process_time()

    def seconds(self, work: Callable[[], object]) -> float:
        """Return how long some work takes."""
        start = self.now()
        work()
        return self.now() - start


def block_of(rows: int, columns: int, device: torch.device) -> Block:
    """Return noise in the place of a slide of 20 planes that is brought to 39, in model units."""
    height = (PLANES - 1) * FACTOR + 1
    above = (TILE - height) // 2
    acquired = torch.zeros(TILE, dtype=torch.bool, device=device)
    acquired[above : above + height : FACTOR] = True
    clean = torch.randn(CHANNELS, TILE, rows, columns, device=device)
    region = Region(-above, TILE - above, 0, rows, 0, columns)
    return Block(clean, acquired, region, rows, columns)


def walk_of(model: Model, steps: int, taken: int | None = None) -> Walk:
    """Return a walk of so many steps, or as many of its levels as are taken, and then 0."""
    sigmas = model.sigma_grid(steps)
    return Walk((*sigmas[: taken or steps], 0.0), 1.0, 0)


def slide_tiles(model: Model, mode: Mode, steps: int) -> int:
    """Return how often the network sees a tile for a whole slide."""
    above = (TILE - (PLANES - 1) * FACTOR - 1) // 2
    region = Region(-above, TILE - above, 0, SLIDE, 0, SLIDE)
    tiling = Tiling(TILE, STRIDE, 1)
    return count_walk(region, SLIDE, SLIDE, mode, walk_of(model, steps), tiling)


def fast(model: Model, precision: Precision, batch: int, compiled: bool) -> NetworkDenoiser:
    """Return the denoiser as the stage uses it."""
    size = batch if compiled else None
    return NetworkDenoiser(model, precision, fast=True, compiled_batch=size)


def engine_rate(
    model: Model,
    block: Block,
    mode: Mode,
    steps: int,
    precision: Precision,
    batch: int,
    compiled: bool = False,
) -> tuple[float, int, float]:
    """Return tiles a second in the whole engine, the tiles, and the seconds."""
    denoiser = fast(model, precision, batch, compiled)
    walk, tiling, clock = (
        walk_of(model, 20, steps),
        Tiling(TILE, STRIDE, batch),
        Clock(model.device),
    )
    done: list[int] = []
    seconds = clock.seconds(lambda: restore(denoiser, block, mode, walk, tiling, done.append))
    return sum(done) / seconds, sum(done), seconds


def network_rate(
    model: Model, precision: Precision, batch: int, tiles: int, compiled: bool = False
) -> float:
    """Return tiles a second of the denoiser alone."""
    denoiser = fast(model, precision, batch, compiled)
    x = torch.randn(batch, CHANNELS, TILE, TILE, device=model.device)
    observed = torch.arange(TILE, device=model.device) % FACTOR == 0
    repeats = max(tiles // batch, 2)

    def work() -> None:
        for _ in range(repeats):
            denoiser(x, 1.0, x, observed)

    with torch.inference_mode():
        denoiser(x, 1.0, x, observed)
        denoiser(x, 1.0, x, observed)
        return repeats * batch / Clock(model.device).seconds(work)


def paper_rate(network: torch.nn.Module, steps: int, device: torch.device) -> float:
    """Return tiles a second of the plain re-creation, over its first steps in both directions."""
    cube = torch.randn(CHANNELS, TILE, TILE, TILE, device=device)
    rows = list(range(4, 44, FACTOR))
    seconds = Clock(device).seconds(
        lambda: paper_inference.restore_cube(network, cube, rows, steps)
    )
    return 2 * TILE * steps / seconds


def flops_of(model: Model) -> float:
    """Return the floating-point operations (twice the multiplications) of one tile."""
    layout: Any = model.network.config
    ghost = torch.zeros(1, layout.in_channels, TILE, TILE, device=model.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.network(ghost, torch.zeros(1, device=model.device))
    return float(counter.get_total_flops())


def plain_network(model: Model) -> torch.nn.Module:
    """Return a network of the same layout that reads the image alone, as the published one."""
    layout: Any = model.network.config
    kept = {
        "image_size": layout.sample_size,
        "block_out_channels": list(layout.block_out_channels),
        "layers_per_block": layout.layers_per_block,
        "attention_levels": ["Attn" in kind for kind in layout.down_block_types],
        "attention_head_dim": layout.attention_head_dim,
        "norm_num_groups": layout.norm_num_groups,
    }
    settings = ModelConfig.model_validate(
        {"cohorts": ["x"], "network": kept, "objective": {"conditioning": "rows"}}
    )
    return build_network(settings, CHANNELS).eval().to(model.device)


def median(values: list[float], digits: int = 1) -> float:
    """Return a rounded median."""
    return round(statistics.median(values), digits)


def against_the_paper(model: Model, block: Block, batch: int, steps: int) -> dict[str, Any]:
    """Measure the engine and the re-creation in turns, and scale both to a slide."""
    network, device = plain_network(model), model.device
    paper_rate(network, 1, device)
    rates: dict[str, list[float]] = {"paper": [], "float32": [], "bfloat16": []}
    for _ in range(ROUNDS):
        rates["paper"].append(paper_rate(network, PAPER_STEPS, device))
        for precision in ("float32", "bfloat16"):
            found = engine_rate(model, block, "alternate", steps, precision, batch)
            rates[precision].append(found[0])
    paper = paper_inference.evaluations(SLIDE, SLIDE)
    tiles = {
        "paper, XZ and YZ with 200 steps each, whole cubes": paper,
        "average, 200 steps": slide_tiles(model, "average", 200),
        f"{FEW[0]}, {FEW[1]} steps": slide_tiles(model, *FEW),
        f"{DEFAULT.mode}, {DEFAULT.steps} steps": slide_tiles(model, DEFAULT.mode, DEFAULT.steps),
    }
    seconds = {name: statistics.median(found) for name, found in rates.items()}
    record: dict[str, Any] = {
        "tiles_per_second": {name: median(found) for name, found in rates.items()},
        "tiles_per_slide": tiles,
        "seconds_per_slide": {"paper": round(paper / seconds["paper"])},
        "ratio_per_tile": {},
        "ratio_per_slide": {},
    }
    for precision in ("float32", "bfloat16"):
        pairs = list(zip(rates[precision], rates["paper"], strict=True))
        record["ratio_per_tile"][precision] = median([a / b for a, b in pairs], 2)
        for name, count in list(tiles.items())[1:]:
            key = f"{name}, {precision}"
            record["seconds_per_slide"][key] = round(count / seconds[precision])
            ratio = [a * paper / (b * count) for a, b in pairs]
            record["ratio_per_slide"][key] = median(ratio, 2)
    return record


def rounding(model: Model, batch: int) -> dict[str, Any]:
    """Restore a synthetic volume in both precisions and tell how much they differ."""
    specimen = beds.phantom(beds.PATIENTS[:1]).specimens[0]
    size = specimen.imaged.shape[1]
    imaged = model.transform.forward(torch.from_numpy(specimen.imaged).float(), channel_axis=0)
    clean = torch.zeros(CHANNELS, TILE, beds.SIDE, beds.SIDE)
    acquired = torch.zeros(TILE, dtype=torch.bool)
    above = (TILE - size) // 2
    acquired[above : above + size : FACTOR] = True
    clean[:, above : above + size] = imaged
    region = Region(-above, TILE - above, 0, beds.SIDE, 0, beds.SIDE)
    block = Block(clean, acquired, region, beds.SIDE, beds.SIDE)
    hidden = torch.arange(above + 1, above + size, FACTOR)

    def run(precision: Precision, seed: int) -> Tensor:
        denoiser = NetworkDenoiser(model, precision, fast=True)
        walk = Walk(model.sigma_grid(FEW[1]), 1.0, seed)
        out = restore(denoiser, block, FEW[0], walk, Tiling(TILE, STRIDE, batch))
        return out[:, hidden]

    exact, rough, other = run("float32", 1), run("bfloat16", 1), run("float32", 3)
    truth = clean[:, hidden]

    def rms(a: Tensor, b: Tensor) -> float:
        return round(float((a - b).square().mean().sqrt()), 4)

    return {
        "what": "root mean square over generated planes of one synthetic volume, σ of the data = 1",
        "bfloat16_from_float32": rms(rough, exact),
        "other_seed_from_float32": rms(other, exact),
        "float32_from_truth": rms(exact, truth),
        "bfloat16_from_truth": rms(rough, truth),
    }


def cpu_section(compiled: bool) -> dict[str, Any]:
    """Measure on one thread."""
    torch.set_num_threads(1)
    model = load_model(beds.REPOSITORY / "resources/models/phantom-tiny")
    rates: dict[str, dict[str, float]] = {}
    for precision in ("float32", "bfloat16"):
        rates[precision] = {
            str(batch): round(network_rate(model, precision, batch, 256), 1)
            for batch in CPU_BATCHES
        }
        if compiled:
            found = network_rate(model, precision, 32, 256, compiled=True)
            rates[precision]["32, compiled"] = round(found, 1)
        print(precision, rates[precision], flush=True)
    block = block_of(CROP, CROP, model.device)
    record = against_the_paper(model, block, 32, CPU_STEPS)
    print(record, flush=True)
    rate, tiles, seconds = engine_rate(model, block, *FEW, "bfloat16", 32)
    alone = network_rate(model, "bfloat16", 32, 512)
    return {
        "date": TODAY,
        "machine": {"processor": processor(), "threads": 1},
        "seconds_are": "CPU seconds of one thread",
        "network": {"parameters": parameters(model), "flops_per_tile": flops_of(model)},
        "tiles_per_second_by_batch": rates,
        "against_the_paper": {
            "measured_on": f"{CROP}×{CROP}×{PLANES} noise for the engine ({CPU_STEPS} steps), one "
            f"cube of 48³ for the paper ({PAPER_STEPS} of 200 steps in both directions), "
            f"{ROUNDS} rounds in turns; medians",
            "scaled": "slides were not run: seconds are tiles of a slide over tiles a second",
            **record,
        },
        "one_whole_run": {
            "what": f"{CROP}×{CROP}×{PLANES}, {FEW[0]}, {FEW[1]} steps, bfloat16",
            "tiles": tiles,
            "seconds": round(seconds, 1),
            "tiles_per_second": round(rate, 1),
            "network_alone_tiles_per_second": round(alone, 1),
        },
        "rounding": rounding(model, 32),
        "mfu": None,
        "mfu_note": "the peak of this processor is not known",
    }


def gpu_section() -> dict[str, Any]:
    """Measure the large network on a GPU, with random weights: speed does not depend on them."""
    device = torch.device("cuda")
    settings = ModelConfig.model_validate({"preset": "default", "cohorts": ["x"]})
    with device:
        network = build_network(settings, CHANNELS).eval()
    wide = [ChannelStatistics(0.0, 1.0, -10.0, 10.0)] * CHANNELS
    transform = standardised_transform(("CH2", "CH3"), wide)
    model = Model(network, transform, settings.objective)
    flops, peak = flops_of(model), peak_flops(device, "bfloat16")
    table: list[dict[str, Any]] = []
    for compiled in (False, True):
        for batch in GPU_BATCHES:
            rate = network_rate(model, "bfloat16", batch, 4096, compiled)
            mfu = round(rate * flops / peak, 3) if peak else None
            row = {"batch": batch, "compiled": compiled, "tiles_per_second": round(rate)}
            table.append({**row, "mfu": mfu})
            print(table[-1], flush=True)
    best = max(table, key=lambda row: row["tiles_per_second"])
    batch, compiled = int(best["batch"]), bool(best["compiled"])
    torch.cuda.reset_peak_memory_stats()
    block = block_of(SLIDE, SLIDE, device)
    engine_rate(model, block_of(CROP, CROP, device), "xz", 1, "bfloat16", batch, compiled)
    rate, tiles, seconds = engine_rate(model, block, *FEW, "bfloat16", batch, compiled)
    memory = torch.cuda.max_memory_allocated()
    paper = paper_rate(plain_network(model), PAPER_STEPS, device)
    return {
        "date": TODAY,
        "machine": {"gpu": torch.cuda.get_device_name(device)},
        "network": {"parameters": parameters(model), "flops_per_tile": flops},
        "by_batch": table,
        "slide": {
            "what": f"{SLIDE}×{SLIDE}×{PLANES}, {FEW[0]}, {FEW[1]} steps, bfloat16",
            "batch": batch,
            "compiled": compiled,
            "tiles": tiles,
            "seconds": round(seconds, 1),
            "mfu": round(rate * flops / peak, 3) if peak else None,
            "peak_gpu_gb": round(memory / 1e9, 1),
        },
        "paper_seconds_scaled": round(paper_inference.evaluations(SLIDE, SLIDE) / paper),
    }


def figures(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of the page of benchmarks."""
    lines: list[dict[str, Any]] = []
    if "cpu" in record:
        cpu = record["cpu"]
        machine = {"date": cpu["date"], "machine": f"{cpu['machine']['processor']}; one thread"}
        ratios = cpu["against_the_paper"]["ratio_per_slide"]
        for name, ratio in ratios.items():
            line = {"what": f"a slide: the paper's inference over {name} (scaled from crops)"}
            target = "≥ 1.3" if name.startswith("average") else "≥ 20"
            lines.append({**line, "value": ratio, "target": target, **machine})
        for key, name in (("bfloat16", "bfloat16"), ("other_seed", "another seed")):
            value = cpu["rounding"][f"{key}_from_float32"]
            lines.append({"what": f"{name} from float32, rms in σ", "value": value, **machine})
    gpu = record["gpu"]
    if isinstance(gpu, str):
        return [*lines, {"what": "GPU: seconds a slide and MFU", "value": "not measured"}]
    machine, slide = {"date": gpu["date"], "machine": gpu["machine"]["gpu"]}, gpu["slide"]
    what = f"{slide['what']}, {gpu['network']['parameters'] / 1e6:.0f} M weights"
    lines.append({"what": what, "value": f"{slide['seconds']} s", "target": "< 60 s", **machine})
    lines.append({"what": "its MFU", "value": slide["mfu"], "target": "≥ 0.45", **machine})
    return lines


def parameters(model: Model) -> int:
    """Return the number of weights."""
    return sum(p.numel() for p in model.network.parameters())


def processor() -> str:
    """Return what Linux calls the processor, and how many cores there are."""
    ask: Any = getattr(torch.cpu, "get_capabilities", dict)
    amx = "with" if ask().get("amx_bf16") else "without"
    return f"{platform.machine()}, {os.cpu_count()} cores, {amx} AMX"


def main() -> None:
    """Measure what this machine can, and note it beside what another one could."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compile", action="store_true", help="also compile on the CPU")
    arguments = parser.parse_args()
    record = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    record["claim"] = (
        "how fast a slide is filled; wanted are 20 times the paper's inference with few steps, "
        "1.3 times at equal steps, and 60 s on an H200"
    )
    record["slide"] = f"{SLIDE}×{SLIDE}×{PLANES} voxels, {CHANNELS} channels, {FACTOR}×"
    record["versions"] = {"python": platform.python_version(), "torch": torch.__version__}
    if torch.cuda.is_available():
        record["gpu"] = gpu_section()
    else:
        record["cpu"] = cpu_section(arguments.compile)
        record.setdefault("gpu", "not measured: there was no GPU")
    record["figures"] = figures(record)
    RESULT.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print(f"wrote {RESULT.name}")


if __name__ == "__main__":
    main()
