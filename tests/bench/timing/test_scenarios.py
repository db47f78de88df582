"""MLPerf scenarios through LoadGen itself, on a network with known times and answers.

Times of this machine are never asserted, only what holds on any: a pause lasts at least as long as
it was asked to, and what cannot keep up is found to be.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import isolated_calls
from builders import make_job
from foldbench.bench.backends import Floats
from foldbench.bench.config.comparison import CompareSection, LoadgenSection
from foldbench.bench.errors import BackendError, MissingPackageError
from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.measure.running import Contender
from foldbench.bench.measure.scenarios import measure_scenarios
from foldbench.bench.progress import NullListener
from foldbench.bench.records import ScenarioResult
from foldbench.bench.timing.loadgen import Images, drive
from foldbench.bench.timing.scenarios import (
    MOST_QUERIES,
    ScenarioOptions,
    queries_needed,
    require_loadgen,
    to_result,
)
from foldbench.bench.timing.simulation import FakeClock, FakeSession
from foldbench.bench.workers.client import WorkerClient
from foldbench.bench.workers.server import WorkerServer

pytest.importorskip("mlperf_loadgen", reason="LoadGen has no build for this platform")

SCENARIOS = ("singlestream", "multistream", "offline", "server")


class Paced(FakeSession):
    """The fake network in real time: it pauses, and notes what it was given."""

    def __init__(self, image_s: float = 0.0) -> None:
        super().__init__(self._pause, FakeClock())
        self._image_s = image_s
        self.threads_seen: set[int] = set()
        self.batch_sizes: list[int] = []
        self.images: set[int] = set()

    def _pause(self, batch_size: int) -> float:
        self.threads_seen.add(threading.get_ident())
        self.batch_sizes.append(batch_size)
        if self._image_s:
            time.sleep(self._image_s * batch_size)
        return 0.0

    def bind(self, x: Floats) -> None:
        assert x.flags.c_contiguous
        self.images |= set(np.rint(x[:, 0, 0, 0]).astype(int).tolist())
        super().bind(x)


@pytest.fixture
def worker_server(tmp_path: Path) -> Callable[[FakeSession], WorkerServer]:
    """Make a worker's inside with 30 images, the first pixel of image k being grey value k."""

    def make(session: FakeSession, count: int = 30) -> WorkerServer:
        images = np.zeros((count, 3, 4, 4), np.uint8)
        images[:, :, 0, 0] = np.arange(count)[:, None]
        np.save(tmp_path / "images.npy", images)
        job = make_job(tmp_path / "images.npy", batch_size=16)
        made = WorkerServer(job, session=session)
        made.evaluate()
        return made

    return make


def options(scenario: str, duration_s: float = 0.3, **changes) -> ScenarioOptions:
    server = {"qps": 2500.0, "latency_bound_s": 5.0} if scenario == "server" else {}
    return ScenarioOptions(
        **{  # type: ignore[arg-type]
            "scenario": scenario,
            "duration_s": duration_s,
            "batch_size": 6,
            "warm_up_s": 0.02,
            "seed": 3,
            **server,
            **changes,
        }
    )


def test_a_query_of_one_stream_takes_what_the_network_takes(worker_server) -> None:
    session = Paced(0.002)
    result = worker_server(session).run_scenario(options("singlestream"))
    assert (result.validity, result.reasons) == ("VALID", ())
    assert result.loadgen_version.startswith("6.")
    assert result.query_count == result.sample_count == result.call_count >= 64
    assert result.latencies is not None
    found = [v for v in asdict(result.latencies).values() if v is not None]
    assert found == sorted(found)
    assert found[0] >= 0.002
    assert result.early_stopping_s is not None
    assert result.early_stopping_s >= found[0]
    assert result.duration_s >= 0.3
    settings = result.settings
    assert (settings.min_duration_s, settings.max_duration_s) == (0.3, pytest.approx(1.8))
    assert (settings.qsl_seed, settings.sample_seed, settings.schedule_seed) == (3, 3, 3)
    assert 100 < settings.target_qps <= 500, "at most what a pause of 2 ms allows"
    assert (result.samples_per_s, result.completed_qps) == (None, None)


def test_multistream_is_eight_images_at_once_and_a_query_is_all_of_them(worker_server) -> None:
    session = Paced(0.0001)
    made = worker_server(session)
    session.batch_sizes.clear()
    result = made.run_scenario(options("multistream"))
    assert set(session.batch_sizes) == {8}
    assert result.settings.samples_per_query == 8
    assert result.sample_count == 8 * result.query_count >= 8 * 662
    assert result.latencies is not None
    assert result.latencies.p50_s is not None
    assert result.latencies.p50_s >= 8 * 0.0001


