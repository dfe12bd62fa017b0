"""Export one store, the folder of a slide, or the folder of a cohort."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msdsr.errors import UserError
from msdsr.export.formats import Format, image_name
from msdsr.export.product import Wish, level_of, make_product, refuse_overlap
from msdsr.export.source import Item, Kind, find_items, is_store
from msdsr.manifest import (
    Manifest,
    Stopwatch,
    fingerprint,
    identity,
    manifest_path,
    read_manifest,
    write_manifest,
    write_text_atomically,
)
from msdsr.progress import Bar, progress
from msdsr.volume.ledger import Entry, Ledger
from msdsr.volume.locks import Lock
from msdsr.volume.store import read_spec, volume_counts

ALGORITHM = 1
"""Raised when an export of the same products would be another."""

LEDGER, LOCK = ".export.jsonl", ".export.lock"
SUMS, RECORD = "SHA256SUMS", "export.json"
MEGABYTE = 1_000_000


def export(
    source: str | Path, target: str | Path, how: Format, level: int = 0
) -> tuple[Manifest, Path]:
    """Export products, voxel for voxel, into a form that others can read.

    Parameters
    ----------
    source
        A store, or the folder of a slide or of a cohort. Of a folder, every OME-Zarr image is
        turned into the form, and every other file is copied.
    target
        The product, for a store and a name with the form's ending; else the folder to make.
    how
        The form.
    level
        The finest level of the pyramids to keep; images that have fewer keep their coarsest.

    Returns
    -------
    Manifest
        What was exported. It stands beside the product as ``<product>.json``, or in the folder as
        ``export.json``, beside ``SHA256SUMS``.
    Path
        The product, or the folder.

    Raises
    ------
    UserError
        When there is nothing to export, or something else is at the target already.

    Notes
    -----
    Every product is published by a rename. Started again, the export of a folder goes on after the
    last product that was finished, and makes those anew whose source has changed. It never removes
    a product whose source has gone.
    """
    source, target = Path(source), Path(target)
    items = find_items(source)
    wish = Wish(how, level)
    if not is_store(source):
        refuse_overlap(source, target)
        return _export_folder(source, items, target, wish), target
    if not target.name.endswith(how.endings) or (target.is_dir() and not is_store(target)):
        target = target / image_name(items[0].name, how)
    refuse_overlap(source, target)
    return _export_store(items[0], target, wish), target


def _export_store(item: Item, target: Path, wish: Wish) -> Manifest:
    watch = Stopwatch()
    record = target.with_name(f"{target.name}.json")
    if target.exists() and not _is_ours(record):
        raise UserError(target, "exists already", "a path that is free", "remove it")
    spec = read_spec(item.path)
    manifest = Manifest(
        stage="export",
        algorithm=ALGORITHM,
        product=target.name,
        inputs={item.name: _identity(item)},
        settings={"form": wish.how.value, "level": wish.level},
        counts=volume_counts(spec),
        warnings=_losses(item, wish),
    )

    def announce(sums: dict[str, str]) -> None:
        manifest.seconds = watch.seconds()
        manifest.counts["files"] = len(sums)
        if len(sums) == 1:
            manifest.counts["sha256"] = next(iter(sums.values()))
        # Before the product: one without a record would be taken for somebody else's.
        write_manifest(target, manifest, record)

    lock = target.with_name(f".{target.name}.lock")
    with _alone(lock), progress("export", wish.work(item) // MEGABYTE, "MB") as bar:
        make_product(item, wish, target, _Megabytes(bar).tick, announce)
    lock.unlink(missing_ok=True)
    return manifest


def _export_folder(source: Path, items: list[Item], target: Path, wish: Wish) -> Manifest:
    watch = Stopwatch()
    if target.name.endswith((".ozx", ".zarr", ".tif", ".tiff")):
        raise UserError(target, "the name of one file", "a folder, since the source is one")
    if target.is_file():
        raise UserError(target, "a file", "a folder")
    ledger = Ledger(target / LEDGER)
    plan = {"algorithm": ALGORITHM, "form": wish.how.value, "level": wish.level}
    with _alone(target / LOCK):
        _check_earlier(target, ledger, plan)
        done = dict(ledger.read())
        if not done:
            ledger.append("plan", **plan)
        for name in (SUMS, RECORD):  # they stand beside a finished export alone
            (target / name).unlink(missing_ok=True)
        names = _names(items, wish)
        total = sum(wish.work(item) for item in names.values())
        kept = 0
        with progress("export", total // MEGABYTE, "MB") as bar:
            megabytes = _Megabytes(bar)
            for name, item in names.items():
                state = item.state()
                if _stands(target / name, done.get(f"product:{name}"), state):
                    kept += 1
                    megabytes.skip(wish.work(item))
                    continue
                own = wish
                if item.kind is Kind.IMAGE:
                    own = Wish(wish.how, level_of(item, wish))
                sums = make_product(item, own, target / name, megabytes.tick)
                size = _bytes(target / name)
                ledger.append(f"product:{name}", state=state, bytes=size, sums=sums)
        manifest = _closing(source, items, names, wish, ledger, kept, watch)
        write_text_atomically(target / SUMS, _sums_text(target, ledger))
        write_manifest(target, manifest, target / RECORD)
    (target / LOCK).unlink(missing_ok=True)
    return manifest


def _check_earlier(target: Path, ledger: Ledger, plan: dict[str, Any]) -> None:
    """Refuse a folder that holds something else, or an export in another form."""
    others = [path for path in target.iterdir() if path.name not in (LEDGER, LOCK)]
    entries = dict(ledger.read())
    if "plan" not in entries:
        if others:
            raise UserError(target, "not empty", "a folder that is empty, or an earlier export")
        return
    if entries["plan"] != plan:
        raise UserError(
            target,
            f"holds an export as {entries['plan'].get('form')}, level "
            f"{entries['plan'].get('level')}",
            f"as {plan['form']}, level {plan['level']}",
            "name another folder",
        )


def _names(items: list[Item], wish: Wish) -> dict[str, Item]:
    """Return the items by the names of their products."""
    names: dict[str, Item] = {}
    for item in items:
        name = wish.name(item)
        if name is None:
            continue
        if name in names or name in (SUMS, RECORD):
            raise UserError(item.path, f"would become {name}, which is taken", "another name")
        names[name] = item
    return names


def _stands(product: Path, entry: Entry | None, state: str) -> bool:
    """Return whether a product of an earlier run is there, and its source is as it was."""
    if entry is None or entry["state"] != state or not product.exists():
        return False
    return bool(_bytes(product) == entry["bytes"])


def _bytes(product: Path) -> int:
    if product.is_file():
        return product.stat().st_size
    return sum(path.stat().st_size for path in product.rglob("*") if path.is_file())


def _closing(
    source: Path,
    items: list[Item],
    names: dict[str, Item],
    wish: Wish,
    ledger: Ledger,
    kept: int,
    watch: Stopwatch,
) -> Manifest:
    products = {k.removeprefix("product:"): v for k, v in ledger.read() if k != "plan"}
    warnings = sorted({w for item in items for w in _losses(item, wish)})
    orphans = len(products.keys() - names.keys())
    if orphans:
        warnings.append(f"{orphans} products of an earlier export have no source any more; kept")
    shallow = sum(
        level_of(item, wish) < wish.level
        for item in items
        if item.kind is Kind.IMAGE and wish.level
    )
    if shallow:
        warnings.append(f"{shallow} images have no level {wish.level}: their coarsest was taken")
    return Manifest(
        stage="export",
        algorithm=ALGORITHM,
        product=source.resolve().name,
        inputs={item.name: _identity(item) for item in items if item.kind is not Kind.FILE},
        settings={"form": wish.how.value, "level": wish.level},
        counts={
            "images": sum(item.kind is Kind.IMAGE for item in names.values()),
            "other_stores": sum(item.kind is Kind.ZARR for item in names.values()),
            "other_files": sum(item.kind is Kind.FILE for item in names.values()),
            "bytes": sum(products[name]["bytes"] for name in names),
        },
        measured={"kept_from_an_earlier_run": kept},
        seconds=watch.seconds(),
        warnings=warnings,
    )


def _losses(item: Item, wish: Wish) -> list[str]:
    """Return what an item loses in the form."""
    if item.kind is Kind.ZARR and not wish.how.keeps_files:
        return ["Zarr stores that are no OME-Zarr images are left out"]
    if item.kind is Kind.IMAGE and wish.how is Format.TIFF and (item.path / "labels").is_dir():
        return ["a TIFF has no place for labels (origin, distance): they are left out"]
    return []


def _identity(item: Item) -> str:
    """Return what a product is by its manifest; without one, a fingerprint of its files."""
    if item.kind is Kind.IMAGE and manifest_path(item.path).is_file():
        with contextlib.suppress(UserError):
            return identity(item.path)
    return fingerprint({"files": item.outline()})


def _is_ours(record: Path) -> bool:
    try:
        return read_manifest(record).stage == "export"
    except UserError:
        return False


def _sums_text(target: Path, ledger: Ledger) -> str:
    """Return the sums of all products that are there, as ``sha256sum --check`` reads them."""
    sums: dict[str, str] = {}
    for key, entry in ledger.read():
        name = key.removeprefix("product:")
        if key != "plan" and (target / name).exists():
            folder, slash, _ = name.rpartition("/")
            sums |= {folder + slash + file: digest for file, digest in entry["sums"].items()}
    return "".join(_sum_line(name, digest) for name, digest in sorted(sums.items()))


def _sum_line(name: str, digest: str) -> str:
    if "\\" in name or "\n" in name:
        name = name.replace("\\", "\\\\").replace("\n", "\\n")
        return f"\\{digest}  {name}\n"
    return f"{digest}  {name}\n"


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock while the block is done; another process is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Lock(path) as lock:
        if not lock.acquire():
            raise UserError(path.parent, "another process exports here", "one at a time")
        yield


class _Megabytes:
    """Counts bytes, and tells the bar of whole megabytes."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._rest = bar, 0

    def tick(self, count: int) -> None:
        self._rest += count
        self._bar.advance(self._rest // MEGABYTE)
        self._rest %= MEGABYTE

    def skip(self, count: int) -> None:
        self._bar.skip(count // MEGABYTE)
