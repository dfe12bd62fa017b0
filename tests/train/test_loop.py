import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import msdsr.train.task as task
from msdsr.errors import UserError
from msdsr.train.data import CropSampler, open_trainset, transform_of
from msdsr.train.distributed import Ranks
from msdsr.train.feed import Feed
from msdsr.train.loop import Learner, ema_decay, learning_rate

ALONE = Ranks(0, 1, torch.device("cpu"))


class Apart(Ranks):
    """A rank without its equals, for what needs no word from them."""

    def agree(self, value):
        return value

    def wait(self):
        pass


@pytest.fixture
def make(trainset, feed):
    """A learner and its feed."""

    def make(model, seed=1):
        transform = transform_of(open_trainset(trainset), model.objective)
        return Learner.new(model, seed, ALONE, transform), feed(model, seed=seed)

    return make


@pytest.fixture
def feed(trainset, tmp_path):
    """One rank's stream of batches."""

    def feed(model, ranks=ALONE, seed=1):
        opened = open_trainset(trainset)
        transform = transform_of(opened, model.objective)
        return Feed(opened, model, seed, transform, ranks, tmp_path / "images.raw")

    return feed


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_the_rate_rises_and_falls(recipe):
    settings = recipe(images=1000, warmup=0.1, learning_rate=2.0).optimiser
    rates = [learning_rate(i, settings) for i in range(0, 1001, 50)]
    assert rates[:3] == [0.0, 1.0, 2.0]
    assert rates[11] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)
    assert all(a > b for a, b in itertools.pairwise(rates[2:]))
    assert learning_rate(8, recipe(images=1000, warmup=0.0).optimiser) > 0


def test_the_average_forgets_the_start(recipe):
    settings = recipe(ema_decay=0.99).optimiser
    assert ema_decay(0, settings) == pytest.approx(0.1)
    assert ema_decay(10_000, settings) == 0.99


@pytest.mark.parametrize("loss_rows", ["all", "unobserved"])
def test_a_step_is_the_same_however_the_batch_is_cut(make, recipe, loss_rows):
    losses, ends = [], []
    for micro_batch in (8, 3, 1):
        model = recipe(micro_batch=micro_batch, objective={"loss_rows": loss_rows})
        learner, feed = make(model)
        for batch in feed.batches(0, 16):
            learner.step(batch, False)
        losses.append(learner.at.loss_sum)
        ends.append(weights(learner.network))
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    for end in ends[1:]:
        assert float((end - ends[0]).abs().mean()) < 2e-6


def test_ranks_share_a_batch_and_its_loss(feed, recipe):
    model = recipe(batch=10, micro_batch=4)
    whole = next(feed(model).batches(0, 10))
    parts = [
        next(feed(model, Apart(rank, 3, torch.device("cpu"))).batches(0, 10)) for rank in range(3)
    ]
    assert [len(part.t) for part in parts] == [3, 3, 4]
    assert torch.equal(torch.cat([part.raw for part in parts]), whole.raw)
    assert torch.equal(torch.cat([part.noise for part in parts]), whole.noise)
    assert torch.equal(torch.cat([part.observed for part in parts]), whole.observed)
    assert float(sum(part.share.sum() for part in parts)) == pytest.approx(1.0)


def test_batches_ahead_are_the_same_batches(feed, recipe):
    stream = feed(recipe())
    plain = list(stream.batches(8, 40))
    stream._pool = ThreadPoolExecutor(1)
    with stream:
        ahead = list(stream.batches(8, 40))
    assert len(plain) == len(ahead) == 4
    for one, other in zip(plain, ahead, strict=True):
        assert torch.equal(one.raw, other.raw)
        assert torch.equal(one.noise, other.noise)


def test_more_ranks_than_crops_are_refused(feed, recipe):
    with pytest.raises(UserError, match=r"optimiser\.batch"):
        feed(recipe(batch=2), Apart(0, 3, torch.device("cpu")))


def test_crops_larger_than_every_image_are_refused(make, recipe):
    with pytest.raises(UserError, match="no training image holds a crop of 64"):
        make(recipe(network={"image_size": 64}))


