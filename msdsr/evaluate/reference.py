"""The real images that restored slices are compared with, and the window all are seen through."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from msdsr.config import EvaluateConfig
from msdsr.errors import UserError
from msdsr.evaluate.cache import Cache
from msdsr.evaluate.extract import Extractor
from msdsr.evaluate.features import DAMAGED, FEATURES, Features, different
from msdsr.evaluate.slices import spread_crops
from msdsr.evaluate.sources import Stored
from msdsr.evaluate.views import Show, corners, rescalings_of
from msdsr.manifest import Manifest, fingerprint, identity
from msdsr.metrics.inception import Inception
from msdsr.progress import Bar, progress
from msdsr.volume import Region, Work, open_volume, read_spec
from msdsr.volume.colour import Window, colours
from msdsr.volume.tissue import tissue_mask

ALGORITHM = 2
WINDOW_PIXELS = 20_000_000
"""Most pixels that the quantiles of the window are taken from."""


@dataclass(frozen=True)
class Reference:
    """Features of real XY crops, and how they were shown to Inception.

    Attributes
    ----------
    features
        By rescaling: (n, D) float32 (float16 on the disk, as those of the slides).
    slides, patients
        Names, and the patient of each slide.
    slide_of_row
        (n,) int32, which slide a crop is from.
    window, peaks
        Of the colours and of the raw channels, at quantiles of the crops (raw intensities).
    channels, pixel_um, crop
        Of the images: names, size of a pixel (y, x), side of a crop (pixels).
    """

    features: Mapping[str, NDArray[np.float32]]
    slides: tuple[str, ...]
    patients: tuple[str, ...]
    slide_of_row: NDArray[np.int32]
    window: Window
    peaks: tuple[float, ...]
    channels: tuple[str, ...]
    pixel_um: tuple[float, float]
    crop: int

    @property
    def images(self) -> int:
        """Number of crops."""
        return len(self.slide_of_row)

    def save(self, path: str | Path) -> None:
        """Write everything to one npz file."""
        features: dict[str, Any] = {
            f"features {k}": v.astype(np.float16) for k, v in self.features.items()
        }
        with Path(path).open("wb") as handle:
            np.savez(
                handle,
                slides=np.array(self.slides),
                patients=np.array(self.patients),
                slide_of_row=self.slide_of_row,
                window=np.array([self.window.low, self.window.high]),
                peaks=np.array(self.peaks),
                channels=np.array(self.channels),
                pixel_um=np.array(self.pixel_um),
                crop=np.array(self.crop),
                **features,
            )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            When the file is missing or damaged.
        """
        try:
            with Path(path).open("rb") as handle, np.load(handle) as file:
                low, high = (tuple(float(v) for v in row) for row in file["window"])
                y, x = (float(v) for v in file["pixel_um"])
                return cls(
                    features={
                        name.removeprefix("features "): file[name].astype(np.float32)
                        for name in file.files
                        if name.startswith("features ")
                    },
                    slides=tuple(str(s) for s in file["slides"]),
                    patients=tuple(str(p) for p in file["patients"]),
                    slide_of_row=file["slide_of_row"],
                    window=Window((low[0], low[1], low[2]), (high[0], high[1], high[2])),
                    peaks=tuple(float(v) for v in file["peaks"]),
                    channels=tuple(str(c) for c in file["channels"]),
                    pixel_um=(y, x),
                    crop=int(file["crop"]),
                )
        except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
            raise UserError(
                path, f"no reference features ({error})", "reference.npz", "make it again"
            ) from None


