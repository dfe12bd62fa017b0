"""The training loop: from images seen to images seen, through any stop and any number of ranks."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from msdsr.config import ModelConfig, OptimiserConfig
from msdsr.diffusion.network import Model, build_network
from msdsr.diffusion.transform import DataTransform
from msdsr.errors import UserError
from msdsr.metrics.inception import Inception
from msdsr.train.checkpoint import Progress, newest_state, read_state
from msdsr.train.clerk import STATES, Check, Clerk
from msdsr.train.data import Trainset, open_trainset, transform_of
from msdsr.train.distributed import Ranks, StopRequest
from msdsr.train.feed import Batch, Feed
from msdsr.train.restored import RestoredCrops
from msdsr.train.speed import (
    arithmetic,
    forward_of,
    layout_of,
    out_of_memory_is_clear,
    peak_flops,
    training_flops,
)
from msdsr.train.task import Task, task_of
from msdsr.train.validation import Validation

MAX_NONFINITE = 20
"""Batches in a row without a finite loss after which training gives up."""


@dataclass(frozen=True)
class Job:
    """What is trained, on what, where its work lies, and what FID is taken with, if it is.

    ``plan`` is the fingerprint of all that the result depends on; a state that was saved under
    another is never gone on from.
    """

    trainset: Path
    work: Path
    model: ModelConfig
    seed: int
    inception: Path | None = None
    plan: str = ""


def learning_rate(images: int, settings: OptimiserConfig) -> float:
    """Return the rate of the step that ends at ``images``: linear warm-up, then cosine to 0."""
    warmup = settings.warmup * settings.images
    if images < warmup:
        return settings.learning_rate * images / warmup
    part = (images - warmup) / max(settings.images - warmup, 1.0)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))


def ema_decay(step: int, settings: OptimiserConfig) -> float:
    """Return the moving average's decay at a step: short at first, so that it forgets the start."""
    return min(settings.ema_decay, (1 + step) / (10 + step))


