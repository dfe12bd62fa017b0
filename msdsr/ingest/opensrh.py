"""OpenSRH (doi:10.48550/arXiv.2206.08439): a sample sheet from the tables of its tree."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from msdsr.errors import UserError
from msdsr.ingest.images import SUFFIX, list_text
from msdsr.manifest import write_text_atomically
from msdsr.sheet import write_sheet
from msdsr.volume import VoxelSize

TABLE, SPLIT = "meta/opensrh.json", "meta/train_val_split.json"
PATCHES = {
    "tumor": "tumor_patches",
    "normal": "normal_patches",
    "nondiagnostic": "nondiagnostic_patches",
}
CHANNELS = ("CH2", "CH3")

Label = Literal["patch", "diagnosis"]


@dataclass
class Converted:
    """What became of a tree.

    Attributes
    ----------
    rows
        The sample sheet: a row a slide.
    images
        How many images of each class (of a patch) were listed.
    left_out
        Why patients, slides and images were left out, and how many of them.
    """

    rows: pd.DataFrame
    images: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def convert_opensrh(
    tree: str | Path,
    out: str | Path,
    *,
    voxel: VoxelSize,
    label: Label = "patch",
    nondiagnostic: bool = False,
) -> Converted:
    """Write the sample sheet of an OpenSRH tree, and for each slide the list of its images.

    Parameters
    ----------
    tree
        Folder that holds ``meta/opensrh.json``, ``meta/train_val_split.json`` and the patches:
        TIFF, uint16, (2, y, x), channels CH2 and CH3.
    out
        Sample sheet to write, ``….tsv``; the lists go into the folder of the same name beside it.
        The column ``class`` holds the diagnosis.
    voxel
        Spacing (µm) for the sheet; z means nothing for 2D images.
    label
        What a list calls an image: what the patch shows (``tumor``, ``normal``,
        ``nondiagnostic``), or for tumor the ``diagnosis`` in its place.
    nondiagnostic
        Also list patches that a pathologist found nondiagnostic.

    Raises
    ------
    UserError
        When the tables are missing or not what they should be, a patient is in both splits, or
        not one image is there.
    """
    tree, out = Path(tree), Path(out)
    patients, split_of = _read_json(tree / TABLE), _read_splits(tree / SPLIT)
    kinds = [kind for kind in PATCHES if nondiagnostic or kind != "nondiagnostic"]
    found = Converted(pd.DataFrame())
    rows: list[dict[str, Any]] = []
    names: set[str] = set()
    for patient, record in patients.items():
        if patient not in split_of:
            found.left_out["patients in neither split"] += 1
            continue
        for slide, lists in _slides(tree / TABLE, patient, record).items():
            diagnosis = str(lists.get("class", record.get("class", "")))
            images = []
            for kind in kinds:
                files = _present(tree, lists.get(PATCHES[kind], []), found)
                shown = diagnosis if label == "diagnosis" and kind == "tumor" else kind
                images += [(str(file), shown) for file in files]
                found.images[kind] += len(files)
            if not images:
                found.left_out["slides without an image"] += 1
                continue
            name = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{patient}-{slide}")
            if name in names:
                raise UserError(tree / TABLE, f"two slides would be named {name!r}", "one")
            names.add(name)
            listed = out.with_suffix("") / f"{name}{SUFFIX}"
            write_text_atomically(listed, list_text(images))
            rows.append(_row(name, patient, listed, split_of[patient], voxel, diagnosis))
    if not rows:
        raise UserError(
            tree, "not one of the listed images is there", "the patches that its tables name"
        )
    found.rows = pd.DataFrame(rows)
    write_sheet(out, found.rows)
    return found


def _row(
    slide: str, patient: str, path: Path, split: str, voxel: VoxelSize, diagnosis: str
) -> dict[str, Any]:
    return {
        "slide": slide,
        "patient": re.sub(r"[^A-Za-z0-9_-]+", "_", patient),
        "path": str(path),
        "split": split,
        "z_um": voxel.z,
        "y_um": voxel.y,
        "x_um": voxel.x,
        "channels": CHANNELS,
        "notes": "OpenSRH, CC BY-NC-SA",
        "class": re.sub(r"[^A-Za-z0-9._-]+", "_", diagnosis),
    }


def _present(tree: Path, names: Any, found: Converted) -> list[Path]:
    paths = [tree / name for name in dict.fromkeys(names)]
    present = [path for path in paths if path.is_file()]
    if len(present) < len(paths):
        found.left_out["images that are not there"] += len(paths) - len(present)
    return present


def _slides(path: Path, patient: str, record: Any) -> dict[str, dict[str, Any]]:
    slides = record.get("slides") if isinstance(record, dict) else None
    if not isinstance(slides, dict) or not all(isinstance(s, dict) for s in slides.values()):
        raise UserError(path, f"patient {patient!r} has no slides", "{slides: {slide: {…}}}")
    return slides


def _read_splits(path: Path) -> dict[str, str]:
    splits = _read_json(path)
    split_of: dict[str, str] = {}
    for split in ("train", "val"):
        for patient in splits.get(split, []):
            if split_of.setdefault(patient, split) != split:
                raise UserError(path, f"patient {patient!r} is in train and val", "one split")
    return split_of


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(path, "no such file", f"an OpenSRH tree with {TABLE} and {SPLIT}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(path, f"not JSON ({error})", "the table that OpenSRH ships") from None
    if not isinstance(values, dict):
        raise UserError(path, type(values).__name__, "a JSON object")
    return values
