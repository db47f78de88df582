"""What LoadGen measured: MLPerf Inference scenarios, their settings and results."""

from dataclasses import dataclass
from typing import Literal

from foldbench.bench.samples.timing import Interference, Sample

Scenario = Literal["singlestream", "multistream", "offline", "server"]
Validity = Literal["VALID", "INVALID"]

OFFICIAL_DURATION_S = 600
"""What MLPerf asks of a submission at least."""
MAX_DURATION_FACTOR = 6
"""How many times its least duration a test may last."""


@dataclass(frozen=True, kw_only=True)
class ScenarioSettings(Sample):
    """What LoadGen went by, as its log says."""

    target_qps: float
    """Server: arrivals per second, on average. Otherwise how many queries (offline: samples) per
    second LoadGen was told to expect, so that it makes enough of them beforehand."""
    target_percentile: float
    """Which percentile of the latencies counts, as a share; offline has none and says 0.99."""
    latency_bound_s: float | None
    """Server alone: what that percentile must not exceed."""
    samples_per_query: int
    min_duration_s: float
    max_duration_s: float
    min_query_count: int
    loaded_samples: int
    """Different test images that were held in memory, from which the queries draw."""
    qsl_seed: int
    sample_seed: int
    schedule_seed: int


@dataclass(frozen=True, kw_only=True)
class Latencies(Sample):
    """Percentiles of the latencies of all queries, seconds, as LoadGen gives them.

    None where there are fewer queries than its early-stopping rule asks for at that percentile.
    """

    p50_s: float | None
    p90_s: float | None
    p95_s: float | None
    p97_s: float | None
    p99_s: float | None
    p99_9_s: float | None


@dataclass(frozen=True, kw_only=True)
class ScenarioResult(Interference):
    """One contender in one scenario, driven by LoadGen; None for what it does not give."""

    scenario: Scenario
    repeat: int = 1
    """Which whole repetition it belongs to."""
    validity: Validity
    """LoadGen's verdict by the settings below; INVALID too where samples were left unanswered."""
    reasons: tuple[str, ...]
    """Why it is INVALID; empty otherwise."""
    settings: ScenarioSettings
    loadgen_version: str
    log_sha256: str
    """Of LoadGen's mlperf_log_detail.txt."""
    batch_sizes: tuple[int, ...]
    """Batch sizes that samples may be put together to."""
    query_count: int
    sample_count: int
    """Samples that were computed."""
    call_count: int
    """Calls of the network that they took."""
    checked_outputs: int
    """Outputs of those calls that were compared with the ones of the accuracy pass."""
    duration_s: float
    """From the images' being in memory until the last answer; LoadGen makes its queries first."""
    latencies: Latencies | None = None
    """None for offline, where a sample's latency is how long it waited for its turn."""
    early_stopping_s: float | None = None
    """Singlestream and multistream: what the target percentile does not exceed with 99 %
    confidence, by LoadGen's early-stopping rule; it is what MLPerf reports."""
    samples_per_s: float | None = None
    """Offline alone."""
    scheduled_qps: float | None = None
    """Server alone: arrivals per second as drawn."""
    completed_qps: float | None = None
    """Server alone."""
    over_latency_count: int | None = None
    """Server alone: queries that took longer than the bound."""
    foreign_load_cores: float | None = None
    """Cores that other programs kept busy meanwhile."""
