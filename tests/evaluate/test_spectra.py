import numpy as np
import pytest

from msdsr.evaluate.sources import Stored
from msdsr.evaluate.spectra import BINS, spectral_values

SPACING = (0.5, 0.5, 0.5)


def curves(restored, truth, spacing=SPACING):
    found = {}
    for v in spectral_values(Stored(restored), Stored(truth), spacing):
        found.setdefault((v.axis, v.quantity), []).append((v.frequency, v.value))
    return {key: np.array(sorted(rows)).T for key, rows in found.items()}


def test_the_truth_itself_is_perfect(textured):
    truth = textured((2, 24, 30, 36))
    found = curves(truth, truth)
    assert set(found) == {(a, q) for a in "zyx" for q in ("power_ratio", "frc")} | {("3D", "fsc")}
    for frequency, value in found.values():
        np.testing.assert_allclose(value, 1)
        assert 0 < frequency.min() < frequency.max() < 1


def test_a_volume_interpolated_along_z_lacks_detail_along_z_alone(rng):
    truth = rng.integers(0, 60000, (1, 41, 40, 40)).astype(np.uint16)
    smooth = truth.copy()
    smooth[:, 1:-1:2] = ((truth[:, :-1:2].astype(float) + truth[:, 2::2]) / 2).astype(np.uint16)
    found = curves(smooth, truth)
    assert found["z", "power_ratio"][1][-1] < 0.45
    np.testing.assert_allclose(found["x", "power_ratio"][1], 0.75, atol=0.1)


def test_detail_out_of_place_has_power_and_no_correlation(rng):
    one, other = (rng.integers(0, 60000, (1, 32, 32, 32)).astype(np.uint16) for _ in range(2))
    found = curves(one, other)
    np.testing.assert_allclose(found["y", "power_ratio"][1], 1, atol=0.2)
    assert np.abs(found["3D", "fsc"][1][4:]).max() < 0.15


@pytest.mark.parametrize("planes", [24, 37])
def test_slides_of_any_size_have_the_same_bands(textured, planes):
    truth = textured((1, planes, 40, 40))
    frequency = curves(truth, truth)["z", "power_ratio"][0]
    bands = (np.arange(BINS) + 0.5) / BINS
    assert set(frequency) <= {round(float(b), 9) for b in bands}


def test_thin_volumes_have_what_can_be_had(textured):
    truth = textured((1, 5, 30, 30))
    assert set(curves(truth, truth)) == {(axis, "power_ratio") for axis in "zyx"}
