"""The course of a training, drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from msdsr.report.charts import BASELINE_SERIES, SERIES, STYLE, Chart, file_names, finish

TRAINING = "Training"


def training_charts(curves: Mapping[str, str | Path]) -> list[Chart]:
    """Draw every training whose diary is there, by the name of its model."""
    found = {name: Path(path) for name, path in curves.items() if Path(path).exists()}
    files = file_names(list(found))
    charts = [training_chart(name, path, files[name]) for name, path in found.items()]
    return [chart for chart in charts if chart is not None]


def read_curve(path: Path) -> pd.DataFrame:
    """Return the records of a training's ``metrics.jsonl`` that hold a loss, oldest first."""
    records: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            # A killed training may have left its last line unfinished.
            break
        if isinstance(record, dict) and {"kind", "images", "loss"} <= record.keys():
            records.append({key: record[key] for key in ("kind", "images", "loss")})
    return pd.DataFrame(records, columns=["kind", "images", "loss"])


def training_chart(name: str, path: Path, file: str) -> Chart | None:
    """Draw the loss of one training over the images seen; ``file`` ends the chart's name."""
    curve = read_curve(path)
    if curve.empty:
        return None
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        ax = figure.subplots()
        train, valid = (curve[curve["kind"] == kind] for kind in ("train", "validation"))
        ax.plot(
            train["images"],
            train["loss"],
            color=BASELINE_SERIES["nearest"],
            linewidth=1,
            label="training",
        )
        if len(valid):
            ax.plot(
                valid["images"],
                valid["loss"],
                color=SERIES[0],
                linewidth=1.8,
                marker="o",
                markersize=4,
                label="validation",
            )
        if curve["loss"].min() > 0 and curve["loss"].max() > 5 * curve["loss"].min():
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        ax.set_xlabel("training images seen")
        ax.set_ylabel("L1 loss")
        ax.grid(axis="y", linewidth=0.6)
        ax.tick_params(left=False, which="both", bottom=False)
        ax.legend(frameon=False)
        last = valid if len(valid) else train
        alt = (
            f"Loss of model {name} over {int(curve['images'].max()):,} training images; "
            f"last {'validation' if len(valid) else 'training'} loss {last['loss'].iloc[-1]:.4f}."
        )
        return finish(f"training_{file}", figure, alt, TRAINING, alt)
