"""What open-loop load measures: calls that arrive whether or not the ones before are answered."""

from dataclasses import dataclass

from foldbench.bench.samples.timing import Sample


@dataclass(frozen=True, kw_only=True)
class LoadTest(Sample):
    """One contender under one rate of arrivals."""

    rate_per_s: float
    """Arrivals per second, as asked for."""
    seed: int
    latencies_s: tuple[float, ...]
    """From when each image was due to its answer, in the order of arrival."""
    calls: int
    """Calls of the network that they took."""
    duration_s: float
    unanswered: int = 0
    """Images that were still waiting when the test was given up."""
