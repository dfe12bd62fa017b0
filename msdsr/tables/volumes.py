"""Tables 3 and 4: the volumes of one model restored in other ways, and their slices."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from msdsr.arguments import SlideFiles
from msdsr.config import EvaluateConfig, SuperresolveConfig
from msdsr.errors import UserError
from msdsr.evaluate import evaluate_cohort, evaluate_slide
from msdsr.manifest import Manifest, fingerprint, identity, write_manifest, write_text_atomically
from msdsr.superresolve import superresolve
from msdsr.tables.source import TableSource
from msdsr.volume import create_store, open_volume, read_spec
from msdsr.volume.blur import HALO, gaussian3
from msdsr.volume.interpolate import to_dtype
from msdsr.volume.store import replace_path

ALGORITHM = 1
BLURRED = "_blur"
MODES = {"xz": "MSDSR-XZ", "yz": "MSDSR-YZ", "average": "MSDSR average (Eq. 9)"}
"""Ways of the paper's ablation, beside the one that the configuration chooses."""


def ways_of(settings: SuperresolveConfig) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the ways to restore: name in files, name in tables, and the changed settings.

    Samples and blur of the configuration are left aside, so that ways differ in one thing.
    """
    plain = {"samples": 1, "blur": "none"}
    ways = {f"msdsr-{mode}": (name, plain | {"mode": mode}) for mode, name in MODES.items()}
    if settings.mode not in MODES:
        ways[f"msdsr-{settings.mode}"] = (f"MSDSR {settings.mode} (configured)", plain)
    return ways


def ablation(source: TableSource, *, blur: bool) -> Path:
    """Restore and judge every slide of a cohort in all ways; return the folder of the metrics.

    What was made earlier, from the same inputs and settings, is not made again; a run that was
    killed goes on where it was.

    Parameters
    ----------
    source
        The cohort.
    blur
        Judge blurred volumes too.
    """
    real = source.real
    slides, factors = source.slides("infer"), source.factors()
    changes = {
        "baselines": [],
        "crop": real.crop,
        "protocols": [source.protocol],
        "rescalings": ["window"],
        "bootstrap": 0,
    }
    settings = source.config.evaluate.model_copy(update=changes)
    judged: list[Path] = []
    for files in slides:
        for factor in factors:
            stores = _restored(source, files, factor)
            if blur:
                stores |= _blurred(stores)
            judged.append(_judged(source, files, factor, stores, settings, blur=blur))
    out = source.folder / f"metrics_{source.protocol}{BLURRED if blur else ''}"

    def merge() -> None:
        evaluate_cohort(judged, source.reference, out, cohort=source.cohort, settings=settings)

    inputs = {str(path): identity(path) for path in judged}
    _once(out, inputs | {"reference": identity(source.reference)}, merge)
    return out


def _restored(source: TableSource, files: SlideFiles, factor: int) -> dict[str, Path]:
    """Return the store of each way of one slide at one factor."""
    model = source.model("msdsr")
    if model is None:
        raise UserError(f"cohorts.{source.cohort}.model", "none", "the model to restore with")
    seed = source.config.seed
    stores = {}
    for way, (_, changes) in ways_of(source.config.superresolve).items():
        settings = source.config.superresolve.model_copy(update=changes)
        store = _folder(source, files) / f"{way}_{factor}x.ome.zarr"

        def restore(store: Path = store, settings: SuperresolveConfig = settings) -> None:
            superresolve(
                files.volume,
                store,
                _work(source, files, store.name.removesuffix(".ome.zarr")),
                method="msdsr",
                factor=factor,
                settings=settings,
                model=model,
                seed=seed,
                device=source.device,
                patches=files.patches,
            )

        inputs = {
            "volume": identity(files.volume),
            "patches": identity(files.patches),
            "model": json.loads((model / "msdsr.json").read_text())["weights_sha256"],
            "settings": settings.model_dump(mode="json"),
            "seed": seed,
            "factor": factor,
        }
        _once(store, inputs, restore)
        stores[way] = store
    return stores


def _blurred(stores: Mapping[str, Path]) -> dict[str, Path]:
    """Return the blurred store of each way."""
    found = {}
    for way, sharp in stores.items():
        factor = sharp.name.removeprefix(way)
        store = sharp.with_name(f"{way}{BLURRED}{factor}")
        _once(store, {"sharp": identity(sharp)}, partial(blur_store, sharp, store))
        found[f"{way}{BLURRED}"] = store
    return found


def blur_store(sharp: Path, out: Path) -> None:
    """Blur the new planes of a superresolved store, as `superresolve.blur: gaussian3` does.

    Parameters
    ----------
    sharp
        Store whose provenance lists its acquired planes; they stay bit for bit.
    out
        Store to publish, with its manifest.
    """
    spec, volume = read_spec(sharp), open_volume(sharp)
    acquired = list(volume.attrs["msdsr"]["acquired_planes"])
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    writer = create_store(unfinished, spec, shard_mb=64.0)
    _, _, rows, columns = spec.shape
    for region in writer.grid:
        outer = region.with_halo(HALO, rows, columns)
        voxels = np.asarray(volume.data[(slice(None), *outer.slices)])
        blurred = to_dtype(gaussian3(voxels), voxels.dtype)
        blurred[:, acquired] = voxels[:, acquired]
        writer.write(region, blurred[(slice(None), *region.inside(outer))])
    writer.finish()
    replace_path(unfinished, out)
    write_manifest(
        out, Manifest(stage="tables", algorithm=ALGORITHM, inputs={"sharp": identity(sharp)})
    )


def _judged(
    source: TableSource,
    files: SlideFiles,
    factor: int,
    stores: Mapping[str, Path],
    settings: EvaluateConfig,
    *,
    blur: bool,
) -> Path:
    """Return the folder of one slide's metrics at one factor."""
    name = f"metrics_{source.protocol}{BLURRED if blur else ''}_{factor}x"
    out = _folder(source, files) / name

    def judge() -> None:
        evaluate_slide(
            files.volume,
            stores,
            out,
            _work(source, files, name),
            slide=files.slide,
            patient=files.patient,
            factor=factor,
            truth=None,
            patches=files.patches,
            reference=source.reference,
            inception=source.inception,
            settings=settings,
            seed=source.config.seed,
            device=source.device,
        )

    inputs = {way: identity(store) for way, store in stores.items()} | {
        "reference": identity(source.reference),
        "settings": settings.model_dump(mode="json"),
    }
    _once(out, inputs, judge)
    return out


