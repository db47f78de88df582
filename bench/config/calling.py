"""The section compare.calling: what is measured besides latency back to back."""

from typing import Annotated

from pydantic import AfterValidator, Field

from foldbench.bench.config.base import ConfigSection, Positive, Threads, refuse_repeats


class CallingSection(ConfigSection):
    """Ways in which a network is really called. Each that is asked for is a section of the report,
    in rounds and processes of its own, and takes up to compare.budget_s."""

    pauses_s: Annotated[
        tuple[Annotated[float, Field(ge=0, le=60)], ...], AfterValidator(refuse_repeats)
    ] = ()
    """Pauses before a call at the smallest batch size, seconds; 0 is back to back."""
    cold_starts: Annotated[int, Field(ge=0, le=1000)] = 0
    """Fresh processes of each contender, from their start to the second answer."""
    drop_page_cache: bool = False
    """Make as many cold starts again with the system's page cache dropped before each, which takes
    root and slows down whatever else runs on the machine."""
    memory: bool = False
    """Memory of each contender after import, opening and warm-up, its peak by batch size and what
    it grows by per call, in a process in which nothing is timed."""
    memory_calls: Annotated[int, Field(ge=100, le=10_000_000)] = 2000
    """Calls over which growth is measured; below 2,000 no leak is called one."""
    streams: Annotated[tuple[Threads, ...], AfterValidator(refuse_repeats)] = ()
    """Calls at once at the smallest batch size: so many sessions, each called by a thread of its
    own, and one session called by so many threads, with each of compare.threads. Ends where more
    streams give no more."""
    sweep: bool = False
    """Double the batch, from the smallest of compare.batch_sizes, until images/s no longer rise or
    memory ends."""
    sweep_most: Positive = 4096
    """Largest batch of the sweep."""
    stages: str | None = None
    """An image file, or a folder of them: the way from file to class is timed stage by stage."""