def test_the_average_follows_the_weights(make, recipe):
    learner, feed = make(recipe(ema_decay=0.5))
    average = weights(learner.ema)
    for step, batch in enumerate(feed.batches(0, 24)):
        learner.step(batch, False)
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weights(learner.network)
    torch.testing.assert_close(weights(learner.ema), average)


def test_bfloat16_learns_in_float32(make, recipe):
    exact, feed = make(recipe(precision="float32"))
    rough, _ = make(recipe(precision="bfloat16"))
    batch = next(feed.batches(0, 8))
    exact.step(batch, False)
    rough.step(batch, False)
    assert {p.dtype for p in rough.network.parameters()} == {torch.float32}
    assert {p.dtype for p in rough.ema.parameters()} == {torch.float32}
    assert rough.at.loss_sum != exact.at.loss_sum
    assert rough.at.loss_sum == pytest.approx(exact.at.loss_sum, rel=0.02)


class Spoilt:
    """The training loss, but not finite at some calls."""

    def __init__(self, bad):
        self.calls, self.bad, self.true = 0, bad, task.training_loss

    def __call__(self, *arguments):
        self.calls += 1
        value = self.true(*arguments)
        return value * math.nan if self.calls in self.bad else value


def test_a_batch_that_is_not_finite_is_skipped_and_counted(make, recipe, monkeypatch):
    learner, feed = make(recipe())
    monkeypatch.setattr(task, "training_loss", Spoilt({2, 3}))
    seen = []
    for batch in feed.batches(0, 40):
        learner.step(batch, False)
        seen.append(weights(learner.network))
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2])
    assert not torch.equal(seen[2], seen[3])
    assert (learner.at.nonfinite, learner.at.in_a_row, learner.at.batches) == (2, 0, 3)
    assert learner.at.images == 40
    assert bool(torch.isfinite(seen[-1]).all())


def test_training_gives_up_after_twenty_in_a_row(make, recipe, monkeypatch):
    learner, feed = make(recipe(images=400))
    monkeypatch.setattr(task, "training_loss", Spoilt(set(range(5, 100))))
    message = r"20 batches in a row.*lower optimiser\.learning_rate"
    with pytest.raises(UserError, match=message):
        _ = [learner.step(batch, False) for batch in feed.batches(0, 400)]
    assert learner.at.images == (4 + 20) * 8


@pytest.mark.parametrize("part", ["network", "ema"])
def test_weights_that_are_not_finite_are_never_saved(make, recipe, part):
    learner, _ = make(recipe())
    with torch.no_grad():
        next(getattr(learner, part).parameters())[0] = math.inf
    with pytest.raises(UserError, match="not finite"):
        learner.state()


def test_one_image_is_learnt_by_heart(trainset, recipe, tmp_path):
    model = recipe(
        network={"image_size": 8, "block_out_channels": [16, 32]},
        objective={"masks": "paper", "prediction": "v", "timesteps": 100},
        images=16 * 450,
        batch=16,
        micro_batch=16,
        learning_rate=5e-3,
        warmup=0.05,
    )
    opened = open_trainset(trainset)
    transform = transform_of(opened, model.objective)
    learner = Learner.new(model, 0, ALONE, transform)
    with Feed(opened, model, 0, transform, ALONE, tmp_path / "images.raw") as feed:
        # A picture that flips and turns leave alone, so that it is one picture and not eight.
        away = (torch.arange(8) - 3.5) ** 2
        rings = 12000 + 8000 * torch.sin((away[:, None] + away).sqrt())
        feed.images = rings.to(torch.int16).expand(1, 2, 8, 8)
        rows = opened.rows("train", 8).iloc[:1].assign(height=8, width=8)
        feed.sampler = CropSampler(rows, 8)
        losses = []
        for batch in feed.batches(0, model.optimiser.images):
            before = learner.at.loss_sum
            learner.step(batch, False)
            losses.append(learner.at.loss_sum - before)
    start, end = sum(losses[:3]) / 3, sum(losses[-20:]) / 20
    assert end < 0.1 * start, (start, end)