def _folder(source: TableSource, files: SlideFiles) -> Path:
    return source.folder / "slides" / files.slide


def _work(source: TableSource, files: SlideFiles, name: str) -> Path:
    return source.results / ".work" / source.cohort / "tables" / files.slide / name


def _once(product: Path, inputs: Mapping[str, Any], make: Callable[[], None]) -> None:
    """Make a product, unless it is there and was made from these inputs."""
    note = product.with_name(f".{product.name}.inputs")
    wanted = fingerprint({"algorithm": ALGORITHM, **inputs})
    if product.exists() and note.exists() and note.read_text(encoding="utf-8").strip() == wanted:
        return
    note.unlink(missing_ok=True)
    product.parent.mkdir(parents=True, exist_ok=True)
    make()
    write_text_atomically(note, wanted + "\n")


def read_slicefid(folder: Path, rescaling: str, protocol: str) -> pd.DataFrame:
    """Return the FID rows of a cohort's ``slicefid.csv`` under one protocol.

    Raises
    ------
    UserError
        When the cohort was not evaluated under it.
    """
    path = folder / "slicefid.csv"
    table = pd.read_csv(path)
    if "protocol" not in table:  # made by an earlier version, which had the one protocol
        table = table.assign(protocol="v2", rescaling="window")
    found = table[
        (table["metric"] == "FID")
        & (table["protocol"] == protocol)
        & (table["rescaling"] == rescaling)
    ]
    if found.empty:
        known = sorted({f"{p}" for p in table["protocol"]})
        raise UserError(
            path,
            f"no FID under protocol {protocol}, only {', '.join(known) or 'none'}",
            "a cohort that was evaluated under it",
            "choose another --protocol, or evaluate the cohort again with evaluate.protocols",
        )
    return found
