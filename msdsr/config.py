"""The one truth about the configuration: config.yaml, its JSON schema and its docs come from here.

The configuration holds science only. Threads, memory, partitions and GPUs belong to the profile.
Its sections stand in `config_models` and `config_stages`; this module puts them together, and is
where the rest of the package takes them from.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from msdsr.config_base import (
    Interpolation,
    Name,
    Protocol,
    Rescaling,
    RestoringMethod,
    Section,
)
from msdsr.config_models import (
    ModelConfig,
    NetworkConfig,
    ObjectiveConfig,
    OptimiserConfig,
    refuse_unsuited,
)
from msdsr.config_stages import (
    DenoiseConfig,
    EvaluateConfig,
    IngestConfig,
    PatchConfig,
    PhantomConfig,
    ReportConfig,
    SuperresolveConfig,
    TrainsetConfig,
)

__all__ = [
    "BaselineModels",
    "CohortConfig",
    "Config",
    "DenoiseConfig",
    "EvaluateConfig",
    "IngestConfig",
    "Interpolation",
    "ModelConfig",
    "NetworkConfig",
    "ObjectiveConfig",
    "OptimiserConfig",
    "PatchConfig",
    "PhantomConfig",
    "Protocol",
    "ReportConfig",
    "Rescaling",
    "RestoringMethod",
    "Section",
    "SuperresolveConfig",
    "TrainsetConfig",
    "refuse_unsuited",
]


class BaselineModels(Section):
    """The models behind the baselines that have one."""

    ms_unet: Name | None = Field(
        default=None, description="Which of `models` the method `ms_unet` runs with."
    )
    e2e_unet: Name | None = Field(
        default=None, description="Which of `models` the method `e2e_unet` runs with."
    )


class CohortConfig(Section):
    """One set of slides that is processed and reported together."""

    sheet: str = Field(
        description="Sample sheet (TSV): one row a slide. Relative to the working directory.",
    )
    source: Literal["files", "phantom", "blastocyst"] = Field(
        default="files",
        description="Where the raw files come from: they are there (`files`), or the workflow "
        "makes the synthetic cohort (`phantom`) or fetches the public example (`blastocyst`).",
    )
    model: Name = Field(description="Which of `models` superresolves this cohort.")
    baseline_models: BaselineModels = Field(
        default=BaselineModels(),
        description="Models of the methods `ms_unet` and `e2e_unet`, where they are asked for.",
    )
    attribution: str = Field(
        default="", description="Source and licence of the data, printed in the report."
    )


class Config(Section):
    """Everything a run depends on, but for machines."""

    seed: Annotated[int, Field(ge=0)] = Field(
        default=2024, description="Seed of all randomness; a result is a function of it."
    )
    cohorts: dict[Name, CohortConfig] = Field(
        default={
            "demo": CohortConfig(
                sheet="config/cohorts/demo.tsv", source="phantom", model="phantom-tiny"
            ),
        },
        description="Cohorts by name; a name is a folder under results/.",
    )
    models: dict[Name, ModelConfig] = Field(
        default={"phantom-tiny": ModelConfig(path="resources/models/phantom-tiny")},
        description="Models by name.",
    )
    phantom: PhantomConfig = Field(default=PhantomConfig(), description="The synthetic cohort.")
    ingest: IngestConfig = Field(default=IngestConfig(), description="Raw files to OME-Zarr.")
    patch: PatchConfig = Field(default=PatchConfig(), description="Patch grid and tissue mask.")
    denoise: DenoiseConfig = Field(default=DenoiseConfig(), description="Hand-off to a denoiser.")
    trainset: TrainsetConfig = Field(
        default=TrainsetConfig(), description="2D training images from XY planes."
    )
    superresolve: SuperresolveConfig = Field(
        default=SuperresolveConfig(), description="Filling the missing planes."
    )
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="The numbers.")
    report: ReportConfig = Field(default=ReportConfig(), description="The page.")

    def cohorts_of(self, model: str) -> list[str]:
        """Return the cohorts that a model learns from or restores."""
        learns = self.models[model].cohorts
        used = {
            name: (cohort.model, *cohort.baseline_models.model_dump().values())
            for name, cohort in self.cohorts.items()
        }
        return [name for name in self.cohorts if model in used[name] or name in learns]

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for name, cohort in self.cohorts.items():
            self._refuse_kind(f"cohorts.{name}.model", cohort.model, "msdsr")
            for method in BaselineModels.model_fields:
                baseline = getattr(cohort.baseline_models, method)
                if baseline is not None:
                    self._refuse_kind(f"cohorts.{name}.baseline_models.{method}", baseline, method)
        self._refuse_denoisers()
        for name, model in self.models.items():
            for known in model.cohorts:
                if known not in self.cohorts:
                    raise ValueError(
                        f"models.{name}.cohorts names {known!r}, which is not in cohorts "
                        f"({', '.join(self.cohorts)})"
                    )
        return self

    def _refuse_kind(self, where: str, name: str, kind: str) -> None:
        """Refuse a name that is not in models, or that of a model of another kind."""
        if name not in self.models:
            raise ValueError(
                f"{where} is {name!r}, which is not in models ({', '.join(self.models)})"
            )
        if self.models[name].kind != kind:
            raise ValueError(
                f"{where} is {name!r}, a model of kind {self.models[name].kind}; expected one of "
                f"kind {kind}"
            )

    def _refuse_denoisers(self) -> None:
        """Refuse a denoiser whose models are missing, or would be trained on its own results."""
        if self.denoise.mode != "rscd":
            return
        for key, kind in (("prior", "rscd_prior"), ("calibrator", "rscd_calibrator")):
            where, name = f"denoise.{key}", getattr(self.denoise, key)
            if name is None:
                raise ValueError(f"{where} is missing; mode rscd needs a model of kind {kind}")
            self._refuse_kind(where, name, kind)
            if self.models[name].path is None:
                raise ValueError(
                    f"{where} is {name!r}, which is trained here, on denoised planes; expected a "
                    "model with a `path`: train it in a run with denoise.mode none"
                )
