"""Algorithm 1 and Eq. 9 by hand, and what tiling may and may not change."""

import itertools
import math

import pytest
import torch

from msdsr.diffusion.noise import NoiseField
from msdsr.diffusion.sampler import restore_slices
from msdsr.superresolve.engine import Block, Tiling, Walk, count_walk, restore
from msdsr.volume import Region

SIZE = 8
SIGMAS = (5.0, 2.0, 0.7, 0.2, 0.0)


def toy(x, sigma, clean, observed):
    """Any function of one image alone that mixes all of it."""
    rows = torch.where(observed[:, None], clean, x / math.hypot(1, sigma))
    return torch.tanh(rows + 0.3 * rows.mean(dim=(-2, -1), keepdim=True) + rows.roll(1, -1))


def block(height=SIZE, rows=SIZE, columns=SIZE, factor=2, channels=2, z0=0):
    generator = torch.Generator().manual_seed(1)
    clean = torch.randn(channels, height, rows, columns, generator=generator)
    acquired = torch.zeros(height, dtype=torch.bool)
    acquired[::factor] = True
    region = Region(z0, z0 + height, 0, rows, 0, columns)
    return Block(clean, acquired, region, rows, columns)


def by_hand(known, plane, seed):
    """Algorithm 1 with a loop over single slices; noise from the same field."""
    field = NoiseField(2 * seed + ("xz", "yz").index(plane))
    r = known.region
    where = (r.z0, r.z1, r.y0, r.y1, r.x0, r.x1)
    noise = [field.normal(i, known.clean.shape[0], where) for i in range(len(SIGMAS))]
    out = torch.empty_like(known.clean)
    axis = 2 if plane == "xz" else 3
    for i in range(known.clean.shape[axis]):
        c = known.clean.select(axis, i)
        x = SIGMAS[0] * noise[0].select(axis, i)
        x[:, known.acquired] = c[:, known.acquired]
        for step, (s, s_next) in enumerate(itertools.pairwise(SIGMAS), start=1):
            x0 = toy(x[None], s, c[None], known.acquired)[0]
            x0[:, known.acquired] = c[:, known.acquired]
            up = math.sqrt(s_next**2 * (s**2 - s_next**2) / s**2)
            down = math.sqrt(s_next**2 - up**2)
            x = x0 + down * (x - x0) / s + up * noise[step].select(axis, i)
            x[:, known.acquired] = c[:, known.acquired]
        out.select(axis, i).copy_(x)
    return out


@pytest.mark.parametrize("plane", ["xz", "yz"])
def test_slices_that_fit_one_tile_are_algorithm_1(plane):
    known = block()
    tiled = restore(toy, known, plane, Walk(SIGMAS, 1.0, 3), Tiling(SIZE, 6, 4))
    torch.testing.assert_close(tiled, by_hand(known, plane, 3), rtol=1e-5, atol=1e-5)


def test_acquired_planes_are_kept_bit_for_bit():
    known = block(rows=11, columns=19)
    out = restore(toy, known, "xz", Walk(SIGMAS, 1.0, 0), Tiling(SIZE, 6, 4))
    assert torch.equal(out[:, known.acquired], known.clean[:, known.acquired])


@pytest.mark.parametrize("plane", ["xz", "yz"])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_batch_size_changes_nothing(plane, batch):
    known = block(rows=13, columns=20)
    one = restore(toy, known, plane, Walk(SIGMAS, 1.0, 5), Tiling(SIZE, 6, 7))
    other = restore(toy, known, plane, Walk(SIGMAS, 1.0, 5), Tiling(SIZE, 6, batch))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_planes_and_seeds_have_noise_of_their_own():
    known = block()
    walk = Walk(SIGMAS, 1.0, 5)
    tiling = Tiling(SIZE, 6, 7)
    xz = restore(toy, known, "xz", walk, tiling)
    assert torch.equal(xz, restore(toy, known, "xz", walk, tiling))
    assert not torch.equal(xz, restore(toy, known, "xz", Walk(SIGMAS, 1.0, 6), tiling))
    assert not torch.equal(xz, restore(toy, known, "yz", walk, tiling))


