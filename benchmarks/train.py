"""How fast the training loop is: on a GPU of its peak, on a CPU against a plain loop.

Run from the repository: `.venv/bin/python benchmarks/train.py [cpu|data|gpu ...]`; without names,
everything this machine can do. Writes benchmarks/results/train.json, each part with its own date
and machine, so that a GPU's figures can be added on another machine.

- `cpu`: the same network, crops, masks, steps and number of threads, once in our loop and once in a
  plain one: diffusers' UNet2DModel and DDPMScheduler.add_noise, its EMAModel, and a torch
  DataLoader that reads an image file and cuts one crop for each item. One thread each; what counts
  is the time that the CPU worked for it, so that other work on the machine disturbs less. The two
  take turns; the figure is the median ratio over the turns.
- `data`: crops a second of the data path alone.
- `gpu`: images a second and MFU of `paper` and `default`, batch 256, bfloat16, compiled and not.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pandas as pd
import tifffile
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel
from scipy.ndimage import gaussian_filter

from msdsr.config import ModelConfig, TrainsetConfig
from msdsr.diffusion.masks import draw_masks
from msdsr.diffusion.network import build_network
from msdsr.errors import UserError
from msdsr.manifest import Manifest, write_manifest
from msdsr.train.data import Trainset, open_trainset, transform_of
from msdsr.train.distributed import Ranks
from msdsr.train.feed import Feed
from msdsr.train.loop import Learner
from msdsr.train.speed import out_of_memory_is_clear, peak_flops, training_flops
from msdsr.trainset import TrainSlide, build_trainset
from msdsr.volume import VoxelSize, write_volume

REPOSITORY = Path(__file__).parents[1]
OUT = REPOSITORY / "benchmarks/results/train.json"
TARGETS = {"ratio_to_a_plain_loop": 1.3, "mfu_on_an_h200": 0.4}
CHANNELS = ("CH2", "CH3")
SIDE, IMAGES = 256, 48
CPU_TURNS, CPU_STEPS, CPU_WARMUP = 5, 4, 2
GPU_WARMUP, GPU_STEPS = 10, 30
DATA_SECONDS = 3.0


def make_trainset(folder: Path) -> Trainset:
    """Make a training set of smooth noise, and the same images as TIFF files."""
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.standard_normal((2, IMAGES, SIDE, SIDE)), (0, 0, 2, 2))
    voxels = (20000 + 60000 * field).clip(0, 65535).astype(np.uint16)
    volume, patches = folder / "denoised.ome.zarr", folder / "patches.parquet"
    write_volume(volume, voxels, VoxelSize(1.0, 0.5, 0.5), CHANNELS)
    write_manifest(volume, Manifest(stage="denoise", algorithm=1, counts={"slide": "a"}))
    columns = ("slide", "index", "y0", "x0", "height", "width", "tissue_fraction", "background")
    pd.DataFrame([("a", 0, 0, 0, SIDE, SIDE, 1.0, False)], columns=columns).to_parquet(patches)
    write_manifest(patches, Manifest(stage="patch", algorithm=1, counts={"slide": "a"}))
    slide = TrainSlide("a", "p", "train", volume, patches)
    out = folder / "trainset.zarr"
    build_trainset([slide], out, folder / "work", channels=CHANNELS, settings=TrainsetConfig())
    for number in range(IMAGES):
        tifffile.imwrite(folder / f"{number}.tif", voxels[:, number], photometric="minisblack")
    return open_trainset(out)


def recipe(preset: str, **optimiser: Any) -> ModelConfig:
    """Return a preset; `paper` without its derived channel's demands met is still the paper's."""
    return ModelConfig.model_validate(
        {"preset": preset, "cohorts": ["any"], "optimiser": {"images": 10**9, **optimiser}}
    )


def our_steps(
    trainset: Trainset, model: ModelConfig, device: torch.device, folder: Path
) -> Iterator[int]:
    """Take one step of our loop for each value asked for."""
    ranks = Ranks(0, 1, device)
    transform = transform_of(trainset, model.objective)
    learner = Learner.new(model, 0, ranks, transform)
    with Feed(trainset, model, 0, transform, ranks, folder / "images.raw") as feed:
        for batch in feed.batches(0, model.optimiser.images):
            learner.step(batch, False)
            yield model.optimiser.batch


class Items(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """An item reads a file, cuts, flips and turns one crop, and draws its mask."""

    def __init__(self, folder: Path, trainset: Trainset, model: ModelConfig) -> None:
        self.files = [folder / f"{number}.tif" for number in range(IMAGES)]
        self.transform = transform_of(trainset, model.objective)
        self.size, self.masks = model.network.image_size, model.objective.masks

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        source = torch.Generator().manual_seed(number)
        which, turns, flip = (
            int(torch.randint(n, (), generator=source)) for n in (len(self.files), 4, 2)
        )
        image = tifffile.imread(self.files[which]).astype(np.float32)
        y, x = (int(v) for v in torch.randint(SIDE - self.size + 1, (2,), generator=source))
        crop = torch.from_numpy(image[:, y : y + self.size, x : x + self.size])
        crop = torch.rot90(crop.flip(-1) if flip else crop, turns, (1, 2))
        x0 = self.transform.forward(crop[None].contiguous())[0]
        return x0, draw_masks(self.masks, 1, self.size, source)[0]


def plain_steps(
    trainset: Trainset, model: ModelConfig, device: torch.device, folder: Path
) -> Iterator[int]:
    """Take one step of the plain loop for each value asked for."""
    settings, objective = model.optimiser, model.objective
    torch.manual_seed(0)
    channels = len(transform_of(trainset, objective).model_channels)
    network = build_network(model, channels).to(device)
    average = EMAModel(network.parameters(), decay=settings.ema_decay)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.01)
    scheduler = DDPMScheduler(objective.timesteps, beta_schedule="squaredcos_cap_v2")
    alphas = scheduler.alphas_cumprod.to(device)
    loader = torch.utils.data.DataLoader(Items(folder, trainset, model), settings.batch)
    for x0, observed in loader:
        x0, rows = x0.to(device), observed.to(device)[:, None, :, None]
        noise = torch.randn_like(x0)
        t = torch.randint(0, objective.timesteps, (len(x0),), device=device)
        x_t = torch.where(rows, x0, scheduler.add_noise(x0, noise, t))
        mask = rows.float().expand(-1, 1, -1, x0.shape[3])
        given = torch.cat([x_t, mask, torch.where(rows, x0, 0.0)], dim=1)
        a = alphas[t][:, None, None, None]
        target = a.sqrt() * noise - (1 - a).sqrt() * x0
        if objective.prediction == "epsilon":
            target = noise
        hidden = (~rows).float().expand_as(x0)
        bfloat16 = settings.precision == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            predicted = network(given, t).sample
        loss = ((predicted.float() - target).abs() * hidden).sum() / hidden.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        average.step(network.parameters())
        loss.item()
        yield settings.batch


def speed(
    steps: Iterator[int],
    count: int,
    wait: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return images a second over some steps."""
    wait()
    start = clock()
    images = sum(next(steps) for _ in range(count))
    wait()
    return images / (clock() - start)


