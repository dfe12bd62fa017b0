"""Every table of a cohort's metrics, with made-up numbers that hang together.

Used by the tests of the report and by its benchmark; `tests/conftest.py` gives the tests `publish`.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from msdsr.manifest import Manifest, write_manifest

GOOD = {"nearest": 0.2, "linear": 0.5, "msdsr": 0.85, "truth": 1.0}
"""How good a method is made to look."""

FLOORS = ("acquired", "real")
PLANES = ("XY", "XZ", "YZ")
VIEWS = (("v2", "window"), ("v2", "equalised"), ("paper", "equalised"))
LEVELS = (0.5, 0.8, 0.9, 0.95)


def publish(
    folder,
    slides,
    *,
    factors=(2, 4),
    channels=("CH2", "CH3"),
    truth=True,
    window=((0, 1000, 1000), (9000, 30000, 30000)),
    planes=17,
    side=(64, 80),
    spots=2,
    **summary,
):
    """Publish all tables of a cohort.

    Parameters
    ----------
    folder
        Where to.
    slides
        (slide, patient) of each.
    factors, channels, truth, window
        What the cohort is.
    planes, side
        Output planes and (rows, columns) of a slide: hotspots lie within.
    spots
        Hotspots of each slide, factor and reason.
    **summary
        Changes to the summary.
    """
    rng = np.random.default_rng(len(slides))
    tables = {
        "slicefid": slicefid(factors, truth),
        "distance": distance(factors),
        "paired": scores(factors, channels) if truth else scores((), channels),
        "slides": per_slide(rng, slides, factors, truth),
        "spectra": spectra(factors) if truth else spectra(()),
        "heldout": heldout(factors, channels),
        "heldout_slides": per_slide(rng, slides, factors, True, kid=False),
        "uncertainty": uncertainty(rng, slides, factors),
        "hotspots": hotspots(rng, slides, factors, planes, side, spots),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.insert(0, "cohort", "demo")
        table.to_csv(folder / f"{name}.csv", index=False)
        table.to_parquet(folder / f"{name}.parquet", index=False)
    patients = sorted({patient for _, patient in slides})
    told = {
        "cohort": "demo",
        "protocol": "v2",
        "protocols": ["v2", "paper"],
        "rescalings": ["window", "equalised"],
        "floor": {"by": "patient", "splits": 10},
        "heldout": {
            str(f): {"gap": 2, "note": "Held-out planes are twice as far apart."} for f in factors
        },
        "hotspots": {"std": "Places are squares of 8 pixels."},
        "intervals": f"bootstrap over {len(patients)} patients, 1000 resamples",
        "slides": [slide for slide, _ in slides],
        "patients": patients,
        "factors": list(factors),
        "methods": [*GOOD, *FLOORS],
        "paired_slides": len(slides) if truth else 0,
        "reference_images": 2400,
        "reference_slides": ["v1", "v2"],
        "crop": 32,
        "max_images": 2000,
        "window": {"low": window[0], "high": window[1]},
        "data_range": [21000.0] * len(channels),
        "channels": list(channels),
        "pixel_um": [0.5, 0.5],
        "inception_sha256": "7ff4a85c3a63780011223344",
        "warnings": [],
    }
    (folder / "summary.json").write_text(json.dumps(told | summary))
    write_manifest(folder, Manifest(stage="evaluate", algorithm=2))
    return folder


def methods_of(truth):
    return [m for m in GOOD if m != "truth" or truth]


def slicefid(factors, truth):
    rows = []
    for factor in factors:
        for i, (protocol, rescaling) in enumerate(VIEWS):
            for method in [*methods_of(truth), *FLOORS]:
                values = {"XY": 31.0} if method in FLOORS else _fid(GOOD[method], factor)
                if method == "real":
                    values = {"XY": 26.0}
                for plane, value in values.items():
                    fid = value + 4 * i
                    kid = fid / 2500 - 0.01
                    who = (factor, method, protocol, rescaling, plane)
                    rows += [
                        (*who, "FID", fid, fid * 0.93, fid * 1.08, np.nan, 900),
                        (*who, "KID", kid, kid - 0.002, kid + 0.002, 0.0011, 900),
                        (*who, "MMD", kid / 4, np.nan, np.nan, np.nan, 900),
                    ]
    columns = ["factor", "method", "protocol", "rescaling", "plane", "metric"]
    return pd.DataFrame(rows, columns=[*columns, "value", "low", "high", "se", "n"])


def _fid(good, factor):
    bad = (1 - good) * 30 * factor
    found = {"XY": 30 + bad / 3, "XY generated": 32 + bad / 2, "XZ": 34 + bad, "YZ": 36 + bad}
    return found | {"mean": np.mean([found[plane] for plane in PLANES])}


def distance(factors):
    rows = [
        (
            factor,
            method,
            protocol,
            rescaling,
            step,
            metric,
            scale * (30 + 40 * (1 - good) * step),
            90,
        )
        for factor in factors
        for protocol, rescaling in VIEWS[:2]
        for method, good in GOOD.items()
        for step in range(factor // 2 + 1)
        for metric, scale in (("FID", 1), ("KID", 0.0004))
    ]
    columns = ["factor", "method", "protocol", "rescaling", "distance", "metric", "value", "n"]
    return pd.DataFrame(rows, columns=columns)


def scores(factors, channels, worse=0.0):
    rows = []
    for factor in factors:
        for method in ("nearest", "linear", "msdsr"):
            good = GOOD[method]
            for c, channel in enumerate(("all", *channels)):
                psnr = 36 - 2 * factor + 6 * good - 0.3 * c - worse
                ssim = 1 - 0.08 * factor * (1.2 - good) - 0.01 * c
                found = [
                    (plane, metric, value - 0.1 * i * scale, scale)
                    for metric, value, scale in (("PSNR", psnr, 1), ("SSIM", ssim, 0.02))
                    for i, plane in enumerate((*PLANES, "mean", "3D"))
                ]
                found += [(p, "NRMSE", 10 ** (-psnr / 20), 0.01) for p in ("mean", "3D")]
                found += [(axis, "LSD", 6 * (1.3 - good), 0.4) for axis in "zyx"]
                found += [("z", "LAG1", 0.4 + 0.5 * good, 0.05), ("y", "LAG1", 1.02, 0.02)]
                rows += [
                    (factor, method, plane, channel, metric, v, v - s, v + s, 120)
                    for plane, metric, v, s in found
                ]
    columns = ["factor", "method", "plane", "channel", "metric", "value", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def heldout(factors, channels):
    """Held-out planes are XY planes alone, and there is a ceiling."""
    found = scores(factors, channels, worse=3.0)
    found = found[(found["plane"] == "XY") & found["metric"].isin(["PSNR", "SSIM", "NRMSE"])]
    best = found[(found["method"] == "msdsr") & (found["metric"] == "PSNR")]
    return pd.concat([found, best.assign(method="ceiling", value=best["value"] + 2)])


def per_slide(rng, slides, factors, truth, kid=True):
    rows = []
    for slide, patient in slides:
        luck = rng.normal()
        for factor in factors:
            for method in ("nearest", "linear", "msdsr"):
                who, good = (factor, method, slide, patient), GOOD[method]
                if kid:
                    rows += [(*who, p, "all", "KID", 0.03 - 0.02 * good, 40) for p in PLANES]
                if truth:
                    psnr = 36 - 2 * factor + 6 * good + luck
                    rows.append((*who, "mean", "all", "PSNR", psnr, 80))
                    rows.append((*who, "mean", "all", "SSIM", 0.6 + 0.3 * good, 80))
    columns = ["factor", "method", "slide", "patient", "plane", "channel", "metric", "value", "n"]
    return pd.DataFrame(rows, columns=columns)


def spectra(factors):
    rows = []
    frequency = np.linspace(0.02, 1, 40)
    for factor in factors:
        for method in ("nearest", "linear", "msdsr"):
            for axis in "zyx":
                loss = (1 - GOOD[method]) * factor * (1.0 if axis == "z" else 0.05)
                ratio, agree = np.exp(-loss * frequency**2), np.exp(-2 * loss * frequency)
                for quantity, values in (("power_ratio", ratio), ("frc", agree)):
                    rows += [
                        (factor, method, axis, quantity, f, v, 64)
                        for f, v in zip(frequency, values, strict=True)
                    ]
            shell = np.exp(-factor * (1 - GOOD[method]) * frequency)
            rows += [
                (factor, method, "3D", "fsc", f, v, 2)
                for f, v in zip(frequency, shell, strict=True)
            ]
    columns = ["factor", "method", "axis", "quantity", "frequency", "value", "n"]
    return pd.DataFrame(rows, columns=columns)


def uncertainty(rng, slides, factors):
    rows = [
        (
            factor,
            "msdsr",
            slide,
            patient,
            against,
            level,
            level * 0.8,
            level + rng.normal(0, 0.01),
            0.02 * level * factor,
            0.028 * level * factor,
            4000,
        )
        for slide, patient in slides
        for factor in factors
        for against in ("heldout", "truth")
        for level in LEVELS
    ]
    columns = ["factor", "method", "slide", "patient", "against", "level", "coverage"]
    columns += ["coverage_calibrated", "width", "width_calibrated", "n"]
    return pd.DataFrame(rows, columns=columns)


def hotspots(rng, slides, factors, planes, side, spots):
    rows = []
    for factor in factors:
        for reason, size in (("std", 8), ("distance", 8), ("residual", 8)):
            found = [
                (
                    factor,
                    "msdsr",
                    slide,
                    patient,
                    reason,
                    int(rng.integers(planes)),
                    int(rng.integers(side[0])),
                    int(rng.integers(side[1])),
                    size,
                    rng.random(),
                )
                for slide, patient in slides
                for _ in range(spots)
            ]
            rows += sorted(found, key=lambda row: -row[-1])
    columns = ["factor", "method", "slide", "patient", "reason", "z", "y", "x", "side", "score"]
    return pd.DataFrame(rows, columns=columns)
