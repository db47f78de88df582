"""From host to host, and on the device alone: a made-up GPU whose transfers take a known time."""

import time
from itertools import count
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from builders import QuietWorker, make_job
from foldbench.bench.backends import Resident
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.errors import BackendError
from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.measure.latency import measure_latency
from foldbench.bench.measure.running import Contender
from foldbench.bench.measure.series import MeasurementSeries, to_timing
from foldbench.bench.progress import NullListener
from foldbench.bench.timing.loop import (
    BlockOptions,
    check_synchronized,
    time_block,
    time_call,
    time_resident_call,
    warm_up,
)
from foldbench.bench.timing.simulation import FakeClock, FakeGpuSession, FakeSession
from foldbench.bench.workers import torch_module
from foldbench.bench.workers.protocol import Job, Opened
from foldbench.bench.workers.server import WorkerServer

STEP_S, TRANSFER_S, LAUNCH_S = 0.25, 0.0625, 0.03125
RESIDENT = BlockOptions(calls=5, block_s=0, settle_s=0, boundary="device")
HOST = BlockOptions(calls=5, block_s=0, settle_s=0)


class Forgetful(FakeGpuSession):
    """A backend whose synchronize() does not wait; its answers are right all the same."""

    def synchronize(self) -> None:
        pass


def gpu(
    kind: type[FakeGpuSession] = FakeGpuSession, step_s: float = STEP_S
) -> tuple[FakeGpuSession, FakeClock]:
    clock = FakeClock()
    return kind(lambda size: step_s * size, clock, TRANSFER_S, LAUNCH_S), clock


def batch(size: int = 1) -> np.ndarray:
    return np.ones((size, 3, 2, 2), np.float32)


@pytest.mark.parametrize("size", [1, 4])
def test_the_host_boundary_holds_exactly_the_transfers_more_than_the_device(size: int) -> None:
    session, clock = gpu()
    on_device = time_block(session, [batch(size)], RESIDENT, clock)
    from_host = time_block(session, [batch(size)], HOST, clock)
    assert on_device.block.samples_s == (LAUNCH_S + STEP_S * size,) * 5
    assert from_host.block.samples_s == (2 * TRANSFER_S + LAUNCH_S + STEP_S * size,) * 5
    assert np.array_equal(on_device.output, from_host.output)
    assert on_device.output.shape == (size, 10)


def test_the_clock_starts_with_the_input_in_place_and_stops_when_the_device_is_done() -> None:
    session, clock = gpu()
    events: list[str] = []
    for name in ("synchronize", "place", "step", "output"):
        method = getattr(session, name)

        def record(*arguments: object, name: str = name, method=method) -> object:
            events.append(name)
            return method(*arguments)

        setattr(session, name, record)

    def watch() -> float:
        events.append("clock")
        return clock()

    time_resident_call(session, batch(), watch)
    assert events == ["place", "synchronize", "clock", "step", "synchronize", "clock", "output"]


def test_warming_up_stays_within_the_boundary() -> None:
    session, clock = gpu()
    assert warm_up(session, [batch()], 0.0, clock).first_call_s == STEP_S + LAUNCH_S + 0.125
    assert warm_up(session, [batch()], 0.0, clock, "device").first_call_s == STEP_S + LAUNCH_S


@given(step_s=st.floats(1e-4, 1.0), launch_s=st.floats(0, 1e-4), transfer_s=st.floats(0, 0.1))
def test_a_device_that_is_waited_for_passes_and_one_that_is_not_is_caught(
    step_s: float, launch_s: float, transfer_s: float
) -> None:
    for kind, waits in ((FakeGpuSession, True), (Forgetful, False)):
        clock = FakeClock()
        session = kind(lambda size: step_s, clock, transfer_s, launch_s)
        if waits:
            check_synchronized(session, batch(), clock)
        else:
            with pytest.raises(BackendError, match="µs"):
                check_synchronized(session, batch(), clock)


def test_forgetting_to_synchronise_is_harmless_from_host_to_host() -> None:
    session, clock = gpu(Forgetful)
    assert time_block(session, [batch()], HOST, clock).block.samples_s == (0.40625,) * 5


def test_a_session_without_a_place_for_its_input_is_refused() -> None:
    clock = FakeClock()
    session = FakeSession(lambda size: 1.0, clock)
    assert not isinstance(session, Resident)
    with pytest.raises(BackendError):
        time_block(session, [batch()], RESIDENT, clock)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    pixels = np.zeros((10, 3, 2, 2), np.uint8)
    pixels[:, :, 0, 0] = np.arange(10)[:, None]
    np.save(tmp_path / "images.npy", pixels)
    return tmp_path / "images.npy"