@dataclass
class Learner:
    """A network that learns, its moving average, and how far it is."""

    model: ModelConfig
    ranks: Ranks
    transform: DataTransform
    network: nn.Module
    ema: nn.Module
    forward: nn.Module
    optimiser: torch.optim.AdamW
    task: Task
    plan: str = ""
    at: Progress = field(default_factory=Progress)
    rate: float = 0.0

    @classmethod
    def new(cls, model: ModelConfig, seed: int, ranks: Ranks, transform: DataTransform) -> Learner:
        """Build the network with weights that the seed decides."""
        torch.manual_seed(seed)
        network = build_network(model, len(transform.model_channels))
        network = network.to(ranks.device, memory_format=layout_of(ranks.device))  # type: ignore[call-overload]
        ema = copy.deepcopy(network).requires_grad_(False).eval()
        settings = model.optimiser
        optimiser = torch.optim.AdamW(
            network.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        forward = forward_of(network, model, ranks)
        task = task_of(model)
        return cls(model, ranks, transform, network, ema, forward, optimiser, task)

    def load(self, path: Path) -> None:
        """Go back to a saved state.

        Raises
        ------
        UserError
            When it is the state of another training.
        """
        state = read_state(path, self.ranks.device)
        if state["plan"] != self.plan:
            raise UserError(
                path,
                "saved by a training with another recipe, seed or training set",
                "a state of this training",
                f"move {path.parent} away to start anew",
            )
        self.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.at = Progress(**state["progress"])

    def state(self) -> dict[str, Any]:
        """Return all that a resume needs; the randomness is a function of the images seen.

        Raises
        ------
        UserError
            When a weight, or its average, is not finite: such a state is never saved.
        """
        weights = itertools.chain(self.network.parameters(), self.ema.parameters())
        if not all(bool(torch.isfinite(p).all()) for p in weights):
            raise self._diverged()
        return {
            "plan": self.plan,
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": vars(self.at).copy(),
        }

    def step(self, batch: Batch, stop: bool) -> tuple[float, bool]:
        """Learn from this rank's part of a global batch.

        Gradients are summed over micro-batches and ranks, each weighted with its share of the mean
        that the loss is, so the step is that of the whole batch however it is cut.

        Returns
        -------
        float, bool
            The norm of the gradient, and whether any rank wants to ``stop``: the same on all.
        """
        settings = self.model.optimiser
        self.network.train()
        self.rate = learning_rate(self.at.images + settings.batch, settings)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        total = torch.zeros((), dtype=torch.float64, device=self.ranks.device)
        pieces = list(batch.pieces(settings.micro_batch))
        for number, piece in enumerate(pieces, start=1):
            x0 = self.transform.forward(piece.raw, channel_axis=piece.raw.ndim - 3)
            with self._gradients_stay(number < len(pieces)):
                loss = float(piece.share.sum()) * self.task.loss(
                    self.predict, x0, piece.noise, piece.t, piece.observed
                )
                # DistributedDataParallel takes the mean over ranks; shares want the sum.
                torch.autograd.backward(loss * self.ranks.world)
            total += loss.detach()
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm))
        loss_sum, stops = self.ranks.sum([float(total), float(stop)])
        self._update(loss_sum, norm)
        return norm, stops > 0

    def predict(self, x: Tensor, t: Tensor) -> Tensor:
        """Run the learning network in the precision of the model; float32 out."""
        return self._run(self.forward, x, t)

    def predict_ema(self, x: Tensor, t: Tensor) -> Tensor:
        """Run the averaged network in the precision of the model; float32 out."""
        return self._run(self.ema, x, t)

    def _run(self, network: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        device = self.ranks.device
        with arithmetic(device, self.model.optimiser.precision):
            out: Tensor = network(x.contiguous(memory_format=layout_of(device)), t).sample
        return out.float()

    def _gradients_stay(self, stay: bool) -> contextlib.AbstractContextManager[None]:
        """Add up gradients between ranks only with the last micro-batch."""
        if stay and isinstance(self.forward, DistributedDataParallel):
            return self.forward.no_sync()
        return contextlib.nullcontext()

    def _update(self, loss: float, norm: float) -> None:
        """Apply the gradients and follow with the average, or skip a batch that is not finite."""
        settings = self.model.optimiser
        if math.isfinite(loss) and math.isfinite(norm):
            self.optimiser.step()
            decay = ema_decay(self.at.images // settings.batch, settings)
            with torch.no_grad():
                torch._foreach_lerp_(
                    list(self.ema.parameters()), list(self.network.parameters()), 1 - decay
                )
            self.at.in_a_row = 0
            self.at.loss_sum += loss
            self.at.batches += 1
        else:
            self.at.nonfinite += 1
            self.at.in_a_row += 1
        self.optimiser.zero_grad(set_to_none=True)
        self.at.images += settings.batch
        if self.at.in_a_row >= MAX_NONFINITE:
            raise self._diverged()

    def _diverged(self) -> UserError:
        at = self.at
        return UserError(
            "training",
            f"not finite any more ({at.in_a_row} batches in a row, {at.nonfinite} in all, at image "
            f"{at.images}); the states saved before are sound",
            "a finite loss",
            "lower optimiser.learning_rate, or set optimiser.precision to float32",
        )


def run(job: Job, ranks: Ranks, stop: StopRequest) -> bool:
    """Train, from the newest sound state on.

    Returns
    -------
    bool
        True at the end of the training; False when all ranks left before it, at the same step, with
        everything saved.
    """
    settings, objective = job.model.optimiser, job.model.objective
    trainset = open_trainset(job.trainset)
    transform = transform_of(trainset, objective)
    with contextlib.ExitStack() as stack:
        stack.enter_context(out_of_memory_is_clear(settings, ranks))
        learner = _learner(job, ranks, transform)
        feed = Feed(trainset, job.model, job.seed, transform, ranks, job.work / "images.raw")
        stack.enter_context(feed)
        clerk = stack.enter_context(_clerk(job, learner, trainset)) if ranks.first else None
        for batch in feed.batches(learner.at.images, settings.images):
            wanted = stop.wanted(clerk.reserve if clerk else 0.0)
            norm, leave = learner.step(batch, wanted)
            leave = leave and learner.at.images < settings.images
            if clerk:
                clerk.after_step(norm, learner.rate, leave)
            if leave:
                return False
        if clerk:
            clerk.finish()
    return True


def _learner(job: Job, ranks: Ranks, transform: DataTransform) -> Learner:
    """Return a learner that is where the newest sound state is; a new one where there is none."""
    learner = Learner.new(job.model, job.seed, ranks, transform)
    learner.plan = job.plan
    newest, damaged = ranks.agree(newest_state(job.work / STATES) if ranks.first else None)
    for name in damaged if ranks.first else ():
        print(f"train: {name} is damaged and was put aside", file=sys.stderr, flush=True)
    if newest is not None:
        learner.load(newest)
    return learner


def _clerk(job: Job, learner: Learner, trainset: Trainset) -> Clerk:
    device = learner.ranks.device
    peak = peak_flops(device, job.model.optimiser.precision)
    flops = (training_flops(learner.network), peak * learner.ranks.world) if peak else None
    checks = _checks(job, learner, trainset)
    return Clerk(job.work, job.model.optimiser, learner.at, learner.state, checks, flops)


def _checks(job: Job, learner: Learner, trainset: Trainset) -> list[Check]:
    """Return the validations that the recipe asks for and the validation images allow."""
    settings, device, checks = job.model.optimiser, learner.ranks.device, []
    validation = Validation.draw(trainset, job.model, learner.transform, job.seed, device)
    if validation is not None:
        measure = functools.partial(validation.losses, learner.predict_ema)
        checks.append(Check("validation", settings.validate_every, measure))
    averaged = Model(learner.ema, learner.transform, job.model.objective, kind=job.model.kind)
    wanted = job.inception if settings.validate_restored_every else None
    features = Inception(wanted, device.type) if wanted else None
    crops = RestoredCrops.draw(trainset, job.model, averaged, job.seed, features)
    if crops is not None:
        checks.append(Check("restored", settings.validate_restored_every, crops.figures))
    return checks
