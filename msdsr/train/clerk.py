"""What rank 0 does beside learning: records, validation, resume states, and minding the time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from msdsr.config import OptimiserConfig
from msdsr.progress import Bar, progress
from msdsr.train.checkpoint import Checkpoints, Progress
from msdsr.train.metrics import Diary
from msdsr.train.validation import Validation

STATES = "states"
"""Folder of the resume states in the work folder."""

RECORDS = 1000
"""Training records over the whole length, at most."""


class Clerk:
    """Keeps the books of one training.

    Parameters
    ----------
    work
        Work folder.
    settings
        Section ``optimiser`` of the model.
    at
        Where the training is; shared with the learner.
    state
        Gives the state to save.
    predict
        The averaged network, for validation.
    validation
        None without validation images.
    flops
        Floating-point operations a second of which a part is used: (a crop's training, the peak of
        all devices together); None where the peak is not known.
    """

    def __init__(
        self,
        work: Path,
        settings: OptimiserConfig,
        at: Progress,
        state: Callable[[], dict[str, Any]],
        predict: Callable[[Tensor, Tensor], Tensor],
        validation: Validation | None,
        flops: tuple[float, float] | None,
    ) -> None:
        self.settings, self.at = settings, at
        self._state, self._predict, self._validation, self._flops = (
            state,
            predict,
            validation,
            flops,
        )
        self._checkpoints = Checkpoints(work / STATES, settings.keep_checkpoints)
        self._diary = Diary(work, at.images)
        self._every = max(settings.batch, settings.images // RECORDS)
        self._saved = self._recorded = at.images
        self._save_seconds = self._step_seconds = self._validation_seconds = 0.0
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        self._stack.callback(self._diary.close)
        total = self.settings.images
        self._bar = self._stack.enter_context(progress("train", total, "images", self.at.images))
        # A stop may have come between a step and the validation that was due after it.
        self._validate_if_due()
        self._last_save = self._last_record = self._last_step = time.monotonic()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def reserve(self) -> float:
        """Seconds until all is saved, at most, if the training stops after the coming step."""
        return 2 * (self._step_seconds + self._save_seconds) + self._validation_seconds

    def after_step(self, norm: float, rate: float, leave: bool) -> None:
        """Record, validate and save what is due; only save when all are about to leave."""
        self._step_seconds = max(self._step_seconds, time.monotonic() - self._last_step)
        if self._bar is not None:
            self._bar.advance(self.settings.batch)
        if self.at.images // self._every > self._recorded // self._every:
            self._record(norm, rate)
        if leave:
            self.save()
        else:
            self._validate_if_due()
            if time.monotonic() - self._last_save > 60 * self.settings.checkpoint_minutes:
                self.save()
        self._last_step = time.monotonic()

    def finish(self) -> None:
        """Validate and save the end of the training."""
        if self.at.validated < self.at.images:
            self._validate()
        if self._saved < self.at.images:
            self.save()

    def save(self) -> None:
        """Write a resume state."""
        began = time.monotonic()
        self._checkpoints.save(self.at.images, self._state())
        self._saved = self.at.images
        self._last_save = time.monotonic()
        self._save_seconds = max(self._save_seconds, self._last_save - began)

    def _record(self, norm: float, rate: float) -> None:
        """Write the mean loss since the last record, and how fast it goes."""
        now = time.monotonic()
        speed = (self.at.images - self._recorded) / max(now - self._last_record, 1e-9)
        figures: dict[str, float] = {"learning_rate": rate, "grad_norm": norm}
        if self.at.batches:
            figures["loss"] = self.at.loss_sum / self.at.batches
        figures["images_per_s"] = round(speed, 3)
        if self._flops is not None:
            figures["mfu"] = round(speed * self._flops[0] / self._flops[1], 4)
        if self.at.nonfinite:
            figures["nonfinite_batches"] = self.at.nonfinite
        self._diary.write("train", self.at.images, **figures)
        if self._bar is not None and "loss" in figures:
            mfu = f", MFU {figures['mfu']:.0%}" if "mfu" in figures else ""
            self._bar.note(f"loss {figures['loss']:.4f}{mfu}")
        self.at.loss_sum, self.at.batches = 0.0, 0
        self._recorded, self._last_record = self.at.images, now

    def _validate_if_due(self) -> None:
        every = self.settings.validate_every
        if self.at.images // every > self.at.validated // every:
            self._validate()

    def _validate(self) -> None:
        began = time.monotonic()
        if self._validation is not None:
            figures = self._validation.losses(self._predict)
            self._diary.write("validation", self.at.images, **figures)
        self.at.validated = self.at.images
        spent = time.monotonic() - began
        self._validation_seconds = max(self._validation_seconds, spent)
