"""What a slide says of itself: a table each of held-out planes, uncertainty, places to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msdsr.config import EvaluateConfig, Interpolation
from msdsr.evaluate.candidates import Candidates
from msdsr.evaluate.heldout import CEILING, Held, ceiling_scores, held_scores
from msdsr.evaluate.hotspots import NOTES, Restored, find_hotspots
from msdsr.evaluate.sources import Source, Stored
from msdsr.evaluate.uncertainty import held_uncertainty, true_uncertainty
from msdsr.manifest import Manifest
from msdsr.metrics.bootstrap import interval, mean_of_patients
from msdsr.volume import Work, open_volume, std_path

WHO = ["cohort", "factor", "method", "slide", "patient"]
COVERAGE = ["coverage", "coverage_calibrated", "width", "width_calibrated"]
COLUMNS = {
    "heldout_slides": [*WHO, "plane", "channel", "metric", "value", "n"],
    "uncertainty": [*WHO, "against", "level", *COVERAGE, "n"],
    "hotspots": [*WHO, "reason", "z", "y", "x", "side", "score"],
}
"""The tables that a slide adds rows to."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Checks:
    """One slide at one factor, opened.

    Attributes
    ----------
    found
        All its volumes.
    held
        Its held-out planes.
    restored
        Stores of its methods.
    channels, peaks
        Names and data ranges.
    tissue
        (y, x), or None: everywhere.
    settings
        Section ``evaluate``.
    """

    found: Candidates
    held: Held
    restored: Mapping[str, Path]
    channels: Sequence[str]
    peaks: Sequence[float]
    tissue: NDArray[np.bool_] | None
    settings: EvaluateConfig

    def write(self, folder: Work, product: Path, who: Mapping[str, Any]) -> dict[str, Any]:
        """Make the tables that are missing, write all, and return what the manifest says of them.

        Parameters
        ----------
        folder
            Its ledger keeps what is done, method by method.
        product
            Folder that takes a CSV of each table of `COLUMNS`.
        who
            Factor, slide and patient, for every row.
        """
        tables = {
            "heldout_slides": self._heldout(folder),
            "uncertainty": self._uncertainty(folder),
            "hotspots": self._hotspots(folder),
        }
        for name, rows in tables.items():
            columns = [column for column in COLUMNS[name] if column != "cohort"]
            table = pd.DataFrame([{**who, **row} for row in rows], columns=columns)
            table.to_csv(product / f"{name}.csv", index=False)
        return {"heldout": self.held.counts()}

    def _heldout(self, folder: Work) -> Rows:
        if self.held.reason:
            return []
        rows = _once(folder, "heldout", CEILING, partial(ceiling_scores, self.held, self.peaks))
        for name, source in self.held.methods.items():
            scores = partial(held_scores, self.held, source, self.peaks)
            rows += _once(folder, "heldout", name, scores)
        return rows

    def _uncertainty(self, folder: Work) -> Rows:
        rows: Rows = []
        for name in self.held.spreads:
            judged = partial(held_uncertainty, self.held, name, self.peaks)
            rows += _once(folder, "uncertainty-heldout", name, judged)
        if (truth := self.found.truth) is None:
            return rows
        generated = np.flatnonzero(self.found.generated)
        for name, store in self.restored.items():
            if (spread := std_path(store)).exists():
                volume = self.found.methods[name]
                judged = partial(true_uncertainty, volume, spread, truth, generated, self.peaks)
                rows += _once(folder, "uncertainty-truth", name, judged)
        return rows

    def _hotspots(self, folder: Work) -> Rows:
        rows: Rows = []
        for name, store in self.restored.items():
            if self.settings.hotspots and name not in get_args(Interpolation):
                rows += _once(folder, "hotspots", name, partial(self._worst, name, store))
        return rows

    def _worst(self, method: str, store: Path) -> Rows:
        spread: Source | None = None
        if std_path(store).exists():
            spread = Stored(open_volume(std_path(store)).data)
        acquired = [int(z) for z in np.flatnonzero(~self.found.generated)]
        volume = self.found.methods[method]
        restored = Restored(volume, spread, acquired, self.channels, self.peaks, self.tissue)
        return find_hotspots(restored, self.settings.hotspot_side, self.settings.hotspots)


def _once(folder: Work, what: str, method: str, make: Callable[[], Rows]) -> Rows:
    """Return the rows of a method, from the ledger where it has them."""
    key = f"{what}-{method}"
    if key not in folder.done():
        folder.record(key, rows=[_plain(row) for row in make()])
    return [{"method": method, **row} for row in folder.done()[key]["rows"]]


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without nan, which is no JSON; what is missing becomes nan in the table."""
    return {k: v for k, v in row.items() if not (isinstance(v, float) and np.isnan(v))}


def checks_of_slides(folders: Sequence[Path], cohort: str) -> dict[str, pd.DataFrame]:
    """Return the tables of all slides, one below the other, by name."""
    tables = {}
    for name, columns in COLUMNS.items():
        each = [
            pd.read_csv(folder / f"{name}.csv", dtype={"slide": str, "patient": str})
            for folder in folders
        ]
        rows = [table for table in each if len(table)]
        joined = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
        tables[name] = joined.assign(cohort=cohort).reindex(columns=columns)
    return tables


def mean_over_patients(slides: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """Return the table ``heldout``: means over slides, with the bootstrap's interval over patients.

    Parameters
    ----------
    slides
        The table ``heldout_slides``: each slide counts once.
    resamples, seed
        Of the bootstrap; 0 resamples give no intervals.

    Returns
    -------
    pandas.DataFrame
        ``low`` and ``high`` are the ends of the 95 % interval, nan with fewer than 3 patients;
        ``n`` counts planes.
    """
    keys = ["cohort", "factor", "method", "plane", "channel", "metric"]
    rows = []
    for values, group in slides.groupby(keys, sort=False):
        by_patient = {
            str(name): part["value"] for name, part in group.groupby("patient", sort=True)
        }
        found = interval(
            mean_of_patients(by_patient), len(by_patient), resamples=resamples, seed=seed
        )
        row = dict(zip(keys, values, strict=True)) | {"value": group["value"].mean()}
        rows.append(row | {"low": found.low, "high": found.high, "n": int(group["n"].sum())})
    return pd.DataFrame(rows, columns=[*keys, "value", "low", "high", "n"])


def checks_summary(records: Sequence[Manifest]) -> dict[str, Any]:
    """Return what a reader must be told beside the tables.

    Returns
    -------
    dict
        ``heldout``: by factor, what was held out, over all slides, with a sentence ``note``;
        ``hotspots``: by reason, what the score is.
    """
    heldout: dict[str, dict[str, Any]] = {}
    for record in records:
        said = dict(record.counts["heldout"])
        before = heldout.get(str(record.counts["factor"]))
        if before is None or (said["planes"] and not before["planes"]):
            heldout[str(record.counts["factor"])] = said
        elif said["planes"]:
            before["planes"] += said["planes"]
            if before["field_px"] != said["field_px"]:
                before["field_px"] = None
    for said in heldout.values():
        said.pop("flagged", None)
    return {"heldout": heldout, "hotspots": dict(NOTES)}
