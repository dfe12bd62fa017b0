"""One call of the stage as data, so that another process can be asked the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from msdsr.superresolve.diffused import Diffused
from msdsr.superresolve.filler import Filler
from msdsr.superresolve.interpolated import Interpolated
from msdsr.superresolve.plan import ALGORITHM, Task, plan_task
from msdsr.volume import auto_factor, read_spec
from msdsr.volume.tissue import tissue_mask

INTERPOLATIONS = get_args(Interpolation)
NETWORK_METHODS = ("msdsr",)
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
    """

    volume: Path
    method: str
    factor: int | Literal["auto"]
    settings: SuperresolveConfig
    model: Path | None = None
    seed: int = 0
    patches: Path | None = None

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
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Request:
        """Return the request that `to_json` told of."""
        return cls(
            Path(values["volume"]),
            values["method"],
            values["factor"],
            SuperresolveConfig.model_validate(values["settings"]),
            None if values["model"] is None else Path(values["model"]),
            values["seed"],
            None if values["patches"] is None else Path(values["patches"]),
        )

    def settled(self, device: torch.device) -> Request:
        """Return the request with the device's choice in place of ``precision: auto``.

        What is written down is then what was done, and work that was begun in one arithmetic is not
        gone on with in another.
        """
        if self.method not in NETWORK_METHODS:
            return self
        precision = choose_precision(self.settings.precision, device)
        return replace(self, settings=self.settings.model_copy(update={"precision": precision}))

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
        return Prepared(self, task, network, _filler(task, network), inputs)

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
        return load_model(self.model, device, kind="msdsr")


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
        values = self.request.settings.model_dump(mode="json")
        return {**values, "method": self.task.method, "factor": self.task.factor}

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


def _filler(task: Task, network: Model | None) -> Filler:
    """Return what fills the planes of a task by its method."""
    if network is not None:
        return Diffused(task, network)
    return Interpolated(task, cast("Interpolation", task.method))
