"""Places to look at, put where they must be found."""

import numpy as np
import pytest

from msdsr.evaluate import hotspots
from msdsr.evaluate.hotspots import Restored, find_hotspots, place_means
from msdsr.evaluate.sources import Stored
from msdsr.volume.interpolate import interpolate

PEAKS = (1000.0, 1000.0)


@pytest.fixture
def volume():
    """Four acquired planes of a 70 × 90 texture that hardly changes along z, at 4×."""
    rng = np.random.default_rng(1)
    plane = rng.normal(500, 100, (2, 1, 70, 90))
    planes = np.concatenate([plane + rng.normal(0, 1, plane.shape) for _ in range(4)], axis=1)
    return interpolate(planes.astype(np.float32), 4, "linear")


def found(voxels, count=3, side=16, spread=None, tissue=None, names=("CH2", "CH3"), peaks=PEAKS):
    spread = None if spread is None else Stored(spread)
    acquired = list(range(0, voxels.shape[1], 4))
    restored = Restored(Stored(voxels), spread, acquired, names, peaks, tissue)
    places = find_hotspots(restored, side, count)
    return {reason: [p for p in places if p["reason"] == reason] for reason in hotspots.NOTES}


def test_an_object_that_no_neighbour_shows_is_the_worst_residual(volume):
    assert found(volume)["residual"] == []
    volume[1, 6, 20:24, 37:41] = 2500.0  # between the acquired planes 4 and 8
    (first, *_) = found(volume)["residual"]
    assert (first["z"], first["y"], first["x"], first["side"]) == (6, 24, 40, 16)
    high = volume[1, 4].max()
    assert 0 < first["score"] <= np.sqrt(((2500 - 200) / 1000) ** 2 * 16 / 256 / 2)
    assert first["score"] >= np.sqrt(((2500 - high) / 1000) ** 2 * 16 / 256 / 2)


def test_a_shift_within_reach_is_plausible_and_a_jump_is_not(volume):
    volume[:, 6, :, 2:] = volume[:, 4, :, :-2]  # two pixels aside, two planes away
    assert found(volume)["residual"] == []
    volume[:, 5, :, 3:] = volume[:, 4, :, :-3]
    assert found(volume)["residual"][0]["z"] == 5


def test_where_acquired_planes_differ_least_is_known(volume):
    volume[:, 8, 48:64, 16:32] = np.random.default_rng(2).normal(500, 100, (2, 16, 16))
    first, second, _ = found(volume)["distance"]
    assert (first["y"], first["x"]) == (56, 24)
    assert first["z"] in (6, 10)  # between 4 and 8, or 8 and 12
    assert first["score"] == pytest.approx(1, rel=0.2)  # as if of unrelated places
    assert second["score"] < 0.1


def test_spread_samples_and_one_place_a_column(volume):
    spread = np.ones_like(volume)
    spread[:, 5:8, 64:, 80:] = 40.0  # a place that is smaller, at the rim
    spread[:, 9, :16, :16] = 20.0
    first, second, _ = found(volume, spread=spread)["std"]
    assert (first["z"], first["y"], first["x"]) == (5, 67, 85)
    assert first["score"] == pytest.approx(0.04)
    assert (second["z"], second["y"], second["x"], second["score"]) == (
        9, 8, 8, pytest.approx(0.02),
    )  # fmt: skip


def test_background_is_not_looked_at_and_strips_change_nothing(volume, monkeypatch):
    rng = np.random.default_rng(3)
    volume += rng.normal(0, 30, volume.shape).astype(np.float32)
    spread = rng.random(volume.shape).astype(np.float32)
    tissue = np.zeros((70, 90), bool)
    tissue[:32, :40] = True
    whole = found(volume, 20, spread=spread, tissue=tissue)
    for places in whole.values():
        assert places
        assert all(p["y"] < 32 and p["x"] < 48 for p in places)
        assert [p["score"] for p in places] == sorted((p["score"] for p in places), reverse=True)
    monkeypatch.setattr(hotspots, "STRIP_BYTES", 1)
    assert found(volume, 20, spread=spread, tissue=tissue) == whole


def test_where_all_raman_channels_are_there_their_relation_is_checked(volume):
    ch2, ch3 = volume
    voxels = np.stack([ch3 - ch2 + 50.0, ch2, ch3])
    names, peaks = ("CH1", "CH2", "CH3"), (100.0, 1000.0, 1000.0)
    clean = found(voxels, names=names, peaks=peaks)["residual"]
    assert all(place["score"] < 1e-5 for place in clean)
    voxels[0, 7, 32:48, 64:80] += 10.0
    (first, *_) = found(voxels, names=names, peaks=peaks)["residual"]
    assert (first["z"], first["y"], first["x"]) == (7, 40, 72)
    assert first["score"] == pytest.approx(0.1, rel=1e-3)


def test_means_of_places_count_the_pixels_that_are_there():
    values = np.arange(35.0).reshape(5, 7)
    means = place_means(values, 3)
    assert means.shape == (2, 3)
    assert means[0, 0] == values[:3, :3].mean()
    assert means[1, 2] == values[3:, 6:].mean()
