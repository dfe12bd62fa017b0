"""Every kind of model learns, is released, and is read again."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import UNet2DModel

from msdsr.config import ModelConfig
from msdsr.diffusion.network import load_model
from msdsr.errors import UserError
from msdsr.train import train
from msdsr.train.data import CropSampler, Examples, open_trainset, transform_of
from msdsr.train.distributed import Ranks
from msdsr.train.feed import Feed
from msdsr.train.loop import Learner

ALONE = Ranks(0, 1, torch.device("cpu"))

KINDS = ("ms_unet", "e2e_unet", "rscd_prior", "rscd_calibrator")
NETWORK = {
    "image_size": 16,
    "block_out_channels": [8, 16],
    "attention_levels": [False, True],
    "attention_head_dim": 8,
    "norm_num_groups": 4,
}


def tiny(kind, objective=None, network=None, **optimiser):
    """A recipe of a kind that takes milliseconds a step."""
    return ModelConfig.model_validate(
        {
            "kind": kind,
            "preset": "tiny",
            "cohorts": ["any"],
            "network": NETWORK | (network or {}),
            "objective": objective or {},
            "optimiser": {"images": 32, "batch": 8, "micro_batch": 8, "validate_every": 16}
            | optimiser,
        }
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_trained_released_and_read(trainset, tmp_path, kind, monkeypatch):
    out = tmp_path / "model"
    model = tiny(kind, {"data": "symmetric"} if kind == "rscd_prior" else {})
    train(trainset, out, tmp_path / "work", model=model, seed=3, device="cpu")
    ours = load_model(out, kind=kind)
    assert ours.kind == kind
    assert ours.objective == model.objective
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    theirs = UNet2DModel.from_pretrained(out, use_safetensors=True).eval()
    x, t = torch.randn(1, ours.network.config.in_channels, 16, 16), torch.tensor([0])
    with torch.no_grad():
        assert torch.equal(ours.network(x, t).sample, theirs(x, t).sample)
    with pytest.raises(UserError, match=f"a model of kind {kind}; expected one of kind msdsr"):
        load_model(out, kind="msdsr")


def learn(model, images, members, left, trainset, tmp_path):
    """Teach a model the same few pictures until a part of the first loss is left, or to the end."""
    opened = open_trainset(trainset)
    transform = transform_of(opened, model.objective)
    learner = Learner.new(model, 0, ALONE, transform)
    with Feed(opened, model, 0, transform, ALONE, tmp_path / "images.raw") as feed:
        feed.images, feed.members = images, members
        rows = opened.rows("train", 8).iloc[:1].assign(height=8, width=8)
        feed.sampler = CropSampler(rows, 8)
        losses = []
        for batch in feed.batches(0, model.optimiser.images):
            before = learner.at.loss_sum
            learner.step(batch, False)
            losses.append(learner.at.loss_sum - before)
            if len(losses) > 20 and np.mean(losses[-10:]) < left * np.mean(losses[:3]):
                break
    return np.mean(losses[:3]), np.mean(losses[-10:])


# Parts of the first loss that are left at the end. A single picture is all there is to know for a
# UNet; a judge of noise and a denoiser still have to tell noise from noise.
@pytest.mark.parametrize(
    ("kind", "steps", "left"),
    [
        ("ms_unet", 200, 0.1),
        ("e2e_unet", 150, 0.1),
        ("rscd_prior", 250, 0.1),
        ("rscd_calibrator", 250, 0.3),
    ],
)
def test_every_kind_learns_its_pictures_by_heart(trainset, tmp_path, kind, steps, left):
    model = tiny(
        kind,
        objective={"prediction": "v", "timesteps": 100} if kind == "rscd_prior" else {},
        network={"image_size": 8, "block_out_channels": [16, 32]},
        images=16 * steps,
        batch=16,
        micro_batch=16,
        learning_rate=5e-3,
        warmup=0.05,
    )
    # Pictures that flips and turns leave alone, so that they are three and not twenty-four.
    away = (torch.arange(8) - 3.5) ** 2
    radius = (away[:, None] + away).sqrt()
    rings = [12000 + 8000 * torch.sin(radius + phase) for phase in (0.0, 2.5, 1.2)]
    images = torch.stack(rings).to(torch.int16)[:, None].expand(3, 2, 8, 8)
    members = torch.tensor([[0, 1, 2]]) if kind == "e2e_unet" else torch.tensor([[0]])
    start, end = learn(model, images, members, left, trainset, tmp_path)
    assert end < left * start, (start, end)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_every_kind_is_the_same_however_the_batch_is_cut(trainset, tmp_path, kind):
    ends = []
    for micro_batch in (8, 3):
        model = tiny(kind, micro_batch=micro_batch)
        opened = open_trainset(trainset)
        transform = transform_of(opened, model.objective)
        learner = Learner.new(model, 1, ALONE, transform)
        with Feed(opened, model, 1, transform, ALONE, tmp_path / "images.raw") as feed:
            for batch in feed.batches(0, 16):
                learner.step(batch, False)
        ends.append(torch.cat([p.detach().flatten() for p in learner.network.parameters()]))
    assert float((ends[1] - ends[0]).abs().mean()) < 2e-6


@pytest.mark.slow
def test_two_ranks_learn_middle_planes_as_one_does(trainset, start, tmp_path):
    # A rank's part is a micro-batch of the single rank, and the sum of two has one order only.
    model = tiny("e2e_unet", images=16, micro_batch=4)
    two = start(tmp_path / "two", model, gpus=2)
    one = tmp_path / "one"
    train(trainset, one / "model", one / "work", model=model, seed=3, device="cpu")
    assert two.wait(timeout=300) == 0, two.stderr.read()
    weights = "model/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "two" / weights).read_bytes() == (one / weights).read_bytes()


def test_the_planes_of_an_example_are_neighbours_cropped_alike(trainset, tmp_path):
    """In a set whose planes are x + 100·y + 10000·plane, in both channels."""
    model = tiny("e2e_unet")
    opened = open_trainset(trainset)
    transform = transform_of(opened, model.objective)
    with Feed(opened, model, 2, transform, ALONE, tmp_path / "images.raw") as feed:
        rows = Examples.of(opened.rows("train", 16), 3).rows
        along = torch.arange(40)
        place = along + 100 * along[:, None]
        planes = torch.tensor(rows["plane"].to_numpy())
        feed.images = (place + 10000 * planes[:, None, None])[:, None].expand(-1, 2, 40, 40)
        raw = torch.cat([batch.raw for batch in feed.batches(0, 64)])
    assert raw.shape == (64, 3, 2, 16, 16)
    assert torch.equal(raw[:, 1] - raw[:, 0], torch.full_like(raw[:, 0], 10000.0))
    assert torch.equal(raw[:, 2] - raw[:, 1], torch.full_like(raw[:, 0], 10000.0))
    assert set((raw[:, 1] // 10000).flatten().tolist()) == {1.0}


def index_of(*images):
    """An index of (slide, plane) images of one place."""
    return pd.DataFrame(images, columns=["slide", "plane"]).assign(
        y0=0, x0=0, height=40, width=40, patient="p"
    )


def test_only_whole_stacks_make_examples():
    rows = index_of(("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("a", 4), ("a", 5))
    found = Examples.of(rows, 3)
    assert found.rows["slide"].tolist() == ["a"] * 5
    assert found.members.tolist()[1] == [0, 1, 2]
    assert found.usable.tolist() == [False, True, False, False, False]
    # An index that says what is a stack is believed: three 2D images are none.
    told = Examples.of(rows.assign(stacked=rows["slide"] == "b"), 3)
    assert told.rows["slide"].tolist() == ["b", "b"]
    assert not told.usable.any()
    shuffled = Examples.of(rows.iloc[[2, 0, 1]], 3)
    assert shuffled.members.tolist()[2] == [1, 2, 0]


def test_stacks_are_drawn_with_equal_shares_though_some_patients_have_none():
    rows = index_of(*(("a", k) for k in range(4)), *(("b", k) for k in range(3)), ("c", 0))
    rows = rows.assign(patient=rows["slide"])
    usable = np.array([False, True, True, False, False, True, False, False])
    crops = CropSampler(rows, 16, "patient", usable).draw(8000, torch.Generator().manual_seed(0))
    shares = torch.bincount(crops.image, minlength=8) / 8000
    assert shares.tolist() == pytest.approx([0, 0.25, 0.25, 0, 0, 0.5, 0, 0], abs=0.02)


def test_a_set_without_stacks_teaches_no_middle_planes(trainset, tmp_path):
    opened = open_trainset(trainset)
    flat = replace(opened, index=opened.index[opened.index["plane"] == 0])
    model = tiny("e2e_unet")
    transform = transform_of(opened, model.objective)
    with pytest.raises(UserError, match="no three neighbouring planes of a z-stack"):
        Feed(flat, model, 0, transform, ALONE, tmp_path / "images.raw")
