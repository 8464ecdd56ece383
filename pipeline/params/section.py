"""The base class of the sections of params.yaml."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Megapixels = Annotated[float, Field(gt=0, le=1000)]
InputSide = Annotated[int, Field(ge=16, le=2048)]
"""Side of a network's square input, in pixels."""
ResizedSide = Annotated[int, Field(ge=16, le=4096)]
"""Shorter side before the centre crop, in pixels."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