def cpu(folder: Path) -> dict[str, Any]:
    """Compare the two loops on the CPU, with the network of the preset `tiny`."""
    torch.set_num_threads(1)
    trainset, device = make_trainset(folder), torch.device("cpu")
    runs: dict[str, Any] = {}
    for precision in ("float32", "bfloat16"):
        model = recipe("tiny", precision=precision)
        ours = our_steps(trainset, model, device, folder)
        plain = plain_steps(trainset, model, device, folder)
        for steps in (ours, plain):
            speed(steps, CPU_WARMUP)
        turns = [
            tuple(speed(s, CPU_STEPS, clock=time.process_time) for s in (ours, plain))
            for _ in range(CPU_TURNS)
        ]
        ratio = statistics.median(a / b for a, b in turns)
        runs[precision] = {
            "ours_images_per_cpu_s": round(statistics.median(a for a, _ in turns), 2),
            "plain_images_per_cpu_s": round(statistics.median(b for _, b in turns), 2),
            "ratio": round(ratio, 3),
            "ratios": [round(a / b, 3) for a, b in turns],
        }
        print(f"cpu, {precision}: {runs[precision]}", flush=True)
    ours = [runs[p]["ours_images_per_cpu_s"] for p in ("bfloat16", "float32")]
    return {
        "preset": "tiny",
        "batch": model.optimiser.batch,
        "turns": CPU_TURNS,
        "steps_a_turn": CPU_STEPS,
        "target_ratio": TARGETS["ratio_to_a_plain_loop"],
        **runs,
        "bfloat16_over_float32": round(ours[0] / ours[1], 3),
    }


