"""The sections evaluate and compare: how accuracy and latency are measured."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from foldbench.bench.config.base import ConfigSection, Positive, Seed, Threads, refuse_repeats
from foldbench.bench.config.calling import CallingSection
from foldbench.bench.records import Protocol, Scenario


class EvaluateSection(ConfigSection):
    """How accuracy on the test split is taken."""

    protocol: Protocol = "clean"
    """homework: test images are flipped and cropped at random, as the notebook's code did.
    clean: they are only resized and normalised."""
    seed: Seed = 0
    """Of the random flips and crops under protocol homework; every contender sees the same ones."""
    mirror: bool = False
    """Average the logits of each test image and of its mirror image: two runs of the network for
    one answer, which the report points out; latencies stay those of one."""
    batch_size: Positive = 50
    """Images per call when accuracy is measured."""


class LoadgenSection(ConfigSection):
    """MLPerf Inference scenarios, which MLCommons' LoadGen drives in place of the rounds."""

    scenarios: Annotated[tuple[Scenario, ...], AfterValidator(refuse_repeats)] = ()
    """singlestream: one image after another. multistream: eight at once, one eight after another.
    offline: all images in one query. server: images arrive at random times. None: the rounds."""
    duration_s: Annotated[float, Field(ge=0.1, le=86400)] = 10.0
    """Least duration of each scenario and contender, seconds; MLPerf itself asks for 600."""
    qps: Annotated[float, Field(ge=0.1, le=100_000)] | None = None
    """Images that arrive per second, on average (server alone, which needs it)."""
    latency_bound_s: Annotated[float, Field(gt=0, le=3600)] = 0.01
    """What 99 % of the latencies must not exceed (server alone)."""
    batch_size: Positive | None = None
    """Largest batch of offline and server; the largest of compare.batch_sizes by default."""

    @model_validator(mode="after")
    def _server_has_a_rate(self) -> Self:
        if "server" in self.scenarios and self.qps is None:
            raise ValueError("scenario server needs qps, the images that arrive per second")
        return self


class CompareSection(ConfigSection):
    """What is compared, and how long is measured."""

    backends: Annotated[tuple[str, ...], Field(min_length=1)] = ("torch", "ort")
    """File names in bench/backends/, see `bench list`; ort@1.23.2 is another version."""
    offline: bool = False
    """Take other versions of a runtime from the cache alone, and fetch none."""
    devices: Annotated[
        tuple[Literal["auto", "cpu", "cuda"], ...],
        Field(min_length=1),
        AfterValidator(refuse_repeats),
    ] = ("auto",)
    """auto: the CPU, and CUDA where this machine has it."""
    reference: str | None = None
    """What speed-ups are against: backend and variant, such as ort/folded (by default unfolded
    torch, or the .onnx file as it was given), the run of one of several networks, or both,
    RUN:ort/folded."""
    batch_sizes: Annotated[
        tuple[Positive, ...], Field(min_length=1), AfterValidator(refuse_repeats)
    ] = (1, 64)
    """Batch sizes that are timed, each in rounds of its own."""
    boundaries: Literal["auto", "host"] = "auto"
    """host: from a host array to a host array alone. auto: on a GPU also device-resident, with
    input and output in its memory, in rounds of their own."""
    rounds: Positive = 20
    """Clean rounds wanted at each batch size, on each device; a round times every contender there
    once, in random order. A round in which something else ran is kept in the record, excluded and
    replaced."""
    budget_s: Annotated[float, Field(gt=0, le=86400)] = 120.0
    """Most seconds that the rounds of one device may take: all batch sizes, boundaries and
    repetitions together. On two devices a comparison may take twice that."""
    processes: Annotated[int, Field(ge=1, le=100)] = 8
    """Most processes that each contender is run by, one after the other: the rounds are spread over
    them. Two processes of one network can differ by several percent for as long as they live; from
    3 on the intervals cover that. Starts count in the budget: of 4 up to half, of more a third."""
    interval: Annotated[float, Field(ge=0.0, lt=1.0, exclude=True)] = 0.0
    """Ended the rounds early in older versions; it is read from their files and not used. An
    interval that decides when to stop covers less than it says, and one that is corrected for it is
    wider than that of all rounds."""
    calls: Positive = 10
    """Least number of timed calls in a block; the percentile p95 needs 200 calls in all. Blocks of
    a series of rounds are shortened, to 5 calls and 40 ms at the least, where 8 rounds would take
    more than half of the budget."""
    block_s: Annotated[float, Field(ge=0.0, le=60)] = 0.15
    """Least duration of a timed block, seconds; shortened like calls."""
    settle_s: Annotated[float, Field(ge=0.0, le=60)] = 0.1
    """Untimed calls before each block, seconds."""
    warm_up_s: Annotated[float, Field(ge=0.0, le=60)] = 0.5
    """Least duration of the untimed calls before the first round, seconds; they continue until the
    times settle, six times as long at the most."""
    repeat: Positive = 1
    """How often the rounds are made as a whole."""
    pause_s: Annotated[float, Field(ge=0.0, le=3600)] = 60.0
    """Between two repetitions, seconds."""
    self_checks: bool = True
    """Time the reference against itself in every round, and with one thread in every round at the
    smallest batch size."""
    arithmetic: bool = True
    """Measure this machine's peak throughput (matrix products, copies) before the rounds."""
    threads: Threads | tuple[Threads, ...] | None = None
    """For one operator, the same for every backend; all that this process may use by default. With
    several counts, every contender on the CPU is measured with each; speed-ups are against the
    baseline with the first."""
    seed: Seed = 0
    """Of the order of contenders; of LoadGen's choice of images and arrivals."""
    loadgen: LoadgenSection = LoadgenSection()
    """MLPerf scenarios."""
    calling: CallingSection = CallingSection()
    """Calls with pauses and other ways of calling."""

    @property
    def thread_counts(self) -> tuple[int | None, ...]:
        """The counts that are asked for; None is all that this process may use."""
        return self.threads if isinstance(self.threads, tuple) else (self.threads,)

    @field_validator("threads")
    @classmethod
    def _no_repeats(cls, value: int | tuple[int, ...] | None) -> int | tuple[int, ...] | None:
        if isinstance(value, tuple):
            if not value:
                raise ValueError("found an empty list; allowed: numbers of threads, such as [1, 2]")
            return refuse_repeats(value)
        return value
