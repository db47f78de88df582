"""The lines of samples.jsonl: what a comparison has found so far, in the order it was found."""

from typing import Annotated, Literal

from pydantic import Field

from foldbench.bench.records.base import SCHEMA_VERSION, Record
from foldbench.bench.records.calling import AsCalled
from foldbench.bench.records.images import Sha256
from foldbench.bench.records.run import Measurement, Run
from foldbench.bench.records.timing import Shortage, StopReason
from foldbench.bench.samples.scenarios import ScenarioResult
from foldbench.bench.samples.timing import Block, Boundary, Tuning


class Opening(Record):
    """The first line: which comparison this is."""

    kind: Literal["opening"] = "opening"
    schema_version: Literal[1] = SCHEMA_VERSION
    identity: dict[str, Sha256]
    """What has to be the same for the comparison to go on, by name."""
    record: Run
    """Of the whole comparison, without its measurements."""
    ablation: bool
    """Whether the steps on the way to what is shipped are compared one by one."""


class Session(Record):
    """The comparison goes on after an interruption, in new processes."""

    kind: Literal["session"] = "session"
    created: str


class Row(Record):
    """What is known of a row before it is timed; a later line takes the place of an earlier one."""

    kind: Literal["row"] = "row"
    measurement: Measurement


class Warmed(Record):
    """A contender was warmed up at a batch size."""

    kind: Literal["warmed"] = "warmed"
    contender: str
    batch_size: int
    boundary: Boundary
    first_call_s: float
    calls: int
    converged: bool
    call_s: float
    turn_s: float
    tuning: Tuning | None


class Shortened(Record):
    """The blocks of a series are shorter than configured, or too few of them fit the budget."""

    kind: Literal["shortened"] = "shortened"
    contenders: tuple[str, ...]
    batch_size: int
    boundary: Boundary
    shortage: Shortage


class Timed(Record):
    """One block was timed."""

    kind: Literal["timed"] = "timed"
    contender: str
    batch_size: int
    boundary: Boundary
    settle_calls: int
    block: Block


class Ended(Record):
    """A series of rounds came to its end."""

    kind: Literal["ended"] = "ended"
    contenders: tuple[str, ...]
    batch_size: int
    boundary: Boundary
    repeat: int
    process: int = 1
    stopped: StopReason


class Driven(Record):
    """LoadGen drove a contender through one scenario."""

    kind: Literal["driven"] = "driven"
    contender: str
    result: ScenarioResult


class Called(Record):
    """A contender was called in one further way; `found` holds that alone."""

    kind: Literal["called"] = "called"
    contender: str
    found: AsCalled


class Failed(Record):
    """A contender failed; one that failed device-resident is out there alone."""

    kind: Literal["failed"] = "failed"
    contender: str
    boundary: Boundary
    reason: str


Event = Session | Row | Warmed | Shortened | Timed | Ended | Driven | Called | Failed
Line = Annotated[Opening | Event, Field(discriminator="kind")]
