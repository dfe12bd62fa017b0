"""Curves of a training for people who look at many: TensorBoard, Weights & Biases, MLflow.

All of them write files under ``tracking/`` and send nothing anywhere; what they wrote is published
with the model. They are watchers: nothing of a training depends on them.
"""

from __future__ import annotations

import importlib
import json
import os
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from msdsr.errors import UserError

FOLDER = "tracking"
"""In the work folder and in the released model."""

PACKAGES = {"tensorboard": "tensorboard", "wandb": "msdsr[tracking]", "mlflow": "msdsr[tracking]"}
"""What to install for each."""


class Tracker(Protocol):
    """Keeps the curves of one training, over all its attempts."""

    def write(self, images: int, curves: Mapping[str, float]) -> None:
        """Add one point to each named curve, at so many images seen."""
        ...

    def close(self) -> None:
        """Write out what is held back."""
        ...


def open_tracker(name: str, work: Path, images: int) -> Tracker:
    """Open a tracker by its name in the configuration.

    Parameters
    ----------
    name
        ``tensorboard``, ``wandb`` or ``mlflow``.
    work
        Work folder of the training.
    images
        Images seen at the state from which the training goes on. TensorBoard hides the points
        beyond it, which will be written again; the others show both.

    Raises
    ------
    UserError
        When the package is not installed.
    """
    folder = work / FOLDER
    folder.mkdir(exist_ok=True)
    kinds: dict[str, Callable[[Path, int], Tracker]] = {
        "tensorboard": TensorBoard,
        "wandb": WeightsAndBiases,
        "mlflow": MLflow,
    }
    try:
        return kinds[name](folder, images)
    except ModuleNotFoundError as error:
        raise UserError(
            "optimiser.tracking",
            f"{name}, but the package {error.name} is not installed",
            "trackers that are installed",
            f"`pip install '{PACKAGES[name]}'`, or leave {name} out",
        ) from None


def _import(name: str) -> ModuleType:
    with warnings.catch_warnings():
        # Their own imports warn of their dependencies' ways, which are not ours to mend.
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


class TensorBoard:
    """Event files in ``tracking/tensorboard``; ``tensorboard --logdir`` shows them."""

    def __init__(self, folder: Path, images: int) -> None:
        _import("tensorboard")
        module = _import("torch.utils.tensorboard")
        self._writer: Any = module.SummaryWriter(
            log_dir=str(folder / "tensorboard"), purge_step=images + 1
        )

    def write(self, images: int, curves: Mapping[str, float]) -> None:
        """Add one point to each named curve."""
        for name, value in curves.items():
            self._writer.add_scalar(name, value, images)

    def close(self) -> None:
        """Write out what is held back."""
        self._writer.close()


class WeightsAndBiases:
    """An offline run in ``tracking/wandb``; ``wandb sync`` sends it, if somebody wants that.

    Every attempt writes a folder of its own with one run id, which ``wandb sync`` puts together.
    """

    def __init__(self, folder: Path, images: int) -> None:
        wandb = _import("wandb")
        self._run: Any = wandb.init(
            project="msdsr",
            dir=str(folder),
            mode="offline",
            id=_run_id(folder / "wandb.json"),
            resume="allow",
            config={"resumed_at_images": images},
            settings=wandb.Settings(silent=True),
        )

    def write(self, images: int, curves: Mapping[str, float]) -> None:
        """Add one point to each named curve."""
        self._run.log({**curves, "images": images}, step=images)

    def close(self) -> None:
        """Write out what is held back."""
        self._run.finish()


class MLflow:
    """A run in the file store ``tracking/mlruns``; ``mlflow ui`` shows it."""

    def __init__(self, folder: Path, images: int) -> None:
        # Newer versions of MLflow want to be told that files, not a data base, are meant.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        tracking = _import("mlflow.tracking")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._client: Any = tracking.MlflowClient(
                tracking_uri=(folder / "mlruns").absolute().as_uri()
            )
            self._run = self._open(folder / "mlflow.json")

    def _open(self, record: Path) -> str:
        """Return the id of the run of earlier attempts, or of a new one."""
        if record.exists():
            return str(json.loads(record.read_text(encoding="utf-8"))["run"])
        found = self._client.get_experiment_by_name("msdsr")
        experiment = found.experiment_id if found else self._client.create_experiment("msdsr")
        run = str(self._client.create_run(experiment).info.run_id)
        record.write_text(json.dumps({"run": run}) + "\n", encoding="utf-8")
        return run

    def write(self, images: int, curves: Mapping[str, float]) -> None:
        """Add one point to each named curve."""
        for name, value in curves.items():
            self._client.log_metric(self._run, name, value, step=images)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)


def _run_id(record: Path) -> str:
    """Return the id of the run of earlier attempts, or a new one, written down."""
    if record.exists():
        return str(json.loads(record.read_text(encoding="utf-8"))["run"])
    run = uuid.uuid4().hex[:12]
    record.write_text(json.dumps({"run": run}) + "\n", encoding="utf-8")
    return run
