"""GPUs as NVML tells of them: a stand-in answers, refuses, or is not there at all."""

import os
import sys
from types import SimpleNamespace

import pytest

from fake_nvml import H100, OLD, FakeNvml, processes
from foldbench.bench.machine.gpu import (
    count_gpus,
    describe_gpus,
    find_first_visible,
    name_reasons,
    open_nvml,
    read_own_memory_bytes,
    read_state,
)

UUID = "GPU-11111111-2222-3333-4444-555555555555"


def test_a_gpu_is_described_with_its_driver() -> None:
    found = describe_gpus(FakeNvml(H100))
    assert found == {
        "gpu": "NVIDIA H100 80GB HBM3",
        "driver": "580.95.05",
        "cuda_driver": "13.0",
        "gpus": [
            {
                "name": "NVIDIA H100 80GB HBM3",
                "uuid": UUID,
                "compute_capability": "9.0",
                "memory_bytes": 80 * 2**30,
                "mhz_max": 1980,
                "memory_mhz_max": 2619,
                "power_limit_watts": 700.0,
                "ecc": True,
                "mig": False,
                "persistence": True,
            }
        ],
        "gpus_now": [
            {"mhz": 1755, "memory_mhz": 2619, "celsius": 51, "watts": 312.5, "processes": 0}
        ],
    }


def test_what_a_gpu_does_not_tell_is_left_out() -> None:
    found = describe_gpus(FakeNvml(OLD))
    assert found["gpus"] == [{"name": "Quadro P400", "uuid": "GPU-99999999-0"}]
    assert found["gpus_now"] == [{}]


def test_without_nvml_there_is_the_reason() -> None:
    assert describe_gpus(None, "Driver Not Loaded") == {"gpus_unknown": "Driver Not Loaded"}
    assert describe_gpus(FakeNvml()) == {"gpus_unknown": "NVML shows no GPU"}
    assert count_gpus(None) == 0


def test_a_missing_package_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    library, reason = open_nvml()
    assert library is None
    assert "nvidia-ml-py" in str(reason)


def test_a_missing_driver_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoDriver(FakeNvml):
        def nvmlInit(self) -> None:
            raise self.NVMLError("NVML Shared Library Not Found")

    monkeypatch.setitem(sys.modules, "pynvml", NoDriver())
    assert open_nvml() == (None, "NVML Shared Library Not Found")


ORDERS = {
    "nothing set, one GPU": ((H100,), {}, 0),
    "nothing set, two of a kind": ((H100, H100), {}, 0),
    "the second of two of a kind": ((H100, H100), {"CUDA_VISIBLE_DEVICES": "1,0"}, 1),
    "none is visible": ((H100,), {"CUDA_VISIBLE_DEVICES": ""}, None),
    "one that is not there": ((H100,), {"CUDA_VISIBLE_DEVICES": "3"}, None),
    "unlike ones in CUDA's own order": ((OLD, H100), {}, None),
    "unlike ones in the order of the bus": (
        (OLD, H100),
        {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        1,
    ),
    "by name": ((OLD, H100), {"CUDA_VISIBLE_DEVICES": "GPU-11111111"}, 1),
    "by a name that is not there": ((OLD, H100), {"CUDA_VISIBLE_DEVICES": "GPU-7"}, None),
    "a part of one that cannot be told": ((H100,), {"CUDA_VISIBLE_DEVICES": "MIG-1/2/3"}, None),
}


@pytest.mark.parametrize(("gpus", "environment", "index"), ORDERS.values(), ids=ORDERS)
def test_cudas_first_gpu_is_found_or_unknown(
    gpus: tuple[dict, ...], environment: dict[str, str], index: int | None
) -> None:
    nvml = FakeNvml(*gpus)
    found = find_first_visible(nvml, environment)
    assert found is (None if index is None else nvml.gpus[index])


def test_unlike_gpus_of_which_cuda_may_take_either_are_both_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert describe_gpus(FakeNvml(OLD, H100))["gpu"] == "NVIDIA H100 80GB HBM3 or Quadro P400"


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0x0, ()),
        (0x1 | 0x2 | 0x10 | 0x100, ()),
        (0x4, ("sw_power_cap",)),
        (0x1 | 0x20 | 0x40, ("sw_thermal_slowdown", "hw_thermal_slowdown")),
    ],
)
def test_only_what_holds_the_clock_back_is_named(bits: int, names: tuple[str, ...]) -> None:
    assert name_reasons(bits) == names


def test_the_bits_are_those_of_nvml() -> None:
    pynvml = pytest.importorskip("pynvml")
    assert name_reasons(pynvml.nvmlClocksEventReasonSwPowerCap) == ("sw_power_cap",)
    assert name_reasons(pynvml.nvmlClocksEventReasonHwSlowdown) == ("hw_slowdown",)
    assert name_reasons(pynvml.nvmlClocksEventReasonGpuIdle) == ()


def test_a_state_is_read_also_under_the_older_name_of_the_reasons() -> None:
    older = {name: value for name, value in H100.items() if not name.endswith("EventReasons")}
    older["DeviceGetCurrentClocksThrottleReasons"] = 0x8
    nvml = FakeNvml(older)
    state = read_state(nvml, nvml.gpus[0])
    assert (state.mhz, state.celsius, state.watts) == (1755, 51, 312.5)
    assert state.throttled == ("hw_slowdown",)


def test_processes_of_others_are_told_from_those_of_the_comparison() -> None:
    """Process 1 and a number that no process has are foreign; our parent is not."""
    nvml = FakeNvml({**H100, **processes(os.getppid(), 1, 2**22 + 1)})
    expected = 2 if os.getppid() != 1 else 1
    assert read_state(nvml, nvml.gpus[0]).foreign_processes == expected


def test_memory_of_this_process_is_told_from_that_of_others() -> None:
    held = [
        SimpleNamespace(pid=os.getpid(), usedGpuMemory=300),
        SimpleNamespace(pid=1, usedGpuMemory=7),
    ]
    nvml = FakeNvml({**H100, "DeviceGetComputeRunningProcesses": held})
    assert read_own_memory_bytes(nvml, nvml.gpus[0]) == 300
    held[0].usedGpuMemory = None  # of which NVML may not tell
    assert read_own_memory_bytes(nvml, nvml.gpus[0]) is None
    nvml = FakeNvml(H100)
    assert read_own_memory_bytes(nvml, nvml.gpus[0]) is None


def test_processes_are_unknown_where_the_asking_one_is_not_among_them() -> None:
    """In a container NVML counts processes as the host does."""
    nvml = FakeNvml(H100)
    assert read_state(nvml, nvml.gpus[0]).foreign_processes is None


@pytest.mark.gpu
@pytest.mark.skipif(count_gpus(open_nvml()[0]) == 0, reason="needs an NVIDIA GPU with NVML")
def test_a_real_gpu_is_described() -> None:
    found = describe_gpus(*open_nvml())
    assert found["gpu"]
    assert found["driver"]
    assert found["gpus"][0]["mhz_max"] > 100
    nvml, _ = open_nvml()
    handle = find_first_visible(nvml, os.environ)
    if handle is not None:
        state = read_state(nvml, handle)
        assert state.mhz is not None
        assert state.throttled is not None
