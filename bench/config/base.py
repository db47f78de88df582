"""What every part of a configuration is made of: strict, immutable, and its kinds of numbers."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


def refuse_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `values`; raise ValueError when one of them stands there twice."""
    for n, value in enumerate(values):
        if value in values[:n]:
            raise ValueError(f"{value} is given twice: give each value once")
    return values


class ConfigSection(BaseModel):
    """A part of a configuration; unknown keys are refused, numbers are not read from text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )
