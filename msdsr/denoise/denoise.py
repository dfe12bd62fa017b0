"""The denoise stage: one contract, whoever denoises."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zarr

from msdsr.config import DenoiseConfig
from msdsr.denoise.rscd import Rscd, denoise_volume
from msdsr.errors import UserError
from msdsr.manifest import Manifest, identity
from msdsr.volume import Work, read_spec
from msdsr.volume.store import NAMESPACE, volume_counts

ALGORITHM = 1

Denoiser = Callable[[Path, Path], None]
"""Reads the store at the first path and leaves a finished store at the second, in the work folder.

It must keep shape, dtype, spacing and channel names; that is checked before anything is published.
"""


def denoise(
    volume: str | Path,
    out: str | Path,
    work: str | Path,
    *,
    settings: DenoiseConfig,
    prior: str | Path | None = None,
    calibrator: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Manifest:
    """Hand a volume to a denoiser and publish what comes back.

    Parameters
    ----------
    volume
        The ingested store.
    out
        The store to publish; its manifest stands beside it.
    work
        Work folder, on the file system of ``out``.
    settings
        Who denoises. Mode ``none`` passes the acquired values on unchanged, and says so; mode
        ``rscd`` changes them, and says so.
    prior, calibrator
        Folders of the models of mode ``rscd``.
    seed
        The result of mode ``rscd`` is a function of it.
    device
        ``auto``, ``cpu`` or ``cuda``, for mode ``rscd``.

    Raises
    ------
    UserError
        When there is no such volume, a model is missing or does not suit, or what came back has
        another geometry.
    """
    volume, out = Path(volume), Path(out)
    spec = read_spec(volume)
    inputs = {"raw": identity(volume)}
    # Settings of a denoiser that is not at work change nothing.
    used = None if settings.mode == "rscd" else {"mode"}
    values = settings.model_dump(mode="json", include=used)
    rscd = None
    if settings.mode == "rscd":
        rscd = Rscd.load(prior, calibrator, settings, seed, device)
        inputs["prior"] = rscd.prior.weights_sha256
        inputs["calibrator"] = rscd.calibrator.weights_sha256
    plan: dict[str, Any] = {
        "stage": "denoise",
        "algorithm": ALGORITHM,
        "inputs": inputs,
        "settings": values,
    }
    if rscd is not None:
        plan["seed"] = seed
    with Work(work, plan) as job:
        store, told = job.path / out.name, {}
        if rscd is not None:
            told = denoise_volume(volume, store, job, rscd)
        elif "denoised" not in job.done():
            shutil.rmtree(store, ignore_errors=True)
            DENOISERS[settings.mode](volume, store)
        check_handoff(volume, store)
        _stamp(store, settings.mode)
        if "denoised" not in job.done():
            job.record("denoised")
        return job.publish_product(
            store,
            out,
            Manifest(
                stage="denoise",
                algorithm=ALGORITHM,
                inputs=inputs,
                settings=values,
                seed=None if rscd is None else seed,
                device="cpu" if rscd is None else str(rscd.prior.device),
                counts={**volume_counts(spec), **told},
            ),
        )


def check_handoff(source: Path, target: Path) -> None:
    """Refuse a denoised store that is not the source's twin in all but its values.

    Raises
    ------
    UserError
        Names the first of shape, dtype, spacing and channels that differs.
    """
    before, after = read_spec(source), read_spec(target)
    for name in ("shape", "dtype", "voxel", "channels", "stacked"):
        expected, found = getattr(before, name), getattr(after, name)
        if expected != found:
            raise UserError(
                target,
                f"the denoiser returned {name} {found}",
                str(expected),
                "make it write the geometry it was given",
            )


def pass_on(source: Path, target: Path) -> None:
    """Give every voxel on unchanged: data files are hard links where the file system has them."""
    shutil.copytree(
        source,
        target,
        copy_function=_link_or_copy,
        ignore=shutil.ignore_patterns(".snakemake_timestamp"),
    )


def _link_or_copy(source: str, target: str) -> None:
    if Path(source).name == "zarr.json":
        # Metadata is stamped below; a link would stamp the source too.
        shutil.copy2(source, target)
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _stamp(store: Path, mode: str) -> None:
    group = zarr.open_group(store, mode="r+")
    before = dict(group.attrs).get(NAMESPACE, {})
    kept = dict(before) if isinstance(before, dict) else {}
    stamp = {**kept, "stage": "denoise", "algorithm": ALGORITHM, "denoiser": mode}
    group.update_attributes({NAMESPACE: stamp})


DENOISERS: dict[str, Denoiser] = {"none": pass_on}
