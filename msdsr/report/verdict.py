"""The numbers of a cohort in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msdsr.report.numbers import (
    ACQUIRED,
    ALL,
    BASELINES,
    CEILING,
    FLOORS,
    MEAN,
    REAL,
    TRUTH,
    Number,
    Numbers,
    Values,
    fixed,
    order,
    values_of,
)
from msdsr.report.tables import HIGH, LOW, best_of, worst_plane

FEW_SLIDES = 5
FEW_IMAGES = 2048
"""Below as many images as Inception has features, FID depends on their number above all."""
PAIRED = (("PSNR", 2, " dB"), ("SSIM", 3, ""))


@dataclass(frozen=True)
class Verdict:
    """What the tables say of one factor.

    Parameters
    ----------
    factor
        The factor.
    headline
        The result in one sentence.
    methods
        A sentence for each method that restores, and each baseline.
    lines
        What supports or limits the headline.
    """

    factor: int
    headline: str
    methods: tuple[tuple[str, str], ...]
    lines: tuple[str, ...]


def verdicts(numbers: Numbers, summary: Mapping[str, Any]) -> list[Verdict]:
    """Return what is to be said of every factor.

    Parameters
    ----------
    numbers
        All tables.
    summary
        What evaluation says of them: ``slides``, and where it knows them ``intervals`` (how they
        were made, or why there are none) and ``floor`` (what was split to hold real against real).
    """
    view = (numbers.views() or [("v2", "window")])[0]
    found = []
    for factor in numbers.factors():
        distances = values_of(
            numbers["slicefid"], protocol=view[0], rescaling=view[1], factor=factor
        )
        paired = values_of(numbers["paired"], factor=factor, channel=ALL)
        heldout = values_of(numbers["heldout"], factor=factor, channel=ALL)
        found.append(_verdict(factor, distances, paired, heldout, summary))
    return found


def _verdict(
    factor: int,
    distances: Values,
    paired: Values,
    heldout: Values,
    summary: Mapping[str, Any],
) -> Verdict:
    slides, intervals = len(summary["slides"]), str(summary.get("intervals", ""))
    best = best_of(distances, MEAN, "FID", LOW)
    fid = {m: n for (m, p, k), n in distances.items() if (p, k) == (MEAN, "FID")}
    methods = tuple((m, _method(m, fid, distances)) for m in order(list(fid)) if m not in FLOORS)
    lines: list[str] = []
    if best is None:
        headline = f"{factor}×: too few slices or methods to compare by SliceFID"
    else:
        headline, lines = _headline(factor, best, fid)
        lines += _agreement(best, distances)
    lines += _paired(best, paired, "against the truth")
    lines += _paired(best, heldout, "on held-out acquired planes")
    lines += _floors(distances, summary)
    if fid and not any(number.has_interval for number in fid.values()):
        why = intervals.removeprefix("none: ")
        lines.append(f"No intervals: {why}." if why else "Intervals were not measured.")
    if slides < FEW_SLIDES:
        lines.append(f"{slides} slide{'s' if slides != 1 else ''} only: differences may be chance.")
    return Verdict(factor, headline, methods, tuple(lines))


def said(number: Number, digits: int = 1) -> str:
    """Return a number with its interval."""
    text = fixed(number.value, digits)
    if number.has_interval:
        text += f" (95\u00a0%: {fixed(number.low, digits)} to {fixed(number.high, digits)})"
    return text


def _headline(factor: int, best: str, fid: dict[str, Number]) -> tuple[str, list[str]]:
    rival = min((m for m in fid if m not in (best, *FLOORS)), key=lambda m: fid[m].value)
    mine, other = fid[best], fid[rival]
    less = 100 * (1 - mine.value / other.value) if other.value > 0 else 0.0
    headline = (
        f"{best} has the lowest SliceFID at {factor}×: {fixed(mine.value, 1)}, "
        f"{less:.0f}\u00a0% below {rival} ({fixed(other.value, 1)})"
    )
    lines = []
    if mine.apart_from(other) is False:
        lines.append(
            f"The 95\u00a0% intervals of {best} and {rival} overlap: which is lower may be chance."
        )
    elif mine.apart_from(other):
        lines.append(f"The 95\u00a0% intervals of {best} and {rival} do not overlap.")
    return headline, lines


def _method(method: str, fid: dict[str, Number], distances: Values) -> str:
    """Return a method's SliceFID beside the best baseline, its worst plane and the floor."""
    mine = fid[method]
    parts = [f"SliceFID {said(mine)}"]
    baselines = [m for m in BASELINES if m in fid]
    if method not in BASELINES and baselines:
        rival = min(baselines, key=lambda m: fid[m].value)
        if fid[rival].value > 0:
            change = 100 * (mine.value / fid[rival].value - 1)
            way = "below" if change < 0 else "above"
            parts.append(f"{abs(change):.0f}\u00a0% {way} the best baseline, {rival}")
    if (plane := worst_plane(distances, method)) is not None:
        parts.append(f"worst plane {plane}, {fixed(distances[method, plane, 'FID'].value, 1)}")
    floor = _real(distances)
    if floor is not None and floor.value > 0 and min(floor.n, mine.n) >= FEW_IMAGES:
        parts.append(f"{mine.value / floor.value:.1f} times the floor")
    return "; ".join(parts)


def _real(distances: Values) -> Number | None:
    """Return what real images score against real ones."""
    return distances.get((REAL, MEAN, "FID")) or distances.get((REAL, "XY", "FID"))


def _agreement(best: str, distances: Values) -> list[str]:
    by_kid = best_of(distances, MEAN, "KID", LOW)
    if by_kid is None:
        return []
    agrees = by_kid == best
    return ["KID agrees." if agrees else f"KID does not agree: it is lowest for {by_kid}."]


def _paired(best: str | None, paired: Values, where: str) -> list[str]:
    lines = []
    # Held-out planes are XY planes: there is nothing to take a mean of.
    plane = MEAN if any(p == MEAN for _, p, _ in paired) else "XY"
    for metric, digits, unit in PAIRED:
        top = best_of(paired, plane, metric, HIGH)
        if top is None:
            continue
        value = said(paired[top, plane, metric], digits)
        text = f"{metric} {where} is highest for {top}: {value}{unit}"
        mine, most = (paired.get((m or "", plane, metric)) for m in (best, CEILING))
        if top != best and mine is not None:
            text += f"; {best} {fixed(mine.value, digits)}{unit}"
        if most is not None:
            text += f"; a perfect restoration would score {fixed(most.value, digits)}{unit}"
        lines.append(f"{text}.")
    return lines


def _floors(distances: Values, summary: Mapping[str, Any]) -> Sequence[str]:
    lines = []
    if (real := _real(distances)) is not None:
        by = summary.get("floor", {}).get("by", "")
        others = {"patient": " of other patients", "slide": " of other slides"}.get(by, "")
        few = f" (FID of {real.n} images alone: not to be compared)" if real.n < FEW_IMAGES else ""
        lines.append(f"The floor, real images against real ones{others}: {said(real)}{few}.")
    if (true := distances.get((TRUTH, MEAN, "FID"))) is not None:
        lines.append(f"The true volume itself scores {said(true)} on as many images.")
    if (planes := distances.get((ACQUIRED, "XY", "FID"))) is not None:
        lines.append(f"Acquired XY planes of these slides score {said(planes)}.")
    return lines
