"""One slide at one factor: features of its slices, and scores against the truth."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msdsr.config import EvaluateConfig
from msdsr.errors import UserError
from msdsr.evaluate.candidates import Candidates, open_candidates
from msdsr.evaluate.checks import Checks
from msdsr.evaluate.extract import Extractor
from msdsr.evaluate.heldout import open_held
from msdsr.evaluate.paired import paired_scores
from msdsr.evaluate.reference import Reference, require_pixel_size
from msdsr.evaluate.slices import GENERATED, PLANES, spread_crops
from msdsr.evaluate.sources import Source
from msdsr.manifest import Manifest, fingerprint, identity, manifest_path
from msdsr.metrics.inception import Inception
from msdsr.progress import progress
from msdsr.volume import Region, Work, keep_every, read_spec
from msdsr.volume.tissue import tissue_mask

ALGORITHM = 2
ACQUIRED, TRUTH = "acquired", "truth"
"""Names under which real planes and the true volume stand beside the methods."""


def evaluate_slide(
    acquired: str | Path,
    restored: Mapping[str, str | Path],
    out: str | Path,
    work: str | Path,
    *,
    slide: str,
    patient: str,
    factor: int,
    truth: str | Path | None,
    patches: str | Path | None,
    reference: str | Path,
    inception: str | Path,
    settings: EvaluateConfig,
    seed: int,
    device: str = "auto",
    heldout: Mapping[str, str | Path] | None = None,
) -> Manifest:
    """Judge the restored volumes of one slide at one factor.

    Parameters
    ----------
    acquired
        The volume that was restored (denoised.ome.zarr).
    restored
        From a method's name to its store at this factor. The baselines of ``settings`` are made
        on the fly.
    out
        Folder to publish: ``features-<method>.npz`` (see `Features`) and ``paired.csv``; its
        manifest stands beside it.
    work
        Work folder on the same file system; a killed run goes on after its last finished method.
    slide, patient
        Who this is.
    factor
        The super-resolution factor.
    truth
        Store of the isotropic truth, if there is one; its own slices are scored as ``truth``.
    patches
        Patch manifest of the slide: crops are cut from tissue alone. None: anywhere.
    reference
        ``reference.npz`` of the cohort.
    inception
        The Inception network.
    settings
        Section ``evaluate``.
    seed
        Seed of the places.
    device
        ``cpu``, ``cuda`` or ``auto``.
    heldout
        From the name of a method with a network to the store of its held-out planes
        (``superresolve --held-out``), where the factor takes all planes.

    Raises
    ------
    UserError
        Volumes that do not fit each other, the factor or the reference.
    """
    real = Reference.load(reference)
    volumes = {name: Path(path) for name, path in restored.items()}
    tests = {name: Path(path) for name, path in (heldout or {}).items()}
    _fits_reference(Path(acquired), real, settings)
    network = Inception(inception, device)
    inputs = _inputs(Path(acquired), volumes, tests, truth, patches, reference)
    plan = {
        "stage": "evaluate",
        "algorithm": ALGORITHM,
        "inputs": inputs | {"inception": network.sha256},
        "settings": settings.model_dump(mode="json", exclude={"inception"}),
        "seed": seed,
        "factor": factor,
        "slide": slide,
        "patient": patient,
    }
    with Work(work, plan) as folder:
        found = open_candidates(Path(acquired), volumes, truth, factor, settings)
        spec = read_spec(acquired)
        mask = tissue_mask(patches, (spec.shape[2], spec.shape[3])) if patches else None
        product = folder.path / "metrics"
        product.mkdir(exist_ok=True)
        images = _features(folder, product, found, real, network, mask, settings, seed, slide)
        paired = _paired(folder, found, real, settings)
        table = [{"slide": slide, "patient": patient, "factor": factor, **row} for row in paired]
        columns = ["slide", "patient", "factor", "method", "plane", "metric", "value", "n"]
        pd.DataFrame(table, columns=columns).to_csv(product / "paired.csv", index=False)
        table_of = None if patches is None else Path(patches)
        held = open_held(Path(acquired), volumes, tests, factor, settings, table_of)
        checks = Checks(found, held, volumes, spec.channels, real.peaks, mask, settings)
        who = {"factor": factor, "slide": slide, "patient": patient}
        said = checks.write(folder, product, who)
        if not any(count for by_plane in images.values() for count in by_plane.values()):
            found.warnings.append("no crop of tissue fits into this slide")
        manifest = Manifest(
            stage="evaluate",
            algorithm=ALGORITHM,
            inputs=plan["inputs"],
            settings=plan["settings"],
            seed=seed,
            device=str(network.device),
            counts={
                "slide": slide,
                "patient": patient,
                "factor": factor,
                "kept_every": keep_every(factor, spec.voxel),
                "planes": len(found.generated),
                "generated_planes": int(found.generated.sum()),
                "images": images,
                "paired": bool(paired),
                **said,
            },
            warnings=found.warnings,
        )
        return folder.publish_product(product, Path(out), manifest)


def _inputs(
    acquired: Path,
    restored: Mapping[str, Path],
    heldout: Mapping[str, Path],
    truth: str | Path | None,
    patches: str | Path | None,
    reference: str | Path,
) -> dict[str, str]:
    inputs = {"acquired": identity(acquired), "reference": identity(reference)}
    inputs |= {f"restored {name}": identity(path) for name, path in restored.items()}
    inputs |= {f"held out {name}": identity(path) for name, path in heldout.items()}
    if patches:
        inputs["patches"] = identity(patches)
    if truth and manifest_path(truth).exists():
        inputs["truth"] = identity(truth)
    elif truth:
        # A truth that the user brought has no manifest.
        spec = read_spec(truth)
        inputs["truth"] = fingerprint(
            {"path": str(truth), "shape": spec.shape, "voxel": spec.voxel}
        )
    return inputs


def _fits_reference(acquired: Path, real: Reference, settings: EvaluateConfig) -> None:
    spec = read_spec(acquired)
    if spec.channels != real.channels:
        raise UserError(
            acquired,
            f"channels {','.join(spec.channels)}",
            f"{','.join(real.channels)}, as the real images have",
        )
    if real.crop != settings.crop:
        raise UserError(
            "evaluate.crop",
            f"{settings.crop} pixels, but the reference was made with {real.crop}",
            "one size for real and restored crops",
            "make the reference again",
        )
    require_pixel_size(acquired, (spec.voxel.y, spec.voxel.x), real.pixel_um)


def _features(
    folder: Work,
    product: Path,
    found: Candidates,
    real: Reference,
    network: Inception,
    mask: NDArray[np.bool_] | None,
    settings: EvaluateConfig,
    seed: int,
    slide: str,
) -> dict[str, dict[str, int]]:
    """Write the features of every method; return how many images each plane has."""
    options: dict[str, Any] = {"seed": seed, "name": slide, "tissue": mask}
    side, count = settings.crop, settings.max_images
    places = {
        p: spread_crops(p, found.shape_zyx, side, count, generated=found.generated, **options)
        for p in (*PLANES, GENERATED)
    }
    real_places = {"XY": spread_crops("XY", found.acquired.shape_zyx, side, count, **options)}
    jobs: list[tuple[str, Source, dict[str, list[Region]]]] = [
        (ACQUIRED, found.acquired, real_places),
        *((name, source, places) for name, source in found.methods.items()),
        *([(TRUTH, found.truth, places)] if found.truth is not None else []),
    ]
    total = sum(len(regions) for _, _, by_plane in jobs for regions in by_plane.values())
    done = {key: entry for key, entry in folder.done().items() if key.startswith("features-")}
    before = sum(sum(entry["images"].values()) for entry in done.values())
    with progress(f"evaluate {slide}", total, "images", before) as bar:
        extract = Extractor(network, real.channels, real.window, bar)
        for name, source, by_plane in jobs:
            file = product / f"features-{name}.npz"
            if file.name in done:
                with np.load(file) as earlier:
                    for plane, regions in by_plane.items():
                        extract.remember(source, plane, regions, earlier[plane])
            else:
                rows = {plane: extract(source, plane, r) for plane, r in by_plane.items()}
                generated = None if name == ACQUIRED else found.generated
                save_features(file, rows, by_plane, generated)
                images = {plane: len(regions) for plane, regions in by_plane.items()}
                folder.record(file.name, images=images)
    return {
        name: {plane: len(regions) for plane, regions in by_plane.items()}
        for name, _, by_plane in jobs
    }


def save_features(
    path: Path,
    rows: Mapping[str, NDArray[np.float32]],
    places: Mapping[str, list[Region]],
    generated: NDArray[np.bool_] | None,
) -> None:
    """Write one method's features of one slide.

    The npz holds, for each plane P: ``P`` (n, D) float32; ``P_places`` (n, 6) int32, the regions
    z0 z1 y0 y1 x0 x1; and for XY crops ``P_distance`` (n,) int32, how many planes they lie from
    the nearest acquired one.
    """
    arrays: dict[str, NDArray[Any]] = dict(rows)
    for plane, regions in places.items():
        corners = [(r.z0, r.z1, r.y0, r.y1, r.x0, r.x1) for r in regions]
        arrays[f"{plane}_places"] = np.array(corners, np.int32).reshape(-1, 6)
    for plane in {"XY", GENERATED} & places.keys():
        z = arrays[f"{plane}_places"][:, 0]
        acquired = z if generated is None else np.flatnonzero(~generated)
        distance = np.abs(z[:, None] - acquired).min(axis=1, initial=np.iinfo(np.int32).max)
        arrays[f"{plane}_distance"] = distance.astype(np.int32)
    with path.open("wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]
        handle.flush()
        os.fsync(handle.fileno())


def _paired(
    folder: Work, found: Candidates, real: Reference, settings: EvaluateConfig
) -> list[dict[str, Any]]:
    """Return the rows of scores against the truth, of each method."""
    if found.truth is None:
        return []
    for name, source in found.methods.items():
        if f"paired-{name}" not in folder.done():
            scores = paired_scores(
                source, found.truth, found.generated, real.peaks, settings.max_images
            )
            folder.record(f"paired-{name}", scores=[asdict(score) for score in scores])
    return [row for name in found.methods for row in _rows(name, folder.done())]


def _rows(name: str, done: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for score in done[f"paired-{name}"]["scores"]:
        yield {"method": name, **score}
