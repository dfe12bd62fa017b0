"""What a cohort's tables are made from: its configuration, its slides and its models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from msdsr.arguments import SlideFiles, cohort_slides
from msdsr.config import Config
from msdsr.errors import UserError
from msdsr.evaluate.reference import Reference
from msdsr.volume import auto_factor, read_spec

Protocol = Literal["v2", "paper"]
"""How pictures are shown to Inception: through one fixed window, or equalised as the paper does."""

RESCALING: dict[Protocol, str] = {"v2": "window", "paper": "equalised"}


@dataclass(frozen=True)
class TableSource:
    """A cohort as the workflow has left it.

    Attributes
    ----------
    config
        The configuration that the workflow ran with.
    cohort
        One of its cohorts.
    results
        Where the cohorts' folders are.
    protocol
        ``v2`` or ``paper``.
    inception
        The Inception network.
    device
        ``cpu``, ``cuda`` or ``auto``.
    images
        Most crops of Table 1.
    """

    config: Config
    cohort: str
    results: Path
    protocol: Protocol
    inception: Path
    device: str
    images: int

    def __post_init__(self) -> None:
        """Refuse a cohort that nobody knows."""
        if self.cohort not in self.config.cohorts:
            raise UserError(
                "--cohort", repr(self.cohort), f"one of {', '.join(self.config.cohorts)}"
            )

    @property
    def folder(self) -> Path:
        """Folder of the cohort's tables."""
        return self.results / self.cohort / "tables"

    @property
    def metrics(self) -> Path:
        """Folder of the cohort's merged metrics."""
        return self.results / self.cohort / "metrics"

    @property
    def reference(self) -> Path:
        """File of the real images' features, and of the window all are shown through."""
        return self.results / self.cohort / "reference.npz"

    @cached_property
    def real(self) -> Reference:
        """What the reference says."""
        if not self.reference.exists():
            raise self.missing(self.reference)
        return Reference.load(self.reference)

    def slides(self, split: str) -> list[SlideFiles]:
        """Return the slides of one split, whose volumes must be there.

        Raises
        ------
        UserError
            When there is none, or a volume has not been made yet.
        """
        sheet = Path(self.config.cohorts[self.cohort].sheet)
        found = cohort_slides(self.cohort, sheet, self.results, (split,))
        if not found:
            raise UserError(sheet, f"no slide of split {split}", "at least one", "add one")
        for files in found:
            for product in (files.volume, files.patches):
                if not product.exists():
                    raise self.missing(product)
        return found

    def factors(self) -> list[int]:
        """Return the factors of the configuration, ``auto`` as its number."""
        wanted = set(self.config.superresolve.factors)
        numbers = {factor for factor in wanted if factor != "auto"}
        if "auto" in wanted:
            slide = self.slides("infer")[0]
            numbers.add(auto_factor(read_spec(slide.volume).voxel, slide.volume))
        return sorted(numbers)

    def model(self, method: str) -> Path | None:
        """Return the folder of the model that a method restores the cohort with, if it has one."""
        section = self.config.cohorts[self.cohort]
        names = {"msdsr": section.model, **section.baseline_models.model_dump()}
        name = names.get(method)
        if name is None:
            return None
        path = self.config.models[name].path
        folder = Path(path) if path else self.results / "models" / name / "model"
        if not folder.exists():
            raise self.missing(folder)
        return folder

    def missing(self, path: Path) -> UserError:
        """Return the error for a product that the workflow has not made yet."""
        return UserError(
            path, "not there", "a product of the workflow", "run the workflow for this cohort first"
        )