@pytest.mark.usefixtures("with_fake_backend")
def test_opening_times_the_very_first_call_apart(images: Path) -> None:
    ticks = count()
    job = make_job(images, backend="fake", first_batch_size=2)
    opened = WorkerServer(job, lambda: float(next(ticks))).open()
    building_and_opening = 2.0
    told = (opened.import_s, opened.open_s, opened.first_run_s)
    assert told == (1.0, building_and_opening, 1.0)


def test_a_network_opened_anew_is_built_anew(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[torch.nn.Module] = []

    def build(_: Job) -> torch.nn.Module:
        built.append(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10)).eval())
        return built[-1]

    monkeypatch.setattr(torch_module, "build_module", build)
    threads = torch.get_num_threads()
    with WorkerServer(make_job(images, backend="torch", threads=threads)) as server:
        answers = []
        for _ in range(2):
            server.open()
            answers.append(server.evaluate())
    assert len(built) == 2
    assert not np.allclose(*answers)  # random weights: another module answers


def contender(
    backend: str, device: str, session: FakeSession, clock: FakeClock, images: Path
) -> Contender:
    worker = QuietWorker(make_job(images), clock, session)
    worker.evaluate()
    row = Contender(ContenderSpec(backend, "unfolded", device), worker)
    resident = isinstance(session, Resident)
    row.result.opened = Opened(session.device, "fake", 1, "float32", 0.0, 0.0, resident=resident)
    return row


def quick(**changes) -> CompareSection:
    settings = {"batch_sizes": (1, 4), "rounds": 2, "calls": 3, "block_s": 0.0, "settle_s": 0.0}
    return CompareSection(**{**settings, "warm_up_s": 0.0, **changes})


def on_cpu(images: Path) -> Contender:
    clock = FakeClock()
    return contender("torch", "cpu", FakeSession(lambda size: 1.0, clock), clock, images)


def on_gpu(
    images: Path, kind: type[FakeGpuSession] = FakeGpuSession, backend: str = "torch"
) -> Contender:
    session, clock = gpu(kind)
    return contender(backend, "cuda", session, clock, images)


def times_of(row: Contender) -> dict[tuple[int, str], set[float]]:
    timings = [to_timing(row.result.times, series) for series in row.result.times.blocks]
    return {(t.batch_size, t.boundary): set(np.round(t.samples_s(), 9)) for t in timings}


def test_what_runs_on_a_gpu_is_timed_within_both_boundaries_and_the_rest_within_one(
    images: Path,
) -> None:
    cpu, cuda = on_cpu(images), on_gpu(images)
    measure_latency([cpu, cuda], quick(), NullListener())
    assert times_of(cpu) == {(1, "host"): {1.0}, (4, "host"): {1.0}}
    assert times_of(cuda) == {
        (1, "host"): {0.40625},
        (1, "device"): {0.28125},
        (4, "host"): {1.15625},
        (4, "device"): {1.03125},
    }
    timing = to_timing(cuda.result.times, MeasurementSeries(1, "device"))
    assert timing.first_call_s == 0.28125
    assert timing.checked_outputs == len(timing.blocks) == 2
    assert {block.round for block in timing.blocks} == {1, 2}


def test_the_second_boundary_can_be_left_out(images: Path) -> None:
    cuda = on_gpu(images)
    measure_latency([cuda], quick(boundaries="host"), NullListener())
    assert set(times_of(cuda)) == {(1, "host"), (4, "host")}


def test_one_that_does_not_wait_for_its_device_keeps_its_figures_from_host_to_host(
    images: Path,
) -> None:
    hasty, sound = on_gpu(images, Forgetful, "ort"), on_gpu(images)
    measure_latency([hasty, sound], quick(), NullListener())
    assert (hasty.result.status, hasty.result.reason) == ("ok", None)
    assert "250 ms" in str(hasty.result.not_resident)
    assert set(times_of(hasty)) == {(1, "host"), (4, "host")}
    assert len(times_of(sound)) == 4


def test_one_that_fails_on_the_device_at_a_later_batch_size_keeps_the_earlier_ones(
    images: Path,
) -> None:
    class Full(FakeGpuSession):
        def place(self, x: np.ndarray) -> None:
            if len(x) > 1:
                raise BackendError("out of memory")
            super().place(x)

    row = on_gpu(images, Full)
    measure_latency([row], quick(), NullListener())
    assert (row.result.status, row.result.not_resident) == ("ok", "out of memory")
    assert set(times_of(row)) == {(1, "host"), (1, "device"), (4, "host")}


