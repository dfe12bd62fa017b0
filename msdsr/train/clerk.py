"""What rank 0 does beside learning: records, validation, resume states, and minding the time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from msdsr.config import OptimiserConfig
from msdsr.progress import Bar, progress
from msdsr.train.checkpoint import Checkpoints, Progress
from msdsr.train.metrics import Diary

STATES = "states"
"""Folder of the resume states in the work folder."""

RECORDS = 1000
"""Training records over the whole length, at most."""


@dataclass(frozen=True)
class Check:
    """A validation that is due every so often, and at the end.

    Attributes
    ----------
    kind
        Its name in the diary: ``validation``, ``restored``.
    every
        Time between two of them (crops seen).
    measure
        Gives its figures; must leave the training as it is.
    """

    kind: str
    every: int
    measure: Callable[[], dict[str, float]]


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
    checks
        The validations; none without validation images.
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
        checks: Sequence[Check],
        flops: tuple[float, float] | None,
    ) -> None:
        self.settings, self.at = settings, at
        self._state, self._checks, self._flops = state, checks, flops
        self._checkpoints = Checkpoints(work / STATES, settings.keep_checkpoints)
        self._diary = Diary(work, at.images, at.checked, settings.tracking)
        self._every = max(settings.batch, settings.images // RECORDS)
        self._saved = self._recorded = at.images
        self._save_seconds = self._step_seconds = self._aside = 0.0
        self._check_seconds: dict[str, float] = {}
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        self._stack.callback(self._diary.close)
        total = self.settings.images
        self._bar = self._stack.enter_context(progress("train", total, "images", self.at.images))
        # A stop may have come between a step and the validation that was due after it.
        self._check_what_is_due()
        self._last_save = self._last_record = self._last_step = time.monotonic()
        self._aside = 0.0
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def reserve(self) -> float:
        """Seconds until all is saved, at most, if the training stops after the coming step."""
        return 2 * (self._step_seconds + self._save_seconds) + sum(self._check_seconds.values())

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
            self._check_what_is_due()
            if time.monotonic() - self._last_save > 60 * self.settings.checkpoint_minutes:
                self.save()
        self._last_step = time.monotonic()

    def finish(self) -> None:
        """Validate and save the end of the training."""
        for check in self._checks:
            if self.at.checked.get(check.kind, 0) < self.at.images:
                self._check(check)
        if self._saved < self.at.images:
            self.save()

    def save(self) -> None:
        """Write a resume state."""
        began = time.monotonic()
        self._checkpoints.save(self.at.images, self._state())
        self._saved = self.at.images
        self._last_save = time.monotonic()
        self._save_seconds = max(self._save_seconds, self._last_save - began)
        self._aside += self._last_save - began

    def _record(self, norm: float, rate: float) -> None:
        """Write the mean loss since the last record, and how fast it goes.

        The time of validations and saves is left out of the speed.
        """
        now = time.monotonic()
        seconds = now - self._last_record - self._aside
        speed = (self.at.images - self._recorded) / max(seconds, 1e-9)
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
        self._recorded, self._last_record, self._aside = self.at.images, now, 0.0

    def _check_what_is_due(self) -> None:
        for check in self._checks:
            checked = self.at.checked.get(check.kind, 0)
            if self.at.images // check.every > checked // check.every:
                self._check(check)

    def _check(self, check: Check) -> None:
        """Validate; before the first time, whose length nobody knows, all is saved."""
        if check.kind not in self._check_seconds and self._saved < self.at.images:
            self.save()
        began = time.monotonic()
        figures = check.measure()
        spent = time.monotonic() - began
        self._diary.write(check.kind, self.at.images, **figures, seconds=round(spent, 2))
        self.at.checked[check.kind] = self.at.images
        self._check_seconds[check.kind] = max(self._check_seconds.get(check.kind, 0.0), spent)
        self._aside += spent