def shared_by_hand(known, seed, planes, noise):
    """One x_t over the whole block; each orientation's slices one at a time."""
    x = torch.where(known.acquired[:, None, None], known.clean, SIGMAS[0] * noise[0])
    for step, (s, s_next) in enumerate(itertools.pairwise(SIGMAS)):
        estimates = []
        for plane in planes(step):
            axis = 2 if plane == "xz" else 3
            x0 = torch.empty_like(x)
            for i in range(x.shape[axis]):
                given = (x.select(axis, i)[None], s, known.clean.select(axis, i)[None])
                x0.select(axis, i).copy_(toy(*given, known.acquired)[0])
            estimates.append(torch.where(known.acquired[:, None, None], known.clean, x0))
        x0 = sum(estimates) / len(estimates)
        up = math.sqrt(s_next**2 * (s**2 - s_next**2) / s**2)
        down = math.sqrt(s_next**2 - up**2)
        x = x0 + down * (x - x0) / s + up * noise[step + 1]
        x = torch.where(known.acquired[:, None, None], known.clean, x)
    return x


def white(known, seed):
    field, r = NoiseField(2 * seed), known.region
    where = (r.z0, r.z1, r.y0, r.y1, r.x0, r.x1)
    return [field.normal(i, known.clean.shape[0], where) for i in range(len(SIGMAS))]


@pytest.mark.parametrize("seed", [2, 3])
def test_alternate_takes_turns_on_one_volume(seed):
    known = block()
    out = restore(toy, known, "alternate", Walk(SIGMAS, 1.0, seed), Tiling(SIZE, 6, 4))

    def planes(step):
        return [("xz", "yz")[(step + seed) % 2]]

    expected = shared_by_hand(known, seed, planes, white(known, seed))
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_joint_takes_the_mean_of_both_in_every_step():
    known = block()
    out = restore(toy, known, "joint", Walk(SIGMAS, 1.0, 4), Tiling(SIZE, 6, 4))
    expected = shared_by_hand(known, 4, lambda step: ["xz", "yz"], white(known, 4))
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_average_is_the_mean_of_two_walks():
    known, walk, tiling = block(), Walk(SIGMAS, 1.0, 4), Tiling(SIZE, 6, 4)
    parts = [restore(toy, known, plane, walk, tiling) for plane in ("xz", "yz")]
    out = restore(toy, known, "average", walk, tiling)
    torch.testing.assert_close(out, (parts[0] + parts[1]) / 2)


def test_correlated_noise_lies_across_the_slices_that_come_next():
    known, seed = block(), 2
    walk = Walk(SIGMAS, 1.0, seed, noise_length=1.5, noise_strength=0.5)
    out = restore(toy, known, "alternate", walk, Tiling(SIZE, 6, 4))
    field, r = NoiseField(2 * seed), known.region
    where = (r.z0, r.z1, r.y0, r.y1, r.x0, r.x1)
    noise = white(known, seed)
    for level in range(1, len(SIGMAS)):
        axis = "yx"[(level + seed) % 2]  # XZ slices come next: across them is y
        noise[level] = field.correlated(level, 2, where, axis, 1.5, 0.5)
    expected = shared_by_hand(known, seed, lambda s: [("xz", "yz")[(s + seed) % 2]], noise)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def pixelwise(x, sigma, clean, observed):
    """A denoiser without context: its tiles must blend into what it gives untiled."""
    return torch.where(observed[:, None], clean, x / (1 + sigma**2))


@pytest.mark.parametrize("stride", [4, 6, 8])
def test_tiles_blend_into_the_untiled_result(stride):
    known = block(height=20, rows=10, columns=30)
    tiled = restore(pixelwise, known, "xz", Walk(SIGMAS, 1.0, 2), Tiling(SIZE, stride, 16))
    field = NoiseField(4)
    x = SIGMAS[0] * field.normal(0, 2, (0, 20, 0, 10, 0, 30))
    for step, (s, s_next) in enumerate(itertools.pairwise(SIGMAS), start=1):
        x0 = x / (1 + s**2)
        up = math.sqrt(s_next**2 * (s**2 - s_next**2) / s**2)
        down = math.sqrt(s_next**2 - up**2)
        x = x0 + down * (x - x0) / s + up * field.normal(step, 2, (0, 20, 0, 10, 0, 30))
    expected = torch.where(known.acquired[:, None, None], known.clean, x)
    torch.testing.assert_close(tiled, expected, rtol=1e-5, atol=1e-5)


