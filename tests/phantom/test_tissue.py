"""The tissue is a function of (key, absolute voxel), and favours no axis."""

import numpy as np
import pytest

from msdsr.phantom import objects
from msdsr.phantom.noise import derive_key
from msdsr.phantom.objects import Box, Traits
from msdsr.phantom.tissue import Tissue

SIDE = 96
SEEDS = 20
BANDS = 6


def cube(key, start=(0, 0, 0), shape=(24, 40, 40), voxel_um=0.5):
    z, y, x = (np.arange(a, a + n) for a, n in zip(start, shape, strict=True))
    return Tissue(key, voxel_um).sample(z, y, x)


def test_blocks_of_any_cut_join_to_the_same_tissue():
    start, key = (-10, 1000, -25), derive_key("cut")
    whole = cube(key, start)
    z, y, x = (np.arange(a, a + n) for a, n in zip(start, (24, 40, 40), strict=True))
    tissue = Tissue(key, 0.5)
    for rows in (y[:7], y[7:31], y[31:]):
        for columns in (x[:19], x[19:]):
            part = tissue.sample(z, rows, columns)
            at = np.ix_([0, 1], z - start[0], rows - start[1], columns - start[2])
            assert np.array_equal(part, whole[at])
    assert np.array_equal(tissue.sample(z[::4], y, x), whole[:, ::4])


def test_another_key_is_other_tissue():
    first, second = cube(1), cube(2)
    assert abs(np.corrcoef(first[0].ravel(), second[0].ravel())[0, 1]) < 0.3
    assert np.array_equal(first, cube(1))


def test_contrast_is_that_of_the_two_channels():
    """CH2 is dark and CH3 bright in nuclei; both stay in the range of a real detector."""
    key = derive_key("contrast")
    stain = cube(key, shape=(60, 120, 120))
    box = Box(np.array([3.0] * 3), np.array([27.0, 57.0, 57.0]))
    centres = objects.nuclei(key, Traits.draw(key), box).centre
    assert len(centres) > 20
    z, y, x = np.rint(centres / 0.5).astype(int).T
    ch2, ch3 = (np.median(stain[c][z, y, x]) for c in (0, 1))
    everywhere = np.median(stain, axis=(1, 2, 3))
    assert ch2 < 0.8 * everywhere[0]
    assert ch3 > 1.2 * everywhere[1]
    low, high = np.quantile(stain, (0.01, 0.999))
    assert 0.03 < low < 0.1
    assert 0.35 < high < 0.65


def test_nuclei_keep_their_distance_and_their_size():
    key = derive_key("crowd")
    found = objects.nuclei(key, Traits.draw(key), Box(np.zeros(3), np.full(3, 80.0)))
    diameter = 2 * found.radii.mean(axis=1)
    assert np.quantile(diameter, 0.1) > 5
    assert np.quantile(diameter, 0.9) < 9
    gaps = np.linalg.norm(found.centre[:, None] - found.centre[None], axis=2)
    touching = (diameter[:, None] + diameter[None]) / 2
    np.fill_diagonal(gaps, np.inf)
    assert (gaps >= touching).all()


def test_nuclei_do_not_depend_on_the_box():
    key = derive_key("boxes")
    traits = Traits.draw(key)
    whole = objects.nuclei(key, traits, Box(np.zeros(3), np.full(3, 60.0)))
    half = Box(np.zeros(3), np.array([60.0, 30.0, 60.0]))
    part = objects.nuclei(key, traits, half)
    inside = whole.take(half.holds(whole.centre))
    order = [np.lexsort(e.centre.T) for e in (part, inside)]
    assert np.array_equal(part.centre[order[0]], inside.centre[order[1]])
    assert np.array_equal(part.radii[order[0]], inside.radii[order[1]])


def directions(rotations):
    """The mean outer product of a random direction: a third of the unit matrix."""
    axis = rotations[:, :, 0]
    return np.einsum("ni,nj->ij", axis, axis) / len(axis)


def test_orientations_favour_no_direction():
    rotations = objects._rotations(np.random.default_rng(1).random((20_000, 3)))
    eye = np.eye(3)
    assert np.einsum("nij,nkj->nik", rotations, rotations)[0] == pytest.approx(eye, abs=1e-12)
    assert np.linalg.det(rotations) == pytest.approx(np.ones(20_000))
    assert directions(rotations) == pytest.approx(eye / 3, abs=0.01)


def band_powers(stain):
    """Mean power of the slices along each axis, in bands of spatial frequency: (axis, band)."""
    side = stain.shape[0]
    window = np.hanning(side)[:, None] * np.hanning(side)[None, :]
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(side)] * 2))
    band = np.digitize(frequency, np.geomspace(3 / side, 0.5, BANDS + 1))
    powers = []
    for axis in range(3):
        slices = np.moveaxis(stain, axis, 0)[::3]
        slices = (slices - slices.mean(axis=(1, 2), keepdims=True)) * window
        power = (np.abs(np.fft.fft2(slices)) ** 2).mean(axis=0)
        powers.append([power[band == b].mean() for b in range(1, BANDS + 1)])
    return np.array(powers)


def anisotropy(cubes):
    """The largest relative difference of any axis and band from the mean of the axes."""
    ratios = []
    for stain in cubes:
        powers = np.array([band_powers(channel) for channel in stain])
        ratios.append(powers / powers.mean(axis=1, keepdims=True))
    return np.abs(np.mean(ratios, axis=0) - 1).max()


@pytest.fixture(scope="module")
def cubes():
    shape = (SIDE, SIDE, SIDE)
    return [cube(derive_key("isotropy", seed), shape=shape) for seed in range(SEEDS)]


@pytest.mark.slow
def test_slices_of_all_orientations_have_one_power_spectrum(cubes):
    assert anisotropy(cubes) < 0.05


@pytest.mark.slow
def test_a_slight_blur_along_one_axis_would_be_noticed(cubes):
    from scipy.ndimage import gaussian_filter1d

    assert anisotropy([gaussian_filter1d(c, 0.6, axis=1) for c in cubes]) > 0.05


@pytest.mark.slow
def test_slices_of_all_orientations_have_one_histogram(cubes):
    """Slices that share few voxels: every sixteenth, another phase along each axis."""
    bins = np.linspace(0, 0.6, 61)
    for channel in range(2):
        shares = []
        for axis in range(3):
            values = [np.moveaxis(c[channel], axis, 0)[5 * axis :: 16] for c in cubes]
            counts, _ = np.histogram(np.concatenate(values), bins)
            shares.append(counts / counts.sum())
        for share in shares:
            assert 0.5 * np.abs(share - np.mean(shares, axis=0)).sum() < 0.05
