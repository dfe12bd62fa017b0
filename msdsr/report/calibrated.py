"""How well the uncertainty is calibrated, drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from msdsr.report.charts import MUTED, STYLE, Chart, colour_of, finish
from msdsr.report.numbers import order

MARKS = {"heldout": "o", "truth": "s"}


def calibration_chart(table: pd.DataFrame) -> Chart | None:
    """Draw coverage over the nominal level, and width over coverage, as given and calibrated."""
    if table.empty:
        return None
    factors = sorted({int(f) for f in table["factor"]})
    methods = order([str(m) for m in table["method"]])
    means = coverage(table)
    with rc_context(STYLE):
        figure = Figure(figsize=(3.4 * len(factors) + 1.2, 5.2), layout="constrained")
        grid = figure.subplots(2, len(factors), squeeze=False, sharex=True, sharey="row")
        for i, factor in enumerate(factors):
            here = means[means["factor"] == factor]
            for key, own in here.groupby(["method", "against"]):
                method, against = map(str, key)
                colour, mark = colour_of(method, methods), MARKS.get(against, "s")
                for kind, line in (("", ":"), ("_calibrated", "-")):
                    label = f"{method}, {'calibrated' if kind else 'as given'}, {against}"
                    style = line + mark
                    for ax, y in zip(grid[:, i], ("coverage", "width"), strict=True):
                        ax.plot(own["level"], own[y + kind], style, color=colour, label=label)
            grid[0, i].plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
            grid[0, i].set(xlim=(0, 1), ylim=(0, 1))
            grid[0, i].set_title(f"{factor}×", loc="left", fontweight="bold")
            grid[1, i].set_xlabel("nominal level")
            for ax in grid[:, i]:
                ax.grid(linewidth=0.6)
                ax.tick_params(left=False, bottom=False)
        grid[1, 0].set_ylim(bottom=0)
        grid[0, 0].set_ylabel("coverage")
        grid[1, 0].set_ylabel("width / data range")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False)
        alt = "Coverage of intervals by their nominal level; on the diagonal is right. " + " ".join(
            f"{int(r['factor'])}× {r['method']}, {r['against']}: {r['coverage']:.2f} as given and"
            f" {r['coverage_calibrated']:.2f} calibrated at {r['level']:g}."
            for r in means.to_dict("records")
        )
        caption = (
            "Above: how many true values lie within an interval, by how many should (dashed),"
            " of held-out planes (circles) or of the truth (squares)."
            " Below: how wide the interval is; of two that cover alike, the narrower one says more."
        )
        return finish("calibration", figure, alt, "Calibration", caption)


def coverage(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over slides, by their voxels, of coverage and width.

    There is a row for each factor, method, what it was held against, and level.

    Parameters
    ----------
    table
        Rows of ``uncertainty``.
    """
    measures = ["coverage", "coverage_calibrated", "width", "width_calibrated"]
    keys = ["factor", "method", "against", "level"]
    found = []
    for key, part in table.groupby(keys):
        weights = part["n"].to_numpy(float)
        if not (np.isfinite(weights).all() and weights.sum() > 0):
            weights = np.ones(len(part))
        means = {m: float(np.average(part[m].to_numpy(float), weights=weights)) for m in measures}
        found.append(dict(zip(keys, key, strict=True)) | means | {"slides": len(part)})
    return pd.DataFrame(found, columns=[*keys, *measures, "slides"])