def test_two_blocks_with_a_halo_meet_as_one():
    """The noise is one field and the tiles stand at the same places."""
    whole = block(height=SIZE, rows=8, columns=60)
    walk, tiling = Walk(SIGMAS, 1.0, 2), Tiling(SIZE, 6, 16)
    together = restore(pixelwise, whole, "xz", walk, tiling)
    for x0, x1 in ((0, 40), (24, 60)):
        part = Block(whole.clean[..., x0:x1], whole.acquired, Region(0, SIZE, 0, 8, x0, x1), 8, 60)
        out = restore(pixelwise, part, "xz", walk, tiling)
        torch.testing.assert_close(out, together[..., x0:x1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("plane", "eta"), [("xz", 1.0), ("yz", 0.0)])
def test_order_2_is_the_multistep_of_the_sampler(plane, eta):
    known, axis = block(), 2 if plane == "xz" else 3
    field = NoiseField(6 + (plane == "yz"))

    def slices(volume):
        return volume.movedim(axis, 0)

    def noise(i):
        return slices(field.normal(i, 2, (0, SIZE, 0, SIZE, 0, SIZE)))

    expected = restore_slices(toy, slices(known.clean), known.acquired, noise, SIGMAS, eta, order=2)
    out = restore(toy, known, plane, Walk(SIGMAS, eta, 3, order=2), Tiling(SIZE, 6, 4))
    torch.testing.assert_close(slices(out), expected, rtol=1e-5, atol=1e-5)
    first = restore(toy, known, plane, Walk(SIGMAS, eta, 3), Tiling(SIZE, 6, 4))
    assert not torch.allclose(out, first, atol=1e-3)


@pytest.mark.parametrize("order", [1, 2])
def test_joint_of_two_equal_denoisers_is_either(order):
    """A denoiser that treats both orientations alike, on one field of noise."""
    known, walk = block(), Walk(SIGMAS, 1.0, 3, order=order)
    joint = restore(pixelwise, known, "joint", walk, Tiling(SIZE, 6, 4))
    one = restore(pixelwise, known, "xz", walk, Tiling(SIZE, 6, 4))
    torch.testing.assert_close(joint, one)


def test_order_2_needs_one_denoiser():
    with pytest.raises(ValueError, match="alternate has two"):
        restore(toy, block(), "alternate", Walk(SIGMAS, 1.0, 0, order=2), Tiling(SIZE, 6, 4))


def test_tiles_move_from_step_to_step():
    """Three walks that differ in nothing but where the tiles stand differ near seams only."""
    known = block(rows=4, columns=29)
    walk = Walk((5.0, 0.5, 0.0), 0.0, 2)
    still = restore(toy, known, "xz", walk, Tiling(SIZE, 6, 16, moving=False))
    moving = restore(toy, known, "xz", walk, Tiling(SIZE, 6, 16))
    assert not torch.allclose(still, moving, atol=1e-3)
    whole = block(rows=4, columns=SIZE)  # one tile has nowhere to go
    still = restore(toy, whole, "xz", walk, Tiling(SIZE, 6, 16, moving=False))
    assert torch.equal(still, restore(toy, whole, "xz", walk, Tiling(SIZE, 6, 16)))


@pytest.mark.parametrize("mode", ["xz", "average", "alternate", "joint"])
def test_the_count_is_what_is_done(mode):
    known, walk, tiling = (
        block(height=21, rows=11, columns=30),
        Walk(SIGMAS, 1.0, 5),
        Tiling(SIZE, 6, 7),
    )
    done = []
    restore(toy, known, mode, walk, tiling, done.append)
    assert sum(done) == count_walk(known.region, 11, 30, mode, walk, tiling)