def test_a_boundary_within_which_nothing_runs_any_more_takes_no_budget(images: Path) -> None:
    class Full(FakeGpuSession):
        def place(self, x: np.ndarray) -> None:
            raise BackendError("out of memory")

    row, now_s = on_gpu(images, Full), count(step=100.0)
    measure_latency([row], quick(budget_s=1.0), NullListener(), clock=lambda: next(now_s))
    assert (row.result.status, row.result.not_resident) == ("ok", "out of memory")
    assert set(times_of(row)) == {(1, "host"), (4, "host")}


def test_a_wrong_answer_on_the_device_is_not_timed_there(images: Path) -> None:
    class Wrong(FakeGpuSession):
        placed = False

        def place(self, x: np.ndarray) -> None:
            super().place(x)
            self.placed = True

        def bind(self, x: np.ndarray) -> None:
            super().bind(x)
            self.placed = False

        def output(self) -> np.ndarray:
            answers = super().output()
            return np.roll(answers, 1, axis=1) if self.placed else answers

    row = on_gpu(images, Wrong)
    measure_latency([row], quick(), NullListener())
    assert "batch size 1" in str(row.result.not_resident)
    assert set(times_of(row)) == {(1, "host"), (4, "host")}


def test_a_repetition_goes_on_counting_the_rounds_of_each_boundary(images: Path) -> None:
    cuda = on_gpu(images)
    settings = quick(repeat=2, batch_sizes=(1,))
    for repeat in (1, 2):
        measure_latency([cuda], settings, NullListener(), repeat)
    for boundary in ("host", "device"):
        blocks = to_timing(cuda.result.times, MeasurementSeries(1, boundary)).blocks
        assert [(b.round, b.repeat) for b in blocks] == [(1, 1), (2, 1), (3, 2), (4, 2)]


def test_onnxruntime_keeps_input_and_output_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: what its session is asked for, in which order."""
    from foldbench.bench.backends import ort

    asked: list[tuple] = []

    class Binding:
        def __getattr__(self, name: str):
            return lambda *arguments: asked.append((name, *arguments)) or ["on the host"]

    node = SimpleNamespace(name="x")
    session = SimpleNamespace(
        get_inputs=lambda: [node],
        get_outputs=lambda: [SimpleNamespace(name="y")],
        get_session_options=lambda: SimpleNamespace(intra_op_num_threads=1),
        get_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        get_modelmeta=lambda: SimpleNamespace(custom_metadata_map={}),
        io_binding=Binding,
        run_with_iobinding=lambda binding: asked.append(("run_with_iobinding",)),
    )
    monkeypatch.setattr(
        ort.onnxruntime,
        "OrtValue",
        SimpleNamespace(
            ortvalue_from_numpy=lambda x, kind, number: f"{x.shape} on {kind}:{number}"
        ),
    )
    monkeypatch.setattr(ort, "describe", lambda *_: "onnxruntime")
    opened = ort.OrtSession(session, "cuda")
    opened.place(batch(2))
    opened.step()
    opened.synchronize()
    assert opened.output() == "on the host"
    assert asked == [
        ("bind_ortvalue_input", "x", "(2, 3, 2, 2) on cuda:0"),
        ("bind_output", "y", "cuda", 0),
        ("synchronize_inputs",),
        ("run_with_iobinding",),
        ("synchronize_outputs",),
        ("copy_outputs_to_cpu",),
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_device_boundary_agrees_with_the_events_of_cuda() -> None:
    """A large product of matrices: the GPU's own clock is the second opinion on ours."""
    from foldbench.bench.backends import NetworkSource
    from foldbench.bench.backends import torch as backend

    network = torch.nn.Sequential(torch.nn.Flatten(), *[torch.nn.Linear(3072, 3072)] * 8).eval()
    source = NetworkSource(path=Path(), build_module=lambda: network)
    x = np.ones((4096, 3, 32, 32), np.float32)
    with backend.open_session(source, device="cuda", threads=1) as session:
        measured, events = [], []
        for _ in range(10):
            measured.append(time_resident_call(session, x, time.perf_counter)[0])
            session.place(x)
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            session.step()
            end.record()
            session.synchronize()
            events.append(begin.elapsed_time(end) / 1e3)
        from_host = [time_call(session, x, time.perf_counter)[0] for _ in range(5)]
    on_device = median(measured)
    assert 0.9 * median(events) <= on_device <= 1.2 * median(events) + 1e-4
    assert on_device < median(from_host), "50 MB have to go there and come back"
