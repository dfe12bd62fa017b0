"""Many slides' images under one index: shards are linked, never written a second time."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from msdsr.config import TrainsetConfig
from msdsr.errors import UserError
from msdsr.manifest import Manifest, identity, manifest_path, read_manifest, write_manifest
from msdsr.progress import progress
from msdsr.trainset.index import IndexWriter
from msdsr.trainset.slide import (
    NOT_THERE,
    gather_slide,
    outdated,
    refuse_missing_channels,
    slide_inputs,
)
from msdsr.trainset.statistics import Histogram
from msdsr.trainset.store import create_images, link_shards, load_histogram
from msdsr.volume import Work, read_spec

ALGORITHM = 2
SPLITS = ("train", "val")
NAMED = 5
"""Slides that a warning names."""


@dataclass(frozen=True)
class TrainSlide:
    """A slide that teaches (``train``) or judges (``val``) a model.

    Attributes
    ----------
    slide, patient, split
        As in the sample sheet.
    volume, patches
        The denoised store and the patch table.
    cohort
        Slides of two cohorts may have one name.
    label
        The slide's class in the sample sheet; a listed image's own class comes before it.
    images
        Where the slide's images are, or are to be put (see `gather_slide`); left out, beside the
        volume.
    """

    slide: str
    patient: str
    split: str
    volume: Path
    patches: Path
    cohort: str = ""
    label: str = ""
    images: Path | None = None

    @property
    def key(self) -> str:
        """A name that no other slide has."""
        return f"{self.cohort}/{self.slide}" if self.cohort else self.slide

    @property
    def store(self) -> Path:
        """The store of the slide's images."""
        stem = self.volume.name.split(".")[0]
        return self.images or self.volume.with_name(f"{stem}_images.zarr")


def build_trainset(
    slides: Sequence[TrainSlide],
    out: str | Path,
    work: str | Path,
    *,
    channels: Sequence[str],
    settings: TrainsetConfig,
) -> Manifest:
    """Make a 2D training set from the images of many slides.

    Slides whose images are there already are not decoded again: their shards become the set's own
    by hard links. So a set that grows by a cohort writes that cohort's shards and no others.

    Parameters
    ----------
    slides
        Slides of the splits ``train`` and ``val``, in the order in which they are stored.
    out
        The store to publish, ``….zarr`` (Zarr v3): array ``images`` (N, C, size, size) in the
        slides' own dtype, zero where an image is smaller than ``size``. A slide begins with a
        shard of its own, so that numbers are left free between slides. Its index ``….parquet``
        (columns `INDEX_COLUMNS`; pixels, half-open from ``y0``, ``x0``) and its manifest
        ``….json`` stand beside it.
    work
        Work folder, on the same file system as ``out``.
    channels
        Names of the channels to keep, in this order.
    settings
        Section ``trainset`` of the configuration.

    Returns
    -------
    Manifest
        Its ``counts`` hold the images, patients, slides and classes of each split, the dtype, the
        channels, what was left out and why, and mean, σ and percentiles of each channel over the
        images of the training split.

    Raises
    ------
    UserError
        When a patient is in both splits, a channel is missing, the types of the pixels differ,
        nothing is left to train on, or another process is at it; see also `gather_slide`.
    """
    out = Path(out)
    refuse_leaks(slides)
    dtype = _refuse_differences(slides, channels)
    kept = [s for s in slides if not (s.label and s.label in settings.exclude_classes)]
    plan = {
        "stage": "trainset",
        "algorithm": ALGORITHM,
        "slides": [[s.key, s.patient, s.split, s.label, str(s.store)] for s in kept],
        "inputs": [slide_inputs(s.volume, s.patches) for s in kept],
        "channels": list(channels),
        "settings": settings.model_dump(mode="json"),
    }
    with Work(work, plan) as at:
        parts, decoded = _gather(kept, at, channels, settings)
        _tell_of_earlier(out, kept)
        store, table = at.path / out.name, at.path / f"{out.stem}.parquet"
        length = settings.shard_images
        shards = [math.ceil(part.counts["images"] / length) for part in parts]
        create_images(store, max(1, sum(shards)) * length, len(channels), dtype, settings)
        histogram = Histogram.empty(len(channels), dtype)
        first = 0
        with IndexWriter(table) as index:
            for slide, part, own in zip(kept, parts, shards, strict=True):
                link_shards(slide.store, store, first)
                index.add(_rows(slide, first * length, bool(part.counts["stacked"])))
                if slide.split == "train" and own:
                    histogram.merge(load_histogram(slide.store, dtype))
                first += own
        if not index.tally.images["train"]:
            raise _nothing(slides, settings)
        left_out = _left_out(slides, kept, parts)
        manifest = Manifest(
            stage="trainset",
            algorithm=ALGORITHM,
            inputs={s.key: identity(s.store) for s in kept},
            settings=settings.model_dump(mode="json"),
            counts={
                **index.tally.counts(),
                "dtype": str(dtype),
                "channels": list(channels),
                "left_out": {reason: sum(n.values()) for reason, n in left_out.items()},
                "statistics": {name: histogram.summary(c) for c, name in enumerate(channels)},
            },
            measured={"slides_decoded": decoded, "slides_linked": len(kept) - decoded},
            seconds=at.seconds(),
            warnings=_warnings(left_out, index.tally.images),
        )
        record = write_manifest(store, manifest)
        at.publish(
            {
                store: out,
                table: out.with_suffix(".parquet"),
                record: manifest_path(out),
            }
        )
    return manifest