def data(folder: Path) -> dict[str, Any]:
    """Return crops of 48 pixels a second, batches of 256, without a network."""
    trainset = make_trainset(folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ranks, model = Ranks(0, 1, device), recipe("default")
    transform = transform_of(trainset, model.objective)
    with Feed(trainset, model, 0, transform, ranks, folder / "images.raw") as feed:
        batches = feed.batches(0, model.optimiser.images)
        ours = _per_second((len(transform.forward(batch.raw)) for batch in batches), device)
    loader = torch.utils.data.DataLoader(Items(folder, trainset, model), model.optimiser.batch)
    plain = _per_second((len(x0) for x0, _ in loader), torch.device("cpu"))
    print(f"data: {ours:.0f} crops/s, plain {plain:.0f}", flush=True)
    return {"ours_crops_per_s": round(ours), "plain_crops_per_s": round(plain)}


def _per_second(counts: Iterator[int], device: torch.device) -> float:
    next(counts)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start, images = clock(), 0
    while clock() - start < DATA_SECONDS:
        images += next(counts)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return images / (clock() - start)


def gpu(folder: Path) -> dict[str, Any]:
    """Return images a second and MFU of the large presets on one GPU."""
    trainset, device = make_trainset(folder), torch.device("cuda", 0)
    peak, runs = peak_flops(device, "bfloat16"), []
    for preset in ("paper", "default"):
        for compiled in (False, True):
            run: dict[str, Any] = {"preset": preset, "compile": compiled, "batch": 256}
            for micro_batch in (256, 128, 64):
                model = recipe(preset, precision="bfloat16", compile=compiled, batch=256)
                optimiser = model.optimiser.model_copy(update={"micro_batch": micro_batch})
                model = model.model_copy(update={"optimiser": optimiser})
                try:
                    with out_of_memory_is_clear(optimiser, Ranks(0, 1, device)):
                        torch.cuda.reset_peak_memory_stats()
                        steps = our_steps(trainset, model, device, folder)
                        speed(steps, GPU_WARMUP, torch.cuda.synchronize)
                        rate = speed(steps, GPU_STEPS, torch.cuda.synchronize)
                except UserError as error:
                    run["out_of_memory"] = str(error)
                    torch.cuda.empty_cache()
                    continue
                flops = training_flops(build_network(model, 3 if preset == "paper" else 2))
                run |= {
                    "micro_batch": micro_batch,
                    "images_per_s": round(rate, 1),
                    "mfu": round(rate * flops / peak, 4) if peak else None,
                    "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
                }
                break
            print(f"gpu: {run}", flush=True)
            runs.append(run)
    return {"target_mfu_on_an_h200": TARGETS["mfu_on_an_h200"], "runs": runs}


def processor() -> str:
    """Return the name of the processor, and whether it multiplies bfloat16 tiles (AMX)."""
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
    return f"{names[0] if names else platform.machine()}{', AMX' if 'amx_bf16' in text else ''}"


def stamped(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures with the date, the machine and the versions."""
    machine: dict[str, Any] = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
    }
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        },
        **figures,
    }


def figures_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the figures that stand on the page of benchmarks."""
    found = []

    def add(part: str, what: str, value: Any, target: str = "") -> None:
        machine = record[part]["machine"]
        where = machine["gpu"] if part == "gpu" else f"{machine['processor']}, 1 thread"
        date = record[part]["date"]
        found.append(
            {"what": what, "value": value, "target": target, "date": date, "machine": where}
        )

    for precision in ("float32", "bfloat16") if "cpu" in record else ():
        ratio, target = record["cpu"][precision]["ratio"], TARGETS["ratio_to_a_plain_loop"]
        add("cpu", f"steps, `tiny`, {precision}: ours over a plain loop", ratio, f"≥ {target}")
    if "cpu" in record:
        add("cpu", "ours in bfloat16 over float32", record["cpu"]["bfloat16_over_float32"])
    for whose in ("ours", "plain") if "data" in record else ():
        add("data", f"crops a second, data alone: {whose}", record["data"][f"{whose}_crops_per_s"])
    for run in record.get("gpu", {}).get("runs", []):
        name = f"`{run['preset']}`, batch {run['batch']}{', compiled' if run['compile'] else ''}"
        for key, target in (("images_per_s", ""), ("mfu", f"≥ {TARGETS['mfu_on_an_h200']}")):
            add("gpu", f"{name}: {key}", run.get(key, "out of memory"), target)
    if not record.get("gpu", {}).get("runs"):
        found.append({"what": "GPU: images a second and MFU", "value": "not measured"})
    return found


def main() -> None:
    """Measure the parts named on the command line, and keep what was measured before."""
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {"cpu": cpu, "data": data, "gpu": gpu}
    wanted = sys.argv[1:] or list(parts)
    record = json.loads(OUT.read_text()) if OUT.exists() else {}
    record["claim"] = (
        "how fast training is; wanted are 1.3 times a plain loop on a CPU, and 40 % of the peak of "
        "an H200"
    )
    for name in wanted:
        if name == "gpu" and not torch.cuda.is_available():
            print("gpu: no GPU can be seen here, so nothing is measured", flush=True)
            record.setdefault("gpu", {"measured": False, "why": "no GPU was to be had"})
            continue
        with tempfile.TemporaryDirectory() as folder:
            record[name] = stamped(parts[name](Path(folder)))
    record["figures"] = figures_of(record)
    OUT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
