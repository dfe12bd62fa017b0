import numpy as np
import pytest
from scipy import stats

from msdsr.phantom.noise import (
    derive_key,
    hashed,
    lattice_noise,
    lattice_noise_at,
    normal,
    uniform,
)


def test_keys_and_hashes_stay_what_they_are():
    """Every slide ever made hangs on these numbers."""
    assert derive_key(2024, "demo", "P01") == 16573566073728546033
    bits = hashed(5, np.arange(-1, 2), np.array([7]))
    assert bits.tolist() == [63907927746547993, 10179474030873375950, 16445695124308541880]


def test_uniform_and_normal_follow_their_laws():
    bits = hashed(derive_key("law"), np.arange(200_000))
    assert stats.kstest(uniform(bits), "uniform").pvalue > 1e-3
    values = normal(bits)
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01


def test_neighbours_are_not_correlated():
    field = normal(hashed(3, *np.meshgrid(*[np.arange(60)] * 3, indexing="ij")))
    for axis in range(3):
        shifted = np.roll(field, 1, axis)
        assert abs(np.mean(field * shifted)) < 0.01


def test_lattice_noise_has_zero_mean_and_unit_variance():
    axes = [np.arange(120) * 0.5 for _ in range(3)]
    field = lattice_noise(11, 1.7, axes)
    assert abs(field.mean()) < 0.03
    assert abs(field.std() - 1) < 0.03


def test_points_and_grid_are_one_field():
    axes = [np.array([-3.25, 0.0, 8.5]), np.array([1.0, 2.5]), np.array([-40.0, 0.25])]
    grid = lattice_noise(9, 2.2, axes)
    points = np.array(np.meshgrid(*axes, indexing="ij")).reshape(3, -1).T
    assert lattice_noise_at(9, 2.2, points) == pytest.approx(grid.ravel(), abs=1e-5)