def refuse_leaks(slides: Sequence[TrainSlide]) -> None:
    """Raise a `UserError` when a patient is in two splits, of whatever cohorts."""
    if not slides:
        raise UserError("trainset", "no slides", "at least one with the split `train`")
    splits: dict[str, TrainSlide] = {}
    keys: set[str] = set()
    for slide in slides:
        if slide.split not in SPLITS:
            raise UserError(
                slide.volume,
                f"slide {slide.slide!r} has the split {slide.split!r}",
                "train or val",
                "leave it out of the training set",
            )
        if slide.key in keys:
            raise UserError(slide.volume, f"slide {slide.key!r} stands twice", "each slide once")
        keys.add(slide.key)
        first = splits.setdefault(slide.patient, slide)
        if first.split != slide.split:
            raise UserError(
                slide.volume,
                f"patient {slide.patient!r} is in `{slide.split}` here and in `{first.split}` with "
                f"slide {first.key!r}",
                "one split a patient, in all cohorts",
                "move all slides of the patient to one split, or rename one of the two if they are "
                "different people",
            )


def _refuse_differences(
    slides: Sequence[TrainSlide], channels: Sequence[str]
) -> np.dtype[np.generic]:
    """Return the type that all slides have."""
    dtype: np.dtype[np.generic] | None = None
    for slide in slides:
        spec = read_spec(slide.volume)
        refuse_missing_channels(slide.volume, spec, channels)
        dtype = dtype or spec.dtype
        if spec.dtype != dtype:
            raise UserError(
                slide.volume,
                f"pixels of type {spec.dtype}",
                f"{dtype} as in {slides[0].volume}",
                "train on slides of one type",
            )
    if dtype is None:
        raise ValueError("no slides")
    return dtype


def _gather(
    slides: Sequence[TrainSlide], at: Work, channels: Sequence[str], settings: TrainsetConfig
) -> tuple[list[Manifest], int]:
    """Decode what is not there; return the manifest of each slide, and how many were decoded."""
    parts, decoded = [], 0
    with progress("trainset", total=len(slides), unit="slides") as bar:
        for number, slide in enumerate(slides):
            expected = slide_inputs(slide.volume, slide.patches)
            reason = outdated(slide.store, expected, channels, settings)
            if reason:
                decoded += 1
                if reason != NOT_THERE:
                    print(f"trainset: {slide.key} is decoded again: {reason}", file=sys.stderr)
                gather_slide(
                    slide.volume,
                    slide.patches,
                    slide.store,
                    at.path / f"slide-{number:06d}",
                    channels=channels,
                    settings=settings,
                )
            parts.append(read_manifest(slide.store))
            bar.advance()
    return parts, decoded


def _tell_of_earlier(out: Path, slides: Sequence[TrainSlide]) -> None:
    """Say in a line when the set does not go on from the one that is there."""
    if not manifest_path(out).exists():
        return
    earlier = list(read_manifest(out).inputs)
    now = [slide.key for slide in slides]
    gone = sorted(set(earlier) - set(now))
    if gone:
        why = f"{', '.join(gone[:NAMED])}{' …' if len(gone) > NAMED else ''} left out"
    elif earlier != now[: len(earlier)]:
        why = "slides stand in another order"
    else:
        return
    print(
        f"trainset: {out} is numbered anew, because {why}; no other slide is decoded again",
        file=sys.stderr,
    )


def _rows(slide: TrainSlide, first: int, stacked: bool) -> pd.DataFrame:
    table = pd.read_parquet(slide.store.with_suffix(".parquet"))
    table["image"] = np.arange(first, first + len(table), dtype=np.int64)
    for name in ("cohort", "slide", "patient", "split"):
        table[name] = getattr(slide, name)
    table["class"] = table["class"].where(table["class"] != "", slide.label)
    table["stacked"] = stacked
    return table


def _left_out(
    slides: Sequence[TrainSlide], kept: Sequence[TrainSlide], parts: Sequence[Manifest]
) -> dict[str, Counter[str]]:
    """Return, by reason, how many images of which slide were left out."""
    found: dict[str, Counter[str]] = {}
    for slide, part in zip(kept, parts, strict=True):
        for reason, images in part.counts["left_out"].items():
            found.setdefault(reason, Counter())[slide.key] += images
    keys = {slide.key for slide in kept}
    for slide in slides:
        if slide.key not in keys:
            found.setdefault(f"slides of class {slide.label}", Counter())[slide.key] += 1
    return dict(sorted(found.items()))


def _warnings(left_out: dict[str, Counter[str]], images: Counter[str]) -> list[str]:
    lines = []
    for reason, found in left_out.items():
        names = ", ".join(list(found)[:NAMED]) + (" …" if len(found) > NAMED else "")
        what = "" if reason.startswith("slides") else " images"
        lines.append(f"left out, {reason}: {sum(found.values())}{what} ({names})")
    if not images["val"]:
        lines.append("no validation images: give at least one patient the split `val`")
    return lines


def _nothing(slides: Sequence[TrainSlide], settings: TrainsetConfig) -> UserError:
    given = sorted({slide.split for slide in slides})
    return UserError(
        "trainset",
        f"no training image among {len(slides)} slides (splits: {', '.join(given)})",
        f"patches of at least {settings.min_side} pixels with a tissue fraction of at least "
        f"{settings.min_tissue_fraction} on slides with the split `train`",
        "check the splits, or lower trainset.min_tissue_fraction or trainset.min_side",
    )
