"""With a trained network: where tiles and blocks meet, nothing is to be seen."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from msdsr.config import PhantomConfig
from msdsr.diffusion.denoiser import NetworkDenoiser
from msdsr.diffusion.inference import choose_precision
from msdsr.diffusion.network import load_model
from msdsr.phantom.cohort import Slide, microscope
from msdsr.superresolve.engine import Block, Tiling, Walk, restore
from msdsr.superresolve.tiles import layout
from msdsr.volume import Region

MODEL = Path(__file__).parents[2] / "resources/models/phantom-tiny"
PLANES, SLICES, COLUMNS, BORDER, HALO = 20, 12, 176, 88, 64
ABOVE, HEIGHT = 4, 39
STEPS = 6


@pytest.fixture(scope="module")
def known():
    """Twelve XZ slices of synthetic tissue, every second plane, in model units."""
    model = load_model(MODEL)
    settings = PhantomConfig(size=COLUMNS, planes=PLANES)
    scope = microscope(Slide("P09-S1", "P09", "infer", PLANES), settings, "seams", 1)
    raw = scope.acquire(PLANES, np.arange(SLICES), np.arange(COLUMNS))
    clean = torch.zeros(2, 48, SLICES, COLUMNS)
    acquired = torch.zeros(48, dtype=torch.bool)
    acquired[ABOVE : ABOVE + HEIGHT : 2] = True
    clean[:, acquired] = model.transform.forward(
        torch.from_numpy(raw.astype(np.float32)), channel_axis=0
    )
    precision = choose_precision("auto", model.device)
    denoiser = NetworkDenoiser(model, precision, fast=True)
    return denoiser, model.sigma_grid(STEPS), clean, acquired


def restored(known, tiling, x0=0, x1=COLUMNS):
    """Return the generated planes of a part of the columns."""
    denoiser, sigmas, clean, acquired = known
    region = Region(-ABOVE, 48 - ABOVE, 0, SLICES, x0, x1)
    block = Block(clean[..., x0:x1], acquired, region, SLICES, COLUMNS)
    out = restore(denoiser, block, "xz", Walk(sigmas, 1.0, 5), tiling)
    return out[:, ABOVE + 1 : ABOVE + HEIGHT : 2]


def excess(known, generated, seams):
    """Return how much larger steps across seams are than others.

    The same ratio of the acquired planes is divided out: what the tissue itself does there.
    """
    acquired = known[2][:, known[3]]
    at = torch.zeros(COLUMNS - 1, dtype=torch.bool)
    at[list(seams)] = True

    def ratio(volume):
        steps = volume.diff(dim=-1).abs()
        return float(steps[..., at].mean() / steps[..., ~at].mean())

    return ratio(generated) / ratio(acquired)


def flanks(tiling, step, x0=0, x1=COLUMNS):
    """Return the pairs of columns (by their left one) that lie in an overlap of two tiles."""
    region = Region(0, 48, 0, SLICES, x0, x1)
    starts = layout(region, SLICES, COLUMNS, "xz", tiling, 5, step).along
    return {x0 + u for a, b in itertools.pairwise(starts) for u in range(b - 1, a + 48)}


def test_tiles_and_blocks_leave_no_seam(known):
    tiling = Tiling(48, 40, 32)
    left, right = (
        restored(known, tiling, 0, BORDER + HALO),
        restored(known, tiling, BORDER - HALO, COLUMNS),
    )
    whole = torch.cat([left[..., :BORDER], right[..., HALO:]], dim=-1)
    tiles = {u for u in flanks(tiling, STEPS - 1, 0, BORDER + HALO) if u < BORDER - 1}
    tiles |= {u for u in flanks(tiling, STEPS - 1, BORDER - HALO) if u >= BORDER}
    assert 20 < len(tiles) < 80
    assert excess(known, whole, tiles) <= 1.05
    assert excess(known, whole, {BORDER - 1}) <= 1.05


def test_the_measure_sees_seams_where_there_are_any(known):
    """Tiles that neither overlap nor move."""
    tiling = Tiling(48, 48, 32, moving=False)
    generated = restored(known, tiling)
    starts = layout(Region(0, 48, 0, SLICES, 0, COLUMNS), SLICES, COLUMNS, "xz", tiling).along
    assert excess(known, generated, {u - 1 for u in starts[1:3]}) > 1.05
