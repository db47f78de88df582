"""The section compare.calling: what is measured besides latency back to back."""

from typing import Annotated

from pydantic import AfterValidator, Field

from foldbench.bench.config.base import ConfigSection, refuse_repeats


class CallingSection(ConfigSection):
    """Ways in which a network is really called. Each that is asked for is a section of the report,
    in rounds and processes of its own, and takes up to compare.budget_s."""

    pauses_s: Annotated[
        tuple[Annotated[float, Field(ge=0, le=60)], ...], AfterValidator(refuse_repeats)
    ] = ()
    """Pauses before a call at the smallest batch size, seconds; 0 is back to back."""