def test_offline_is_one_query_of_everything_in_large_batches(worker_server) -> None:
    session = Paced(0.0005)
    result = worker_server(session).run_scenario(options("offline"))
    assert result.query_count == 1
    assert result.sample_count == result.settings.samples_per_query
    assert result.call_count == -(-result.sample_count // 6)
    assert result.samples_per_s is not None
    assert result.samples_per_s <= 1 / 0.0005
    assert (result.latencies, result.early_stopping_s) == (None, None)


def test_server_answers_what_has_queued_in_the_thread_that_opened_the_network(
    worker_server,
) -> None:
    session = Paced(0.0002)
    result = worker_server(session).run_scenario(options("server"))
    assert (result.validity, result.reasons) == ("VALID", ())
    assert session.threads_seen == {threading.get_ident()}
    assert set(session.batch_sizes) <= {1, 2, 4, 6, 16, 14}, "16 and 14: the accuracy pass"
    assert result.batch_sizes == (1, 2, 4, 6)
    assert result.query_count == result.sample_count >= 662
    assert result.settings.target_qps == 2500
    assert result.settings.latency_bound_s == 5
    assert result.scheduled_qps == pytest.approx(2500, rel=0.3)
    assert result.over_latency_count == 0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_inputs_rotate_over_all_images_and_outputs_are_checked(
    scenario: str, worker_server
) -> None:
    session = Paced()
    made = worker_server(session)
    session.images.clear()
    result = made.run_scenario(options(scenario, 0.1))
    assert session.images == set(range(30))
    assert result.settings.loaded_samples == 30
    assert 20 <= result.checked_outputs <= 65


def test_a_server_that_cannot_keep_up_is_invalid(worker_server) -> None:
    result = worker_server(Paced(0.002)).run_scenario(
        options("server", 0.5, qps=600.0, latency_bound_s=0.01)
    )
    assert result.validity == "INVALID"
    assert any("Reduce target QPS" in reason for reason in result.reasons)
    assert result.over_latency_count is None or result.over_latency_count > 0


def test_a_server_that_cannot_ever_keep_up_is_given_up_without_figures(worker_server) -> None:
    started = time.monotonic()
    result = worker_server(Paced(0.02)).run_scenario(
        options("server", 0.1, qps=5000.0, batch_size=2)
    )
    assert time.monotonic() - started < 60
    assert result.validity == "INVALID"
    assert "given up after 0.7 s" in result.reasons[0]
    assert result.sample_count < result.query_count
    assert (result.latencies, result.completed_qps) == (None, None)


def test_a_percentile_without_enough_queries_does_not_exist(worker_server) -> None:
    result = worker_server(Paced(0.01)).run_scenario(options("singlestream", 0.05, warm_up_s=0.0))
    assert result.query_count < 64
    assert result.latencies is not None
    assert (result.latencies.p90_s, result.latencies.p99_9_s) == (None, None)
    assert result.early_stopping_s is None
    assert result.validity == "INVALID"
    assert any("at least 64 queries" in reason for reason in result.reasons)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_wrong_answer_during_the_test_is_no_result(scenario: str, worker_server) -> None:
    class Turncoat(Paced):
        wrong = False

        def output(self) -> Floats:
            return super().output() + (1 if self.wrong else 0)

    session = Turncoat()
    made = worker_server(session)
    calls = {"n": 0}
    pause = session._pause

    def turn_after_the_warm_up(batch_size: int) -> float:
        calls["n"] += 1
        session.wrong = calls["n"] > 100
        return pause(batch_size)

    session._step_s = turn_after_the_warm_up
    with pytest.raises(BackendError, match=r"batch size \d"):
        made.run_scenario(options(scenario, 0.2, warm_up_s=0.0))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_the_network_raises_ends_the_test_and_comes_out(scenario: str, worker_server) -> None:
    session = Paced()
    made = worker_server(session)
    calls = {"n": 0}

    def fail_in_the_end(batch_size: int) -> float:
        calls["n"] += 1
        if calls["n"] > 100:
            raise RuntimeError("out of device memory")
        return 0.0

    session._step_s = fail_in_the_end
    with pytest.raises(RuntimeError, match="out of device memory"):
        made.run_scenario(options(scenario, 0.2, warm_up_s=0.0))


@pytest.mark.parametrize("scenario", ["offline", "server"])
def test_images_that_cannot_be_loaded_end_the_test(scenario: str, tmp_path: Path) -> None:
    def refuse(indices: np.ndarray) -> np.ndarray:
        raise MemoryError(f"no room for {len(indices)} images")

    with pytest.raises(MemoryError, match="no room for 5 images"):
        drive(Paced(), Images(9, 5, refuse), options(scenario, 0.1), 0.001, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_more_queries_than_fit_in_memory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=f"more than the {MOST_QUERIES:,} queries"):
        drive(Paced(), blank_images(), options("singlestream", 600), 1e-6, tmp_path)


def test_fewer_images_than_a_query_has_samples_are_used_again(worker_server) -> None:
    session = Paced()
    result = worker_server(session, count=3).run_scenario(options("multistream", 0.1))
    assert result.settings.loaded_samples == 3
    assert result.sample_count == 8 * result.query_count


def blank_images() -> Images:
    return Images(9, 9, lambda indices: np.zeros((len(indices), 3, 2, 2), np.float32))


def test_a_network_faster_than_expected_runs_out_of_queries_and_says_so(tmp_path: Path) -> None:
    asked = options("singlestream", 0.2)
    driven, _ = drive(Paced(), blank_images(), asked, 0.01, tmp_path)
    result = to_result(asked, driven, 0)
    assert result.validity == "INVALID"
    assert any("Ran out of generated queries" in reason for reason in result.reasons)


def test_a_log_without_a_result_is_no_result(tmp_path: Path) -> None:
    asked = options("singlestream", 0.1)
    driven, _ = drive(Paced(), blank_images(), asked, 1e-6, tmp_path)
    assert to_result(asked, driven, 0).validity == "VALID"
    cut = driven.log[: driven.log.index("result_validity")]
    with pytest.raises(BackendError, match="says nothing of result_validity"):
        to_result(asked, SimpleNamespace(**{**vars(driven), "log": cut}), 0)  # type: ignore[arg-type]


def test_adjoining_images_are_not_copied_and_others_are_put_together() -> None:
    images = Images(20, 5, lambda indices: indices.astype(np.float32)[:, None])
    images.load([7, 3, 9, 4, 8, 7, 3])
    view, gathered = images.batch([3, 9, 4]), images.batch([8, 7])
    assert view.base is not None
    assert view[:, 0].tolist() == [3, 9, 4]
    assert gathered[:, 0].tolist() == [8, 7]


@given(st.floats(0.3, 0.9995))
def test_early_stopping_takes_as_many_queries_as_leave_two_beyond_the_percentile(p: float) -> None:
    def chance_of_fewer(n: int) -> float:
        return p**n + n * (1 - p) * p ** (n - 1)

    n = queries_needed(p)
    assert chance_of_fewer(n) <= 0.01 < chance_of_fewer(n - 1)


def test_early_stopping_takes_what_loadgen_says_it_takes() -> None:
    assert (queries_needed(0.9), queries_needed(0.99)) == (64, 662)


class Stub:
    """A worker that gives prepared results, or fails."""

    def __init__(self, result: ScenarioResult | None) -> None:
        self.result = result
        self.asked: list[ScenarioOptions] = []

    def run_scenario(self, asked: ScenarioOptions) -> ScenarioResult:
        self.asked.append(asked)
        if self.result is None:
            raise BackendError("an output at batch size 1 differs")
        return self.result

    def close(self) -> None:
        pass


def test_one_contender_after_the_other_is_driven_until_one_fails(worker_server) -> None:
    result = worker_server(Paced()).run_scenario(options("singlestream", 0.1))
    good, bad = Stub(result), Stub(None)
    rows = [
        Contender(ContenderSpec(backend, "folded", "cpu"), worker)  # type: ignore[arg-type]
        for backend, worker in (("torch", good), ("ort", bad))
    ]
    loadgen = LoadgenSection(scenarios=("server", "offline"), qps=40.0, duration_s=2.0)
    settings = CompareSection(loadgen=loadgen, batch_sizes=(4, 24), repeat=2, seed=7)
    for repeat in (1, 2):
        measure_scenarios(rows, settings, NullListener(), repeat)
    assert [found.repeat for found in rows[0].result.scenarios] == [1, 1, 2, 2]
    assert rows[1].result.status == "failed"
    assert "batch size 1 " in str(rows[1].result.reason)
    assert len(bad.asked) == 1
    server, offline = good.asked[:2]
    assert (server.scenario, server.qps, server.latency_bound_s) == ("server", 40.0, 0.01)
    assert server.batch_sizes == (1, 2, 4, 8, 16, 24)
    assert (offline.qps, offline.latency_bound_s, offline.batch_sizes) == (None, None, (24,))
    assert (offline.duration_s, offline.seed) == (2.0, 7)


def test_a_worker_that_hangs_is_killed_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foldbench.bench.timing.scenarios.GRACE_S", 0.0)
    monkeypatch.setattr("foldbench.bench.workers.client.serve", isolated_calls.wait_for_ever)
    worker = WorkerClient(make_job(tmp_path / "images.npy"))
    try:
        with pytest.raises(BackendError, match=r"1\.4 s: .* killed"):
            worker.run_scenario(options("singlestream", 0.1))
        assert worker._process.join(20) == -signal.SIGKILL
    finally:
        worker.close()


def test_without_loadgen_there_is_a_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_loadgen()
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'foldbench\[loadgen\]'"):
        require_loadgen()
