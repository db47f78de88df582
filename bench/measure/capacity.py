"""How many images a second a contender serves within a bound of latency."""

import datetime
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from random import Random

from foldbench.bench import units
from foldbench.bench.analysis.capacity import Bracket, arrivals_needed, holds, search
from foldbench.bench.errors import BenchError
from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.measure.running import Contender, StartWorker, failures_of
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Capacity, ContenderCapacity, LoadTest, ScenarioResult
from foldbench.bench.timing.arrivals import LoadOptions, poisson, scaled_to
from foldbench.bench.timing.scenarios import (
    TARGET_PERCENTILES,
    ScenarioOptions,
    queries_needed,
)
from foldbench.bench.workers.protocol import Job

LOADGEN_PERCENTILE = TARGET_PERCENTILES["server"]
_TESTS = 20
"""Tests that a search takes, about, as long as if the images came back to back."""
_LOADGEN_S = 5.0
"""Least duration of its test."""


@dataclass(frozen=True)
class CapacityOptions:
    """What is asked for."""

    within_s: float
    at: float
    """Percentile as a share."""
    most: int = 1
    wait_s: float = 0.0
    seed: int = 0
    recorded_s: tuple[float, ...] = ()
    """Arrivals of a recording; Poisson where there are none."""
    arrivals: str = "Poisson"
    loadgen: bool = False
    """Whether LoadGen is asked, too, at the rate that holds."""

    @property
    def images(self) -> int:
        """Images of one test."""
        return len(self.recorded_s) or arrivals_needed(self.at)

    @property
    def load(self) -> LoadOptions:
        """How the server answers; an answer ten bounds late ends a test."""
        return LoadOptions(self.most, self.wait_s, give_up_s=max(1.0, 10 * self.within_s))

    def times_s(self, rate_per_s: float, seed: int) -> tuple[float, ...]:
        """Return when the images of one test are due."""
        if self.recorded_s:
            return scaled_to(self.recorded_s, rate_per_s)
        return poisson(rate_per_s, self.images, seed)


@dataclass
class _Search:
    """A contender whose capacity is looked for."""

    contender: Contender
    steps: Generator[float, bool, Bracket] | None = None
    rate_per_s: float = 0.0
    call_s: float | None = None
    bracket: Bracket | None = None
    tests: list[LoadTest] = field(default_factory=list)
    loadgen: ScenarioResult | None = None

    def begin(self, call_s: float) -> None:
        """Begin at half of what calls back to back would give."""
        self.call_s = call_s
        self.steps = search(0.5 / call_s)
        self.rate_per_s = next(self.steps)

    def take(self, test: LoadTest, held: bool) -> None:
        """Note a test and find the next rate."""
        self.tests.append(test)
        if self.steps is None:
            return
        try:
            self.rate_per_s = self.steps.send(held)
        except StopIteration as end:
            self.bracket = end.value

    @property
    def is_due(self) -> bool:
        """Whether another test is to be made."""
        return self.contender.is_ok and self.bracket is None


def find_capacity(
    name: str,
    specs: Sequence[ContenderSpec],
    describe: Callable[[ContenderSpec], Job],
    options: CapacityOptions,
    threads: int,
    listener: ProgressListener,
    start_worker: StartWorker,
) -> Capacity:
    """Test each contender at higher and lower rates, in turns, until its capacity is known.

    Each has one process, and the others are idle meanwhile. A failure is its row's reason.
    """
    searches = [_Search(Contender(spec)) for spec in specs]
    order = Random(f"{options.seed}/capacity")
    try:
        for one in searches:
            if one.contender.is_ok:
                _open(one, describe(one.contender.spec), options, listener, start_worker)
        about_s = sum(one.call_s for one in searches if one.call_s) * options.images * _TESTS
        told = units.long_duration(about_s)
        listener.note(f"tests of {units.count(options.images)} images each: about {told} in all")
        total = _TESTS * len(searches)
        listener.begin("load tests", total)
        number = 0
        while due := [one for one in searches if one.is_due]:
            number += 1
            for one in order.sample(due, len(due)):
                done = min(sum(len(other.tests) for other in searches), total - 1)
                told = f"{one.contender.name}, {units.rate(one.rate_per_s)} images/s"
                listener.advance(done, told)
                _test(one, options, options.seed + number)
        listener.end()
        for one in searches:
            if options.loadgen:
                _ask_loadgen(one, options, listener)
    finally:
        for one in searches:
            one.contender.close()
    return Capacity(
        name=name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        within_s=options.within_s,
        at=options.at,
        most=options.most,
        wait_s=options.wait_s,
        arrivals=options.arrivals,
        threads=threads,
        contenders=tuple(map(_to_record, searches)),
    )


def _open(
    one: _Search,
    job: Job,
    options: CapacityOptions,
    listener: ProgressListener,
    start_worker: StartWorker,
) -> None:
    contender = one.contender
    listener.note(f"opening {contender.name}")
    contender.start(job, start_worker)
    with failures_of(contender):
        if contender.is_ok:
            one.begin(contender.require_worker().prepare_load(options.load.batch_sizes))


def _test(one: _Search, options: CapacityOptions, seed: int) -> None:
    with failures_of(one.contender):
        worker = one.contender.require_worker()
        times_s = options.times_s(one.rate_per_s, seed)
        test = worker.serve_load(times_s, options.load, one.rate_per_s, seed)
        one.take(test, holds(test, options.at, options.within_s))


def _ask_loadgen(one: _Search, options: CapacityOptions, listener: ProgressListener) -> None:
    """Have LoadGen's scenario server judge the rate that holds; a failure is a note alone."""
    rate_per_s = one.bracket.holds_per_s if one.bracket else None
    if rate_per_s is None or not one.contender.is_ok:
        return
    asked = ScenarioOptions(
        scenario="server",
        duration_s=max(_LOADGEN_S, queries_needed(LOADGEN_PERCENTILE) / rate_per_s),
        batch_size=options.most,
        warm_up_s=0.2,
        seed=options.seed,
        qps=rate_per_s,
        latency_bound_s=options.within_s,
    )
    listener.note(f"LoadGen's server, {one.contender.name}, {units.rate(rate_per_s)} images/s")
    try:
        worker = one.contender.require_worker()
        worker.evaluate()
        one.loadgen = worker.run_scenario(asked)
    except BenchError as error:
        listener.note(f"LoadGen did not judge {one.contender.name}: {error}")


def _to_record(one: _Search) -> ContenderCapacity:
    bracket = one.bracket or Bracket(None, None)
    return ContenderCapacity(
        contender=one.contender.name,
        status=one.contender.result.status,
        reason=one.contender.result.reason,
        holds_per_s=bracket.holds_per_s,
        fails_per_s=bracket.fails_per_s,
        call_s=one.call_s,
        tests=tuple(one.tests),
        loadgen=one.loadgen,
    )