def build_reference(
    volumes: Sequence[str | Path],
    patches: Sequence[str | Path],
    out: str | Path,
    work: str | Path,
    *,
    patients: Sequence[str],
    inception: str | Path,
    settings: EvaluateConfig,
    seed: int,
    device: str = "auto",
) -> Manifest:
    """Compute the features of real XY crops.

    Parameters
    ----------
    volumes
        Stores of the slides that stand for real images (split ``val``); 2D images have one plane.
    patches
        The patch manifest of each, in the same order: crops are cut from tissue alone.
    out
        ``reference.npz`` (see `Reference`); its manifest stands beside it.
    work
        Work folder on the same file system. The features of each slide are kept beside it
        (``<work>.cache``): a killed run goes on after its last finished slide, and a later one
        does only what is new.
    patients
        The patient of each slide, in the same order.
    inception
        The Inception network.
    settings
        Section ``evaluate``: ``crop``, ``max_reference_images``, ``window``, and the
        protocols and rescalings.
    seed
        Seed of the places.
    device
        ``cpu``, ``cuda`` or ``auto``.

    Returns
    -------
    Manifest
        ``counts`` hold images, slides, window (raw intensities) and crop.

    Raises
    ------
    UserError
        No volume, no tissue, slides with other channels or pixel sizes, or crops too large.
    """
    stores = [Path(v) for v in volumes]
    names = [store.parent.name for store in stores]
    channels, pixel_um = _common(stores)
    network = Inception(inception, device)
    plan = {
        "stage": "reference",
        "algorithm": ALGORITHM,
        "inputs": {str(p): identity(p) for p in [*stores, *map(Path, patches)]}
        | {"inception": network.sha256, "patients": fingerprint({"patients": list(patients)})},
        "settings": _relevant(settings),
        "seed": seed,
    }
    with Work(work, plan) as folder:
        cache = Cache(folder.path.with_name(f"{folder.path.name}.cache"))
        places = _allot(stores, patches, settings, seed)
        window, peaks = _windows(stores, places, channels, settings.window)
        shows = [Show(rescaling, channels, window) for rescaling in rescalings_of(settings)]
        total = sum(map(len, places)) * len(shows)
        features: dict[str, NDArray[np.float32]] = {}
        with progress("evaluate: real images", total, "images") as bar:
            for show in shows:
                blocks = [
                    _rows(store, regions, show, network, cache, bar)
                    for store, regions in zip(stores, places, strict=True)
                    if regions
                ]
                features[show.rescaling] = np.concatenate(blocks)
        reference = Reference(
            features=features,
            slides=tuple(names),
            patients=tuple(patients),
            slide_of_row=np.repeat(
                np.arange(len(places), dtype=np.int32), [len(p) for p in places]
            ),
            window=window,
            peaks=peaks,
            channels=channels,
            pixel_um=pixel_um,
            crop=settings.crop,
        )
        reference.save(folder.path / "reference.npz")
        manifest = Manifest(
            stage="reference",
            algorithm=ALGORITHM,
            inputs=plan["inputs"],
            settings=_relevant(settings),
            seed=seed,
            device=str(network.device),
            counts={
                "images": reference.images,
                "slides": {n: len(p) for n, p in zip(names, places, strict=True)},
                "patients": len(set(patients)),
                "window": [list(window.low), list(window.high)],
                "peaks": list(peaks),
                "channels": list(channels),
                "crop": settings.crop,
            },
            measured={"pictures_shown": network.shown},
        )
        published = folder.publish_product(folder.path / "reference.npz", Path(out), manifest)
        cache.forget_unused()
        return published


def _rows(
    store: Path, regions: list[Region], show: Show, network: Inception, cache: Cache, bar: Bar
) -> NDArray[np.float32]:
    """Return the features of one slide's crops, from the cache where they are there."""
    facts = {
        "features": FEATURES,
        "inception": network.sha256,
        "volume": identity(store),
        "places": corners(regions).tolist(),
        "shown": show.facts(),
    }
    path = cache.path(facts, ".npz")
    with contextlib.suppress(*DAMAGED):
        found = Features.load(path)
        bar.advance(len(regions))
        return found.rows("XY")
    extract = Extractor(network, bar)
    where = {"XY": regions}
    keys = extract(Stored(open_volume(store).data), where, show)
    made = Features.of(keys, extract.rows(different(keys)), where, None)
    made.save(path)
    return made.rows("XY")


