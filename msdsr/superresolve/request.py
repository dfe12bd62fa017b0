"""One call of the stage as data, so that another process can be asked the same."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from msdsr.config import Interpolation, SuperresolveConfig
from msdsr.diffusion.inference import choose_precision
from msdsr.diffusion.network import Model, load_model
from msdsr.errors import UserError
from msdsr.manifest import identity
from msdsr.presets import Kind
from msdsr.superresolve.between import Between
from msdsr.superresolve.blurred import Blurred
from msdsr.superresolve.calibration import read_scales
from msdsr.superresolve.diffused import Diffused
from msdsr.superresolve.filler import Filler
from msdsr.superresolve.interpolated import Interpolated
from msdsr.superresolve.one_pass import OnePass
from msdsr.superresolve.plan import ALGORITHM, NETWORK_METHODS, Task, plan_task
from msdsr.superresolve.sampled import Sampled
from msdsr.superresolve.samples import sample_seed
from msdsr.volume import auto_factor, read_spec
from msdsr.volume.tissue import tissue_mask

INTERPOLATIONS = get_args(Interpolation)
METHODS = (*NETWORK_METHODS, *INTERPOLATIONS)


@dataclass(frozen=True)
class Request:
    """What to fill, and how; the result is a function of it.

    Attributes
    ----------
    volume
        Store of acquired planes.
    method, factor, settings, seed
        See `msdsr.superresolve.superresolve`.
    model
        Folder of a released model, for the methods that need one.
    patches
        The slide's patch table: what it calls background is not given to a network.
    calibration
        Table of `msdsr.superresolve.calibrate`, whose scales the standard deviation is multiplied
        by.
    """

    volume: Path
    method: str
    factor: int | Literal["auto"]
    settings: SuperresolveConfig
    model: Path | None = None
    seed: int = 0
    patches: Path | None = None
    calibration: Path | None = None

    @classmethod
    def of(
        cls,
        volume: str | Path,
        method: str,
        factor: int | Literal["auto"],
        settings: SuperresolveConfig,
        model: str | Path | None = None,
        seed: int = 0,
        patches: str | Path | None = None,
        calibration: str | Path | None = None,
    ) -> Request:
        """Return a request whose paths may be text."""
        paths = (None if p is None else Path(p) for p in (model, patches, calibration))
        folder, table, scales = paths
        return cls(Path(volume), method, factor, settings, folder, seed, table, scales)

    def to_json(self) -> dict[str, Any]:
        """Return the request as JSON values."""
        return {
            "volume": str(self.volume),
            "method": self.method,
            "factor": self.factor,
            "settings": self.settings.model_dump(mode="json"),
            "model": None if self.model is None else str(self.model),
            "seed": self.seed,
            "patches": None if self.patches is None else str(self.patches),
            "calibration": None if self.calibration is None else str(self.calibration),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Request:
        """Return the request that `to_json` told of."""
        settings = SuperresolveConfig.model_validate(values["settings"])
        return cls.of(**values | {"settings": settings})

    def settled(self, device: torch.device) -> Request:
        """Return the request with the device's choice in place of ``precision: auto``.

        What is written down is then what was done, and work that was begun in one arithmetic is not
        gone on with in another.
        """
        if self.method not in NETWORK_METHODS:
            return self
        precision = choose_precision(self.settings.precision, device)
        return dataclasses.replace(
            self, settings=self.settings.model_copy(update={"precision": precision})
        )

    def prepare(self, device: torch.device) -> Prepared:
        """Check the request and load what it needs.

        Raises
        ------
        UserError
            When the volume has too few planes, its channels are not the model's, or a choice is
            unknown.
        """
        network = self._network(device)
        factor = self.factor
        if factor == "auto":
            factor = auto_factor(read_spec(self.volume).voxel, self.volume)
        inputs = {"volume": identity(self.volume)}
        tissue: NDArray[np.bool_] | None = None
        if network is not None:
            inputs["weights"] = network.weights_sha256
            if self.patches is not None and self.settings.background == "interpolate":
                inputs["patches"] = identity(self.patches)
                _, _, rows, columns = read_spec(self.volume).shape
                tissue = tissue_mask(self.patches, (rows, columns))
        task = plan_task(
            self.volume, self.method, factor, self.settings, self.seed, network, tissue
        )
        if self.calibration is not None and task.samples > 1:
            inputs["calibration"] = identity(self.calibration)
            task = dataclasses.replace(task, scales=self._scales(task, inputs["weights"]))
        return Prepared(self, task, network, filler_of(task, network), inputs)

    def _scales(self, task: Task, weights: str) -> tuple[float, ...] | None:
        if self.calibration is None:
            return None
        return read_scales(self.calibration, resolved(task), weights, task.target)

    def _network(self, device: torch.device) -> Model | None:
        """Return the model of a method that needs one."""
        if self.method not in METHODS:
            raise UserError("--method", repr(self.method), ", ".join(METHODS))
        if self.method not in NETWORK_METHODS:
            return None
        if self.model is None:
            raise UserError(
                "--model", "missing", "the folder of a model", f"method {self.method} needs one"
            )
        return load_model(self.model, device, kind=cast("Kind", self.method))


@dataclass(frozen=True)
class Prepared:
    """A request with everything at hand.

    Attributes
    ----------
    inputs
        What stands in the manifest: the volume's identity, the weights' hash.
    """

    request: Request
    task: Task
    network: Model | None
    filler: Filler
    inputs: dict[str, str]

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved settings, with method and factor."""
        return resolved(self.task)

    @property
    def plan(self) -> dict[str, Any]:
        """What work in progress depends on."""
        settings = {k: v for k, v in self.settings.items() if k not in NOT_PLANNED}
        return {
            "stage": "superresolve",
            "algorithm": ALGORITHM,
            "inputs": self.inputs,
            "settings": settings,
            "seed": self.request.seed,
        }


NOT_PLANNED = ("checkpoint_minutes",)
"""Settings of how the work is done, which may change on a resume."""


def resolved(task: Task) -> dict[str, Any]:
    """Return a task's settings, with method and factor."""
    values = task.settings.model_dump(mode="json")
    return {**values, "method": task.method, "factor": task.factor}


def filler_of(task: Task, network: Model | None) -> Filler:
    """Return what fills the planes of a task by its method: samples, blurred if asked for."""
    if network is None:
        return Interpolated(task, cast("Interpolation", task.method))
    fillers = _networks(task, network)
    if task.settings.blur == "gaussian3":
        fillers = [Blurred(task, filler) for filler in fillers]
    return fillers[0] if len(fillers) == 1 else Sampled(task, fillers)


def _networks(task: Task, network: Model) -> list[Filler]:
    """Return the filler of a method with a model, one a sample."""
    if task.method == "ms_unet":
        return [OnePass(task, network)]
    if task.method == "e2e_unet":
        return [Between(task, network)]
    first = Diffused(task, network)
    seeds = [sample_seed(task.seed, k) for k in range(task.samples)]
    return [first, *(first.with_seed(seed) for seed in seeds[1:])]
