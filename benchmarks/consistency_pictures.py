"""Pictures of docs/explanation/sampler.md from the volumes that benchmarks/consistency.py kept.

python benchmarks/consistency_pictures.py [--results results]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import beds
import matplotlib as mpl
import numpy as np
import sampler_page
from consistency import CACHE, INTERPOLATIONS
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from msdsr.volume.colour import Window, to_rgb8
from msdsr.volume.interpolate import interpolate

PICTURES = beds.REPOSITORY / "docs/pictures"
SHOWN = {
    "nearest": "nearest",
    "linear": "linear",
    "xz-200": "xz\n200",
    "average-200": "average\n200 + 200",
    "joint-12": "joint\n12 + 12",
    "alternate-20": "alternate\n20\n(default)",
    "alternate-12-k0.5l2": "alternate\n12, k = 0.5",
    "truth": "every plane\nimaged",
}
CURVES = {
    ("average", 0.0): ("average", "#888888", "o"),
    ("joint", 0.0): ("joint", "#c77700", "s"),
    ("alternate", 0.0): ("alternate", "#0a6ebd", "^"),
    ("alternate", 0.5): ("alternate, k = 0.5", "#3a9a5b", "v"),
}


def volume(bed: beds.Bed, way: str, factor: int, which: int) -> NDArray[Any]:
    """Return one restored specimen."""
    specimen = bed.specimens[which]
    if way == "truth":
        return specimen.imaged
    if way in INTERPOLATIONS:
        return interpolate(specimen.imaged[:, ::factor], factor, way)  # type: ignore[arg-type]
    if way.startswith("average"):
        parts = [volume(bed, way.replace("average", p), factor, which) for p in ("xz", "yz")]
        mean: NDArray[Any] = np.mean(parts, axis=0)
        return np.rint(mean).astype(specimen.imaged.dtype)
    with np.load(CACHE / bed.name / "volumes" / f"{factor}x-{way}.npz") as file:
        found: NDArray[Any] = file["volumes"][which]
        return found


def _is_there(bed: beds.Bed, way: str, factor: int) -> bool:
    if way == "truth" or way in INTERPOLATIONS:
        return True
    parts = [way.replace("average", p) for p in ("xz", "yz")] if way.startswith("av") else [way]
    return all((CACHE / bed.name / "volumes" / f"{factor}x-{p}.npz").exists() for p in parts)


def slices(bed: beds.Bed, factor: int, which: int, window: Window) -> plt.Figure:
    """Draw XY, XZ and YZ slices of one specimen, one row a way."""
    shown = {way: label for way, label in SHOWN.items() if _is_there(bed, way, factor)}
    z = factor * (beds.PLANES // 2 // factor) + factor // 2
    y = x = beds.SIDE // 2
    figure, axes = plt.subplots(
        len(shown), 3, figsize=(5.0, 1.4 * len(shown) + 0.35), layout="constrained"
    )
    for row, (way, label) in zip(axes, shown.items(), strict=True):
        voxels = volume(bed, way, factor, which)
        rgb = to_rgb8(voxels, bed.channels, window)
        for cell, picture in zip(row, (rgb[:, z], rgb[:, :, y], rgb[:, :, :, x]), strict=True):
            cell.imshow(picture.transpose(1, 2, 0), interpolation="nearest")
            cell.set_xticks([])
            cell.set_yticks([])
        for cell in row[1:]:
            marks = [] if way == "truth" else list(range(0, beds.PLANES, factor))
            cell.set_yticks(marks, [""] * len(marks))
            cell.tick_params(axis="y", length=3, width=0.8, color="#d02020")
        row[0].set_ylabel(label, fontsize=8, rotation=0, ha="right", va="center")
    heads = (
        f"XY, not acquired\n(z = {z})",
        "XZ, red marks:\nacquired planes",
        "YZ, red marks:\nacquired planes",
    )
    for cell, head in zip(axes[0], heads, strict=True):
        cell.set_title(head, fontsize=8)
    return figure


def curve() -> plt.Figure:
    """Draw SliceFID over evaluations a voxel, one panel a factor."""
    rows = [r for r in sampler_page.read("consistency.csv") if r["bed"] == "phantom"]
    factors = sorted({r["factor"] for r in rows})
    figure, panels = plt.subplots(1, len(factors), figsize=(8.4, 3.0), layout="constrained")
    for panel, factor in zip(np.atleast_1d(panels), factors, strict=True):
        here = [r for r in rows if r["factor"] == factor]
        for (mode, strength), (label, colour, marker) in CURVES.items():
            points = sorted(
                (int(r["evaluations"]), float(r["SliceFID"]))
                for r in here
                if r["mode"] == mode and float(r["noise_strength"]) == strength
            )
            if points:
                panel.plot(
                    *zip(*points, strict=True), marker=marker, ms=4, color=colour, label=label
                )
        for mode, style in (("linear", ":"), ("truth", "--")):
            level = next((float(r["SliceFID"]) for r in here if r["mode"] == mode), None)
            if level is None:
                continue
            panel.axhline(level, ls=style, color="black", lw=0.8)
            name = "every plane imaged" if mode == "truth" else mode
            panel.text(400, level, name, fontsize=7, ha="right", va="bottom")
        panel.set_xscale("log")
        panel.set_title(f"{factor}×", fontsize=9)
        panel.set_xlabel("evaluations a voxel", fontsize=8)
        panel.tick_params(labelsize=7)
    np.atleast_1d(panels)[0].set_ylabel("SliceFID", fontsize=8)
    np.atleast_1d(panels)[0].legend(fontsize=7, frameon=False, loc=(0.4, 0.6))
    return figure


def save(figure: plt.Figure, name: str) -> None:
    """Write a PNG without a date inside, so that the same picture is the same file."""
    path = PICTURES / name
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)
    print(f"{path} {path.stat().st_size // 1000} kB")


def main() -> None:
    """Draw what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=beds.REPOSITORY / "results")
    results: Path = parser.parse_args().results
    mpl.use("Agg")
    rows = sampler_page.read("consistency.csv")
    for name, which in (("phantom", 0), ("blastocyst", 1)):
        bed = beds.named(name, results)
        there = [r for r in rows if r["bed"] == bed.name]
        window = beds.real_images(bed, lambda pictures: np.zeros((2, 1), np.float32)).window
        for factor in sorted({int(r["factor"]) for r in there}):
            save(slices(bed, factor, which, window), f"sampler-{bed.name}-{factor}x.png")
    save(curve(), "sampler-curve.png")


if __name__ == "__main__":
    main()