def _relevant(settings: EvaluateConfig) -> dict[str, object]:
    relevant = settings.model_dump(mode="json", include={"crop", "max_reference_images", "window"})
    return relevant | {"rescalings": rescalings_of(settings)}


def _common(stores: Sequence[Path]) -> tuple[tuple[str, ...], tuple[float, float]]:
    """Return the channels and the pixel size (µm) that all slides share."""
    if not stores:
        raise UserError(
            "reference",
            "no real images",
            "at least one slide of the split `val`",
            "give a patient of the sample sheet the split `val`",
        )
    first = read_spec(stores[0])
    for store in stores[1:]:
        spec = read_spec(store)
        if spec.channels != first.channels:
            raise UserError(store, f"channels {','.join(spec.channels)}", ",".join(first.channels))
        require_pixel_size(store, (spec.voxel.y, spec.voxel.x), (first.voxel.y, first.voxel.x))
    return first.channels, (first.voxel.y, first.voxel.x)


def require_pixel_size(
    path: Path, found: tuple[float, float], expected: tuple[float, float]
) -> None:
    """Refuse images of another magnification: FID would measure that.

    Raises
    ------
    UserError
        When the pixel sizes (y, x in µm) differ by more than 1 %.
    """
    if not np.allclose(found, expected, rtol=0.01, atol=0):
        raise UserError(
            path,
            f"pixels of {found[0]:g} × {found[1]:g} µm",
            f"{expected[0]:g} × {expected[1]:g} µm, as the other real images have",
            "put slides of another magnification into a cohort of their own",
        )


def _allot(
    stores: Sequence[Path], patches: Sequence[str | Path], settings: EvaluateConfig, seed: int
) -> list[list[Region]]:
    """Choose the crops of each slide, in proportion to its planes and tissue."""
    shapes = [read_spec(store).shape[1:] for store in stores]
    masks = [tissue_mask(p, s[1:]) for p, s in zip(patches, shapes, strict=True)]
    weights = np.array([float(s[0] * m.sum()) for s, m in zip(shapes, masks, strict=True)])
    if weights.sum() == 0:
        raise UserError("reference", "no tissue on any slide", "patches that are not background")
    shares = np.ceil(settings.max_reference_images * weights / weights.sum() - 1e-9).astype(int)
    places = [
        spread_crops(
            "XY", shape, settings.crop, int(share), seed=seed, name=store.parent.name, tissue=mask
        )
        for store, shape, mask, share in zip(stores, shapes, masks, shares, strict=True)
    ]
    if sum(map(len, places)) < 2:
        raise UserError(
            "evaluate.crop",
            f"{settings.crop} pixels do not fit into the real images",
            "a crop no larger than the images",
            "lower it",
        )
    return places


def _windows(
    stores: Sequence[Path],
    places: Sequence[Sequence[Region]],
    channels: tuple[str, ...],
    quantiles: tuple[float, float],
) -> tuple[Window, tuple[float, ...]]:
    """Return the colour window and each raw channel's range, at quantiles of all real crops."""
    pixels = sum(r.shape[1] * r.shape[2] for regions in places for r in regions)
    stride = -(-pixels // WINDOW_PIXELS)
    raw = []
    for store, regions in zip(stores, places, strict=True):
        source = Stored(open_volume(store).data) if regions else None
        raw += [source.read(r).reshape(len(channels), -1)[:, ::stride] for r in regions if source]
    values = np.concatenate(raw, axis=1)
    low, high = np.quantile(values, quantiles, axis=1)
    peaks = tuple(float(v) if v > 0 else 1.0 for v in high - low)
    return Window.from_quantiles(colours(values, channels), *quantiles), peaks
