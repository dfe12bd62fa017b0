"""One slide at one factor: features of its slices, and scores against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msdsr.config import EvaluateConfig
from msdsr.errors import UserError
from msdsr.evaluate.cache import Cache, publish_link
from msdsr.evaluate.candidates import Candidates, open_candidates
from msdsr.evaluate.checks import Checks
from msdsr.evaluate.extract import Extractor
from msdsr.evaluate.features import DAMAGED, FEATURES, Features, different, features_file
from msdsr.evaluate.heldout import open_held
from msdsr.evaluate.paired import paired_scores
from msdsr.evaluate.reference import Reference, require_pixel_size
from msdsr.evaluate.slices import spread_crops
from msdsr.evaluate.sources import Source
from msdsr.evaluate.spectra import spectral_values
from msdsr.evaluate.views import Show, View, corners, count, places, views
from msdsr.manifest import Manifest, fingerprint, identity, manifest_path
from msdsr.metrics.inception import Inception
from msdsr.progress import progress
from msdsr.volume import Region, Work, keep_every, read_spec
from msdsr.volume.tissue import tissue_mask

ALGORITHM = 2
SCORES = 1
"""Raised when the scores against a truth would differ: none in the cache are used then."""

ACQUIRED, TRUTH = "acquired", "truth"
"""Names under which real planes and the true volume stand beside the methods."""

PAIRED_COLUMNS = [
    "slide", "patient", "factor", "method", "plane", "channel", "metric", "value", "n"
]  # fmt: skip
SPECTRA_COLUMNS = [
    "slide", "patient", "factor", "method", "axis", "quantity", "frequency", "value", "n"
]  # fmt: skip


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
        Folder to publish: ``features-<method>-<protocol>-<rescaling>.npz`` (see `Features`),
        ``paired.csv`` and ``spectra.csv``; its manifest stands beside it.
    work
        Work folder on the same file system. What is found of a method is kept beside it
        (``<work>.cache``, see `Cache`): a killed run goes on after its last finished set of
        crops, and a later one does only what is new.
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
        "settings": settings.model_dump(mode="json", exclude={"inception", "bootstrap"}),
        "seed": seed,
        "factor": factor,
        "slide": slide,
        "patient": patient,
    }
    with Work(work, plan) as folder:
        cache = Cache(folder.path.with_name(f"{folder.path.name}.cache"))
        found = open_candidates(Path(acquired), volumes, truth, factor, settings)
        spec = read_spec(acquired)
        mask = tissue_mask(patches, (spec.shape[2], spec.shape[3])) if patches else None
        product = folder.path / "metrics"
        product.mkdir(exist_ok=True)
        origin = _origins(inputs, found, truth, factor)
        task = _Task(found, real, settings, cache, origin, mask, seed, slide)
        images = _features(task, product, network)
        who = {"slide": slide, "patient": patient, "factor": factor}
        spacing = (spec.voxel.z * keep_every(factor, spec.voxel) / factor, *real.pixel_um)
        paired, spectra = _against_truth(task, spacing)
        pd.DataFrame([who | row for row in paired], columns=PAIRED_COLUMNS).to_csv(
            product / "paired.csv", index=False
        )
        pd.DataFrame([who | row for row in spectra], columns=SPECTRA_COLUMNS).to_csv(
            product / "spectra.csv", index=False
        )
        table_of = None if patches is None else Path(patches)
        held = open_held(Path(acquired), volumes, tests, factor, settings, table_of)
        checks = Checks(found, held, volumes, spec.channels, real.peaks, mask, settings)
        said = checks.write(folder, product, who)
        if not any(n for of_view in images.values() for m in of_view.values() for n in m.values()):
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
            measured={"pictures_shown": network.shown},
            warnings=found.warnings,
        )
        published = folder.publish_product(product, Path(out), manifest)
        cache.forget_unused()
        return published


@dataclass(frozen=True)
class _Task:
    """What there is to do for one slide at one factor."""

    found: Candidates
    real: Reference
    settings: EvaluateConfig
    cache: Cache
    origin: Mapping[str, Mapping[str, Any]]
    mask: NDArray[np.bool_] | None
    seed: int
    slide: str


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


def _origins(
    inputs: Mapping[str, str], found: Candidates, truth: str | Path | None, factor: int
) -> dict[str, dict[str, Any]]:
    """Return what the voxels of each volume depend on, for the cache."""
    origin: dict[str, dict[str, Any]] = {ACQUIRED: {"store": inputs["acquired"]}}
    for name in found.methods:
        stored = inputs.get(f"restored {name}")
        origin[name] = (
            {"store": stored}
            if stored
            else {"interpolation": name, "of": inputs["acquired"], "factor": factor}
        )
    if truth:
        origin[TRUTH] = {"store": inputs["truth"], "factor": factor}
        if not manifest_path(truth).exists():
            # No record says what is in it, so its files must look untouched.
            files = sorted(p for p in Path(truth).rglob("*") if p.is_file())
            stats = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
            origin[TRUTH]["files"] = fingerprint({"files": stats})
    return origin


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
    task: _Task, product: Path, network: Inception
) -> dict[str, dict[str, dict[str, int]]]:
    """Write the features of every method and view; return how many images each plane has."""
    found, settings, real = task.found, task.settings, task.real
    jobs: list[tuple[str, View, Source, dict[str, list[Region]]]] = []
    for view in views(settings):
        options: dict[str, Any] = {"seed": task.seed, "name": task.slide}
        by_plane = places(
            view, found.shape_zyx, found.generated, settings, tissue=task.mask, **options
        )
        side, most = settings.crop, settings.max_images
        flat = spread_crops("XY", found.acquired.shape_zyx, side, most, tissue=task.mask, **options)
        jobs.append((ACQUIRED, view, found.acquired, {"XY": flat}))
        jobs += [(name, view, source, by_plane) for name, source in found.methods.items()]
        if found.truth is not None:
            jobs.append((TRUTH, view, found.truth, by_plane))
    kept = {
        (name, view): task.cache.path(_facts(task, network, name, view, where), ".npz")
        for name, view, _, where in jobs
    }
    total = sum(sum(count(where).values()) for *_, where in jobs)
    with progress(f"evaluate {task.slide}", total, "images") as bar:
        extract = Extractor(network, bar)
        known = {key: _known(path) for key, path in kept.items()}
        for earlier in known.values():
            if earlier is not None:
                extract.remember(earlier.key_list(), earlier.pictures)
        for name, view, source, where in jobs:
            path = kept[name, view]
            if known[name, view] is None:
                show = Show(view.rescaling, real.channels, real.window)
                keys = extract(source, where, show)
                rows = extract.rows(different(keys))
                generated = None if name == ACQUIRED else found.generated
                Features.of(keys, rows, where, generated).save(path)
            else:
                bar.advance(sum(count(where).values()))
            publish_link(path, product / features_file(name, view))
    images: dict[str, dict[str, dict[str, int]]] = {}
    for name, view, _, where in jobs:
        images.setdefault(name, {})[view.name] = count(where)
    return images


def _facts(
    task: _Task, network: Inception, name: str, view: View, where: Mapping[str, list[Region]]
) -> dict[str, Any]:
    """Return all that the features of one method and view depend on."""
    planes = {plane: corners(regions).tolist() for plane, regions in where.items()}
    acquired = [] if name == ACQUIRED else np.flatnonzero(~task.found.generated).tolist()
    return {
        "features": FEATURES,
        "inception": network.sha256,
        "volume": task.origin[name],
        "places": fingerprint({"planes": planes, "acquired": acquired}),
        "shown": Show(view.rescaling, task.real.channels, task.real.window).facts(),
    }


def _known(path: Path) -> Features | None:
    try:
        return Features.load(path)
    except DAMAGED:
        return None


def _against_truth(
    task: _Task, spacing_um: tuple[float, float, float]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of scores against the truth, and of spectra, of each method."""
    truth = task.found.truth
    if truth is None:
        return [], []
    facts = {
        "scores": SCORES,
        "truth": task.origin[TRUTH],
        "generated": np.flatnonzero(task.found.generated).tolist(),
        "peaks": task.real.peaks,
        "count": task.settings.max_images,
        "tissue": None if task.mask is None else fingerprint({"mask": task.mask.tobytes().hex()}),
    }
    paired: list[dict[str, Any]] = []
    spectra: list[dict[str, Any]] = []
    with progress(f"evaluate {task.slide}: scores", len(task.found.methods), "methods") as bar:
        for name, source in task.found.methods.items():
            own = facts | {"volume": task.origin[name]}
            kept = task.cache.read(own)
            if kept is None:
                kept = _scores(task, source, truth, spacing_um)
                task.cache.write(own, kept)
            paired += [{"method": name, **row} for row in kept["paired"]]
            spectra += [{"method": name, **row} for row in kept["spectra"]]
            bar.advance()
    return paired, spectra


def _scores(
    task: _Task, source: Source, truth: Source, spacing_um: tuple[float, float, float]
) -> dict[str, list[dict[str, Any]]]:
    scores = paired_scores(
        source,
        truth,
        task.found.generated,
        task.real.peaks,
        task.settings.max_images,
        task.real.channels,
        task.mask,
    )
    curves = spectral_values(source, truth, spacing_um, task.mask)
    return {"paired": [asdict(s) for s in scores], "spectra": [asdict(c) for c in curves]}
