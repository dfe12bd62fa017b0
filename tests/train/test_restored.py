"""Validation by restoring crops: what it measures, what it costs, and that it disturbs nothing."""

import numpy as np
import pytest
import torch

from msdsr.diffusion.masks import stride_mask
from msdsr.diffusion.network import Model
from msdsr.errors import UserError
from msdsr.metrics.inception import Inception
from msdsr.train import train
from msdsr.train.data import open_trainset, transform_of
from msdsr.train.distributed import Ranks
from msdsr.train.loop import Learner
from msdsr.train.metrics import read_metrics
from msdsr.train.restored import RestoredCrops

ALONE = Ranks(0, 1, torch.device("cpu"))
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def crops(trainset, recipe):
    """Crops of 24 pixels, judged by an untrained network unless told otherwise."""

    def crops(restore=None, features=None, **optimiser):
        settings = recipe(network={"image_size": 24}, restored_crops=6, **optimiser)
        opened = open_trainset(trainset)
        transform = transform_of(opened, settings.objective)
        learner = Learner.new(settings, 1, ALONE, transform)
        model = Model(learner.ema, transform, settings.objective)
        drawn = RestoredCrops.draw(opened, settings, model, 1, features)
        if restore is not None:
            object.__setattr__(drawn, "restore", restore)
        return drawn

    return crops


def copying(x0):
    """The restorer that knows the answer."""
    return lambda clean, observed, first: x0[first : first + len(clean)]


def test_a_perfect_restoration_is_perfect(crops, standin_path):
    drawn = crops(features=Inception(standin_path, "cpu"))
    object.__setattr__(drawn, "restore", copying(drawn.x0))
    figures = drawn.figures()
    assert figures["crops"] == 6
    for factor in (2, 4, 8):
        assert figures[f"ssim_{factor}x"] == pytest.approx(1.0)
        assert figures[f"fid_{factor}x"] == pytest.approx(0.0, abs=1e-3)
    assert figures["ssim"] == pytest.approx(1.0)


def test_linear_interpolation_is_better_than_noise_and_worse_at_higher_factors(crops, standin_path):
    def linear(clean, observed, first):
        rows, out = np.arange(clean.shape[2]), clean.clone()
        for n, seen in enumerate(observed.numpy()):
            for c in range(clean.shape[1]):
                columns = clean[n, c, seen].numpy()
                filled = [np.interp(rows, rows[seen], column) for column in columns.T]
                out[n, c] = torch.from_numpy(np.stack(filled, axis=1))
        return out

    better = crops(linear, Inception(standin_path, "cpu")).figures()
    worse = crops(features=Inception(standin_path, "cpu")).figures()
    assert better["ssim_2x"] > better["ssim_4x"] > better["ssim_8x"]
    assert better["fid_2x"] < better["fid_8x"]
    assert better["ssim"] > worse["ssim"] + 0.1
    assert better["fid"] < worse["fid"]


def test_rows_are_thinned_out_evenly_in_every_phase(crops):
    given = []

    def note(clean, observed, first):
        given.append(observed)
        return clean

    crops(note).figures()
    for factor, masks in zip((2, 4, 8), given, strict=True):
        for n, mask in enumerate(masks):
            assert torch.equal(mask, stride_mask(24, factor, n % factor))


def test_figures_do_not_depend_on_the_batch_and_come_again(crops):
    whole, parts = crops(micro_batch=8), crops(micro_batch=4)
    first = whole.figures()
    assert first == whole.figures()
    assert parts.figures() == pytest.approx(first, abs=1e-5)


def test_without_a_feature_network_there_is_no_fid(crops):
    figures = crops().figures()
    assert [name for name in figures if "fid" in name] == []
    assert -1 <= figures["ssim"] <= 1


def test_it_can_be_switched_off(crops):
    assert crops(validate_restored_every=0) is None


@pytest.fixture(scope="module")
def trained(trainset, recipe, standin_path, tmp_path_factory):
    """A training with restored validation and FID."""
    folder = tmp_path_factory.mktemp("restored")
    manifest = train(
        trainset,
        folder / "model",
        folder / "work",
        model=recipe(images=96, validate_restored_every=32),
        seed=3,
        device="cpu",
        inception=standin_path,
    )
    return folder / "model", manifest


def test_the_diary_and_the_card_have_it(trained):
    folder, manifest = trained
    records = [r for r in read_metrics(folder / "metrics.jsonl") if r["kind"] == "restored"]
    assert [r["images"] for r in records] == [32, 64, 96]
    assert all(r["fid_4x"] > 0 and r["seconds"] > 0 for r in records)
    assert manifest.measured["restored"] == records[-1]
    assert manifest.measured["validation_seconds"] >= sum(r["seconds"] for r in records) - 0.1
    card = (folder / "README.md").read_text()
    row = f"| 4x | {records[-1]['ssim_4x']:.4f} | {records[-1]['fid_4x']:.1f} |"
    assert row in card


def test_validation_changes_no_weight(trained, trainset, recipe, tmp_path):
    train(
        trainset,
        tmp_path / "model",
        tmp_path / "work",
        model=recipe(images=96, validate_restored_every=0, validate_every=10_000, tracking=[]),
        seed=3,
        device="cpu",
    )
    assert (tmp_path / "model" / WEIGHTS).read_bytes() == (trained[0] / WEIGHTS).read_bytes()
    assert not (tmp_path / "model" / "tracking").exists()


def test_a_missing_inception_network_is_said_before_training(trainset, recipe, tmp_path):
    with pytest.raises(UserError, match="msdsr fetch inception"):
        train(
            trainset,
            tmp_path / "model",
            tmp_path / "work",
            model=recipe(),
            seed=3,
            device="cpu",
            inception=tmp_path / "none.pt",
        )
