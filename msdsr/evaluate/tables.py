"""The columns of a cohort's tables, and the means over its slides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from msdsr.evaluate.distances import Sureness
from msdsr.metrics.bootstrap import UNKNOWN, mean_of_patients

SLICEFID = [
    "cohort", "factor", "method", "protocol", "rescaling", "plane", "metric",
    "value", "low", "high", "se", "n",
]  # fmt: skip
DISTANCE = [
    "cohort", "factor", "method", "protocol", "rescaling", "distance", "metric", "value", "n",
]  # fmt: skip
PAIRED = ["cohort", "factor", "method", "plane", "channel", "metric", "value", "low", "high", "n"]
SLIDES = [
    "cohort", "factor", "method", "slide", "patient", "plane", "channel", "metric", "value", "n",
]  # fmt: skip
SPECTRA = ["cohort", "factor", "method", "axis", "quantity", "frequency", "value", "n"]
NAMES = {"slide": str, "patient": str, "channel": str}


def of_slides(
    folders: Sequence[Path], name: str, columns: Sequence[str], cohort: str
) -> pd.DataFrame:
    """Return one table of all slides, with the cohort in front."""
    tables = [pd.read_csv(folder / name, dtype=NAMES) for folder in folders]
    found = [table for table in tables if len(table)]
    if not found:
        return pd.DataFrame(columns=["cohort", *columns])
    return pd.concat(found, ignore_index=True).assign(cohort=cohort)[["cohort", *columns]]


def mean_paired(slides: pd.DataFrame, patients: Sequence[str], sure: Sureness) -> pd.DataFrame:
    """Return the mean of each score over slides, each slide counting once, and its interval."""
    rows = []
    keys = [column for column in PAIRED if column not in ("value", "low", "high", "n")]
    for key, part in slides.groupby(keys, sort=False):
        value = float(part["value"].mean())
        low, high = UNKNOWN
        if sure.possible:
            by_patient = {
                patient: part.loc[part["patient"] == patient, "value"].to_numpy(float)
                for patient in patients
            }
            low, high = sure.interval(mean_of_patients(by_patient), value)
        rows.append((*key, value, low, high, int(part["n"].sum())))
    return pd.DataFrame(rows, columns=PAIRED)


def mean_spectra(slides: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each spectral quantity over slides; ``n`` counts slides."""
    if slides.empty:
        return pd.DataFrame(columns=SPECTRA)
    keys = [column for column in SPECTRA if column not in ("value", "n")]
    groups = slides.groupby(keys, sort=False, as_index=False)
    return groups.agg(value=("value", "mean"), n=("slide", "count"))[SPECTRA].assign(
        value=lambda table: table["value"].astype(np.float64)
    )
