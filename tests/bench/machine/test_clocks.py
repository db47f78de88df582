"""Clocks around a block: read before and after, from made-up chips, never in between."""

from pathlib import Path

import numpy as np
import pytest

import fake_backend
from builders import make_job
from fake_nvml import H100, FakeNvml, processes
from foldbench.bench.machine.clocks import ClockReading, clocks_between, make_reader, read_nothing
from foldbench.bench.machine.gpu import GpuState
from foldbench.bench.records import Clocks
from foldbench.bench.timing.loop import BlockOptions, time_block
from foldbench.bench.timing.simulation import FakeClock, FakeSession

CPU0 = "sys/devices/system/cpu/cpu0"


def write(root: Path, **values: int) -> Path:
    """Set the clock (kHz) and the throttle count of a made-up CPU 0."""
    names = {"khz": "cpufreq/scaling_cur_freq", "hot": "thermal_throttle/core_throttle_count"}
    for name, value in values.items():
        path = root / CPU0 / names[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n", encoding="utf-8")
    return root


def only_cpu_0(monkeypatch) -> None:
    monkeypatch.setattr("foldbench.bench.machine.cpu.usable_cpus", lambda: (0,))


def test_a_cpu_that_slows_down_for_its_heat_is_seen(tmp_path: Path, monkeypatch) -> None:
    only_cpu_0(monkeypatch)
    read = make_reader("cpu", None, {}, write(tmp_path, khz=3_700_000, hot=4))
    before = read()
    write(tmp_path, khz=2_900_000, hot=7)
    found = clocks_between(before, read())
    assert found == Clocks(cpu_mhz=(3700.0, 2900.0), cpu_throttled=3)


def test_a_machine_that_tells_nothing_gives_no_clocks_at_all(tmp_path: Path) -> None:
    read = make_reader("cpu", None, {}, tmp_path)
    assert read() == read_nothing() == ClockReading()
    assert clocks_between(read(), read()) is None


def test_what_was_not_there_at_first_is_not_looked_for_again(tmp_path: Path, monkeypatch) -> None:
    only_cpu_0(monkeypatch)
    read = make_reader("cpu", None, {}, write(tmp_path, hot=1))
    write(tmp_path, khz=3_000_000)
    assert read() == ClockReading(cpu_throttle_count=1)


def test_a_gpu_is_read_where_it_is_what_runs(tmp_path: Path) -> None:
    nvml = FakeNvml({**H100, **processes()})
    assert make_reader("cpu", nvml, {}, tmp_path)().gpu is None
    read = make_reader("cuda:0", nvml, {}, tmp_path)
    before = read()
    hotter = {"DeviceGetClockInfo": {1: 1410}, "DeviceGetTemperature": {0: 84}}
    reasons = {"DeviceGetCurrentClocksEventReasons": 0x20, "DeviceGetPowerUsage": 699_000}
    nvml.gpus[0].update({**hotter, **reasons, **processes(1, 2)})
    monitored = clocks_between(before, read())
    assert monitored == Clocks(
        gpu_mhz=(1755, 1410),
        gpu_throttled=("sw_thermal_slowdown",),
        gpu_celsius=(51, 84),
        gpu_watts=(312.5, 699.0),
        gpu_foreign_processes=monitored.gpu_foreign_processes,
    )
    assert monitored.gpu_foreign_processes >= 1


def test_reasons_of_both_moments_count_once_and_unknown_is_not_none_at_all() -> None:
    def seen(*throttled: tuple[str, ...] | None) -> tuple[str, ...] | None:
        states = [GpuState(1000, t, None, None, None) for t in throttled]
        before, after = (ClockReading(gpu=state) for state in states)
        return clocks_between(before, after).gpu_throttled

    assert seen((), ()) == ()
    assert seen(("sw_power_cap",), ("sw_power_cap", "hw_slowdown")) == (
        "sw_power_cap",
        "hw_slowdown",
    )
    assert seen((), None) is None


def test_clocks_are_read_before_the_last_untimed_call_and_after_the_last_timed_one() -> None:
    clock, events = FakeClock(), []
    session = FakeSession(lambda size: 0.25, clock)
    step = session.step

    def watch() -> None:
        events.append("step")
        step()

    session.step = watch  # type: ignore[method-assign]

    def read() -> ClockReading:
        events.append("clocks")
        return ClockReading(cpu_mhz=1000.0 + len(events))

    batch = np.zeros((1, 3, 2, 2), np.float32)
    options = BlockOptions(calls=4, block_s=0, settle_s=0)
    timed = time_block(session, [batch], options, clock, read)
    assert events == ["step", "step", "clocks", "step", *["step"] * 4, "clocks"]
    assert timed.block.clocks == Clocks(cpu_mhz=(1003.0, 1009.0))
    assert timed.block.samples_s == (0.25,) * 4


@pytest.mark.usefixtures("with_fake_backend")
def test_a_worker_sends_them_along_with_its_block(tmp_path: Path, monkeypatch) -> None:
    from foldbench.bench.workers.server import WorkerServer

    speeds = iter((3000.0, 2000.0))
    monkeypatch.setattr(
        "foldbench.bench.workers.server.open_reader",
        lambda device: lambda: ClockReading(cpu_mhz=next(speeds)),
    )
    np.save(tmp_path / "images.npy", np.zeros((8, 3, 4, 4), np.uint8))
    job = make_job(tmp_path / "images.npy", backend="fake")
    clock = FakeClock()
    session = FakeSession(lambda size: 1e-3, clock)
    monkeypatch.setattr(fake_backend, "open_session", lambda *_, **__: session)
    with WorkerServer(job, clock) as server:
        opened = server.open()
        server.evaluate()
        block, _ = server.time(2, BlockOptions(calls=3, block_s=0, settle_s=0))
    assert block.clocks == Clocks(cpu_mhz=(3000.0, 2000.0))
    assert opened.resident is False
    assert "thread_pools" in opened.libraries
