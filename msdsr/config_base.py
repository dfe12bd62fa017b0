"""What the sections of the configuration are made of: the strict base class and the types."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
Interpolation = Literal["nearest", "linear", "cubic"]
Protocol = Literal["v2", "paper"]
Rescaling = Literal["window", "equalised"]
RestoringMethod = Literal["nearest", "linear", "cubic", "msdsr", "ms_unet", "e2e_unet"]


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", validate_default=True, frozen=True)
