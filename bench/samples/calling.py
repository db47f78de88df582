"""What a network costs as it is really called: after pauses, from a cold process, by several."""

from dataclasses import dataclass
from typing import Literal

from foldbench.bench.samples.timing import Block, Sample

Switch = Literal["", "no spin-wait", "one thread", "kept warm", "cold caches"]
"""What is changed to find the cause: nothing, threads that sleep at once when there is no work,
one thread, an untimed call every KEEP_WARM_S during the pause, or caches that are filled with
something else at its end."""

KEEP_WARM_S = 0.01


@dataclass(frozen=True, kw_only=True)
class CallCosts(Sample):
    """What the timed calls of a block and the pauses before them cost, summed over its calls.

    CPU time is that of all threads of the process.
    """

    paused_s: float
    """Wall time of the pauses."""
    pause_cpu_s: float
    call_cpu_s: float
    switches: int
    """Times that a thread gave up its CPU during a call, to wait for something."""
    preemptions: int
    """Times that a thread was taken off its CPU during a call."""
    minor_faults: int
    major_faults: int


@dataclass(frozen=True, kw_only=True)
class PausedBlock(Block):
    """Timed calls with a pause before each."""

    costs: CallCosts | None = None
    """None where the system does not count them."""


@dataclass(frozen=True, kw_only=True)
class PauseSeries(Sample):
    """One contender, called after pauses of one length, or back to back where that is 0."""

    pause_s: float
    switch: Switch
    blocks: tuple[PausedBlock, ...]
    reason: str | None = None
    """Why it failed."""


@dataclass(frozen=True, kw_only=True)
class ColdStart(Sample):
    """One fresh process, from its start to its second answer, seconds."""

    process_s: float
    """Until the process had started and taken its orders."""
    import_s: float
    open_s: float
    first_call_s: float
    second_call_s: float

    @property
    def answer_s(self) -> float:
        """From nothing to the first answer."""
        return self.process_s + self.import_s + self.open_s + self.first_call_s


PageCache = Literal["warm", "dropped"]
"""Whether what a start reads from the disk was in memory, or had been put out of it before."""


Preparation = Literal["", "saved graph", "compiled anew"]
"""What is changed: nothing, onnxruntime opens the graph that an earlier start has optimised, or
torch.compile finds no kernel that an earlier process has compiled."""


@dataclass(frozen=True, kw_only=True)
class ColdStarts(Sample):
    """Starts of one contender in turns with the others: start n is round n."""

    page_cache: PageCache
    preparation: Preparation = ""
    starts: tuple[ColdStart, ...]
    reason: str | None = None
    """Why a start failed, or why the page cache could not be dropped."""


@dataclass(frozen=True, kw_only=True)
class MemoryPoint(Sample):
    """Memory of the process at one moment of its life; None where the system does not tell."""

    after: Literal["start", "import", "opening", "warm-up"]
    rss_bytes: int | None
    pss_bytes: int | None
    """Its proportional share: pages that n processes share count for 1/n."""
    gpu_bytes: int | None = None
    """What it holds of the GPU's memory, as NVML has it."""


@dataclass(frozen=True, kw_only=True)
class BatchPeak(Sample):
    """The largest resident set while batches of one size are computed."""

    batch_size: int
    peak_bytes: int | None
    allocator_bytes: int | None = None
    """The most that torch's tensors held on the GPU."""
    reason: str | None = None
    """Why there is none, such as out of memory."""


@dataclass(frozen=True, kw_only=True)
class MemoryUse(Sample):
    """Memory of one contender, in a process in which nothing is timed."""

    points: tuple[MemoryPoint, ...] = ()
    peaks: tuple[BatchPeak, ...] = ()
    calls_each: int = 0
    """Calls between two of `held_bytes`."""
    held_bytes: tuple[int, ...] = ()
    """Anonymous memory before the first and after each of these calls; empty where the system does
    not tell."""
    reason: str | None = None


Sharing = Literal["sessions", "callers", "streams"]
"""Whether each caller has a session of its own, or all call one, which may run as many calls at
once by streams of its runtime's own."""


@dataclass(frozen=True, kw_only=True)
class StreamBlock(Block):
    """Calls of several streams at full load, all of them together."""

    wall_s: float
    """From when all streams had begun until every one had made its calls."""


@dataclass(frozen=True, kw_only=True)
class StreamSeries(Sample):
    """One contender, called by several threads at once in one process."""

    streams: int
    threads: int
    """For one operator, of each session."""
    sharing: Sharing
    blocks: tuple[StreamBlock, ...]
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class SweepSeries(Sample):
    """One contender at one batch size of a sweep."""

    batch_size: int
    blocks: tuple[Block, ...]
    reason: str | None = None
    """Why it failed, such as out of memory."""


STAGES = ("read", "decode", "resize", "normalise", "infer", "softmax")
"""From the file to the label, in order."""
STAGES_INSIDE = ("read", "decode", "infer")
"""The same with a file whose graph resizes, normalises and has softmax."""


@dataclass(frozen=True, kw_only=True)
class StageBlock(Block):
    """Timed ways from image files to their classes; its samples are whole ways."""

    parts_s: tuple[tuple[float, ...], ...]
    """(stages, calls): what each stage took."""


@dataclass(frozen=True, kw_only=True)
class StageSeries(Sample):
    """One contender at the end of the way from image files to classes."""

    inside: bool = False
    """Whether its graph has the preprocessing: STAGES_INSIDE in place of STAGES."""
    files: int
    bytes_mean: float
    """Size of a file, the mean."""
    blocks: tuple[StageBlock, ...]
    reason: str | None = None
