"""The engine with exact scores: what it gets wrong is how slices are brought together."""

import itertools
import math

import pytest
import torch

from msdsr.diffusion.noise import NoiseField
from msdsr.diffusion.schedule import CosineSchedule
from msdsr.phantom.gaussian import GaussianField, SliceDenoiser, frechet_by_plane
from msdsr.superresolve.engine import Block, Tiling, Walk, planes_of_step, restore
from msdsr.volume import Region

SIDE, FACTOR, FIELDS = 48, 4, 3
OBSERVED = torch.arange(SIDE) % FACTOR == 0


def block(truth, observed):
    clean = truth[None].float()
    side = len(observed)
    return Block(clean, observed, Region(0, side, 0, side, 0, side), side, side)


def grid(steps):
    return CosineSchedule().sigma_grid(steps, 80.0, 0.01)


@pytest.fixture(scope="module")
def field():
    return GaussianField(SIDE, 4.0, "smooth")


@pytest.fixture(scope="module")
def distances(field):
    """Slice-mean relative Fréchet distances ×10³, by mode and steps."""
    generator = torch.Generator().manual_seed(0)
    truths = [field.sample(generator) for _ in range(FIELDS)]
    denoiser = SliceDenoiser(field, OBSERVED)

    def restored(mode, steps, strength=0.0):
        volumes = [
            restore(
                denoiser, block(truth, OBSERVED), mode,
                Walk(grid(steps), 1.0, seed, 2.0, strength), Tiling(SIDE, SIDE, 64),
            )[0]
            for seed, truth in enumerate(truths)
        ]  # fmt: skip
        return frechet_by_plane(field, torch.stack(volumes).double())["mean"]

    exact = torch.stack([field.posterior(t, OBSERVED, generator) for t in truths])
    return {
        "posterior": frechet_by_plane(field, exact)["mean"],
        "xz 60": restored("xz", 60),
        "average 60": restored("average", 60),
        "joint 60": restored("joint", 60),
        "alternate 60": restored("alternate", 60),
        "alternate 20": restored("alternate", 20),
        "correlated 20": restored("alternate", 20, 0.5),
    }


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        # A test bed with another implementation, two to four fields, ±3.
        ("posterior", 8.7), ("xz 60", 27), ("average 60", 16.3), ("alternate 60", 12.1),
        ("alternate 20", 13.3), ("correlated 20", 9.6),
    ],
)  # fmt: skip
def test_every_mode_is_as_far_from_the_truth_as_it_must_be(distances, way, expected):
    assert distances[way] == pytest.approx(expected, abs=4)


def test_slices_that_know_of_each_other_are_nearer_the_truth(distances):
    # Two fifths of the average's excess over the exact posterior, and less with correlated noise.
    excess = {way: distances[way] - distances["posterior"] for way in distances}
    assert excess["xz 60"] > 1.5 * excess["average 60"] > 0
    assert excess["alternate 60"] < 0.6 * excess["average 60"]
    assert excess["alternate 20"] < 0.7 * excess["average 60"]
    assert excess["correlated 20"] < 0.7 * excess["alternate 20"]
    # Turns are as good as both at a time, which costs twice the evaluations.
    assert distances["alternate 60"] == pytest.approx(distances["joint 60"], abs=0.3)


class Columns:
    """The exact denoiser of a field whose columns are independent: it may be shown any tile."""

    def __init__(self, observed):
        places = torch.arange(len(observed), dtype=torch.float64)
        covariance = torch.exp(-0.5 * ((places[:, None] - places) / 2.0) ** 2)
        covariance += 0.02 * torch.eye(len(observed), dtype=torch.float64)
        within, between = covariance[observed][:, observed], covariance[~observed][:, observed]
        self.gain = between @ torch.linalg.inv(within)
        self.spread = covariance[~observed][:, ~observed] - self.gain @ between.T

    def __call__(self, x, sigma, clean, observed):
        noise = sigma**2 * torch.eye(len(self.spread), dtype=torch.float64)
        wiener = self.spread @ torch.linalg.inv(self.spread + noise)
        mean = torch.einsum("uo,ncow->ncuw", self.gain, clean[:, :, observed].double())
        x0 = clean.clone()
        rest = x[:, :, ~observed].double() - mean
        x0[:, :, ~observed] = (mean + torch.einsum("uv,ncvw->ncuw", wiener, rest)).float()
        return x0


def restore_untiled(denoiser, known, mode, walk):
    """The walk with whole slices in place of tiles, written out."""
    if mode == "average":
        return sum(restore_untiled(denoiser, known, p, walk) for p in ("xz", "yz")) / 2
    field, r = NoiseField(2 * walk.seed + (mode == "yz")), known.region
    where = (r.z0, r.z1, r.y0, r.y1, r.x0, r.x1)
    rows = known.acquired[:, None, None]
    x = torch.where(rows, known.clean, walk.sigmas[0] * field.normal(0, 1, where))
    for i, (s, s_next) in enumerate(itertools.pairwise(walk.sigmas)):
        estimates = []
        for plane in planes_of_step(mode, i, walk.seed):
            order = (2, 0, 1, 3) if plane == "xz" else (3, 0, 1, 2)
            x_NCZU, clean_NCZU = x.permute(order), known.clean.permute(order)
            x0 = denoiser(x_NCZU, s, clean_NCZU, known.acquired)
            estimates.append(x0.permute((1, 2, 0, 3) if plane == "xz" else (1, 2, 3, 0)))
        x0 = sum(estimates) / len(estimates)
        following = planes_of_step(mode, i + 1, walk.seed)
        if s_next == 0 or len(following) > 1:
            noise = field.normal(i + 1, 1, where)
        else:
            across = {"xz": "y", "yz": "x"}[following[0]]
            given = (across, walk.noise_length, walk.noise_strength)
            noise = field.correlated(i + 1, 1, where, *given)
        up = math.sqrt(s_next**2 * (s**2 - s_next**2) / s**2)
        down = math.sqrt(s_next**2 - up**2)
        x = torch.where(rows, known.clean, x0 + down * (x - x0) / s + up * noise)
    return x


@pytest.mark.parametrize("mode", ["xz", "yz", "average", "joint", "alternate"])
@pytest.mark.parametrize("stride", [1, 5, 12])
def test_tiles_change_nothing_where_the_denoiser_needs_one_column(mode, stride):
    """Stride 1 is full overlap: a pixel is the mean of all the tiles that can show it."""
    size, rows, columns = 12, 17, 22
    observed = torch.arange(size) % 4 == 0
    clean = torch.randn(1, size, rows, columns, generator=torch.Generator().manual_seed(2))
    known = Block(clean, observed, Region(0, size, 0, rows, 0, columns), rows, columns)
    walk = Walk(grid(6), 1.0, 3, 2.0, 0.5)
    tiled = restore(Columns(observed), known, mode, walk, Tiling(size, stride, 40))
    untiled = restore_untiled(Columns(observed), known, mode, walk)
    torch.testing.assert_close(tiled, untiled, rtol=1e-5, atol=1e-5)
