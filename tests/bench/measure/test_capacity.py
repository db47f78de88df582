"""Capacity: the rate is found to 5 %, by tests that have to agree."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_scenario
from foldbench.bench.analysis.capacity import (
    Bracket,
    arrivals_needed,
    holds,
    rate_rows,
    search,
)
from foldbench.bench.errors import BackendError, DataError
from foldbench.bench.measure.capacity import CapacityOptions, find_capacity
from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Capacity, LoadTest, ScenarioResult
from foldbench.bench.stages.capacity import read_arrivals
from foldbench.bench.timing.arrivals import LoadOptions
from foldbench.bench.timing.scenarios import ScenarioOptions
from foldbench.bench.workers.protocol import Job, Opened
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.sections.capacity import build_capacity


def make_test(
    rate: float, latency_s: float, count: int = 1000, unanswered: int = 0, seed: int = 0
) -> LoadTest:
    return LoadTest(
        rate_per_s=rate,
        seed=seed,
        latencies_s=(latency_s,) * count,
        calls=count,
        duration_s=1.0,
        unanswered=unanswered,
    )


def find(start: float, capacity: float, wrong: tuple[int, ...] = ()) -> tuple[Bracket, int]:
    """Search where every rate up to `capacity` holds, but for tests `wrong` by number."""
    steps, tests = search(start), 0
    rate = next(steps)
    while True:
        held = (rate <= capacity) != (tests in wrong)
        tests += 1
        try:
            rate = steps.send(held)
        except StopIteration as end:
            return end.value, tests


@given(st.floats(0.01, 1e5), st.floats(-8, 8))
def test_the_rate_is_known_to_5_percent(capacity: float, distance: float) -> None:
    found, _ = find(capacity * 2**distance, capacity)
    assert found.holds_per_s is not None
    assert found.fails_per_s is not None
    assert found.holds_per_s <= capacity < found.fails_per_s <= 1.05 * found.holds_per_s


@pytest.mark.parametrize("wrong", range(12))
def test_one_test_that_went_wrong_decides_nothing(wrong: int) -> None:
    right, _ = find(70.0, 100.0)
    found, tests = find(70.0, 100.0, (wrong,))
    assert found == right
    assert tests == find(70.0, 100.0)[1] + 1


def test_where_no_rate_holds_or_every_one_does_the_search_ends() -> None:
    assert find(100.0, 0.0)[0].holds_per_s is None
    assert find(100.0, 1e30)[0].fails_per_s is None


def test_a_test_holds_by_its_percentile_and_only_where_all_was_answered() -> None:
    assert holds(make_test(1.0, 0.02), 0.99, 0.02)
    assert not holds(make_test(1.0, 0.021), 0.99, 0.02)
    assert not holds(make_test(1.0, 0.01, unanswered=1), 0.99, 0.02)
    assert not holds(make_test(1.0, 0.01, count=999), 0.99, 0.02)
    assert (arrivals_needed(0.99), arrivals_needed(0.5)) == (1000, 200)


def test_tests_of_a_rate_are_one_row() -> None:
    tests = [make_test(2.0, 0.01), make_test(1.0, 0.01), make_test(2.0, 0.03)]
    slow, fast = rate_rows(tests, 0.99, 0.02)
    assert (slow.rate_per_s, slow.tests, slow.held) == (1.0, 1, 1)
    assert (fast.rate_per_s, fast.tests, fast.held) == (2.0, 2, 1)
    assert fast.p50_s == pytest.approx(0.02)


class Worker:
    """Holds so many images a second within any bound; `broken` fails in its first test."""

    def __init__(self, job: Job) -> None:
        self._capacity = {"ort": 500.0, "torch": 100.0}.get(job.backend, 0.0)
        self._broken = job.backend == "openvino"

    def open(self) -> Opened:
        return Opened("cpu", "fake", 1, "float32", 0.0, 0.0)

    def load(self) -> tuple[float, float]:
        return 0.0, 0.0

    def prepare_load(self, sizes: tuple[int, ...]) -> float:
        assert sizes == (1, 2, 4)
        return 1e-3

    def serve_load(
        self, arrivals_s: tuple[float, ...], options: LoadOptions, rate: float, seed: int
    ) -> LoadTest:
        if self._broken:
            raise BackendError("out of memory")
        assert (options.most, options.wait_s) == (4, 5e-3)
        latency_s = 1e-3 if rate <= self._capacity else 1.0
        return make_test(rate, latency_s, len(arrivals_s), seed=seed)

    def evaluate(self) -> None:
        """Nothing to evaluate."""

    def run_scenario(self, options: ScenarioOptions) -> ScenarioResult:
        if options.qps is not None and options.qps > 200:
            raise BackendError("did not end")
        assert (options.scenario, options.latency_bound_s) == ("server", 0.02)
        return make_scenario("server", validity="VALID")

    def close(self) -> None:
        """Nothing to end."""


def capacity_of(options: CapacityOptions, *backends: str) -> Capacity:
    return find_capacity(
        "a_run",
        [ContenderSpec(b, "folded", "cpu", Path("x")) for b in backends],
        lambda spec: Job(
            spec.backend, "cpu", 1, "folded", Path(), Path(), Path(), (0.0,), (1.0,), 10, 1
        ),
        options,
        1,
        NullListener(),
        Worker,  # type: ignore[arg-type]
    )


def test_loadgen_judges_the_rate_that_holds_and_where_it_cannot_the_rate_stays() -> None:
    options = CapacityOptions(within_s=0.02, at=0.99, most=4, wait_s=5e-3, loadgen=True)
    torch, ort = capacity_of(options, "torch", "ort").contenders
    assert torch.loadgen is not None
    assert torch.loadgen.validity == "VALID"
    assert (ort.status, ort.loadgen) == ("ok", None)
    assert ort.holds_per_s is not None


def test_contenders_have_their_capacities_and_one_that_fails_its_reason() -> None:
    options = CapacityOptions(within_s=0.02, at=0.99, most=4, wait_s=5e-3)
    found = capacity_of(options, "torch", "ort", "openvino")
    torch, ort, openvino = found.contenders
    for one, capacity in ((torch, 100.0), (ort, 500.0)):
        assert one.holds_per_s is not None
        assert capacity / 1.05 <= one.holds_per_s <= capacity
    assert (openvino.status, openvino.reason) == ("failed", "out of memory")
    seeds = [test.seed for test in ort.tests]
    assert len(set(seeds)) == len(seeds)
    told = render_terminal(build_capacity(found))
    assert "ONNX Runtime (folded) answers" in told
    assert "out of memory" in told


def test_a_file_of_arrivals_is_read_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "times.txt"
    path.write_text("\n".join(str(n / 10) for n in range(200)), encoding="utf-8")
    times = read_arrivals(path, 0.9)
    options = CapacityOptions(0.02, 0.9, recorded_s=times)
    assert options.times_s(20.0, 7)[-1] == pytest.approx(199 / 20)
    with pytest.raises(DataError, match="1000 or more"):
        read_arrivals(path, 0.99)
    refused = {
        "1\n0\n": "go back",
        "nan\n" * 300: "no numbers",
        "a\n": "as arrivals",
        "1\n" * 300: "at once",
    }
    for text, wrong in refused.items():
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=wrong):
            read_arrivals(path, 0.9)
