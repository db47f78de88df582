"""A stand-in for NVML: made-up GPUs, and a refusal of every question that has no answer."""

import os
from types import SimpleNamespace
from typing import Any

H100 = {
    "DeviceGetName": "NVIDIA H100 80GB HBM3",
    "DeviceGetUUID": b"GPU-11111111-2222-3333-4444-555555555555",
    "DeviceGetCudaComputeCapability": (9, 0),
    "DeviceGetMemoryInfo": SimpleNamespace(total=80 * 2**30),
    "DeviceGetMaxClockInfo": {1: 1980, 2: 2619},
    "DeviceGetClockInfo": {1: 1755, 2: 2619},
    "DeviceGetEnforcedPowerLimit": 700_000,
    "DeviceGetPowerUsage": 312_500,
    "DeviceGetTemperature": {0: 51},
    "DeviceGetEccMode": [1, 1],
    "DeviceGetMigMode": [0, 0],
    "DeviceGetPersistenceMode": 1,
    "DeviceGetCurrentClocksEventReasons": 0x1,
    "DeviceGetComputeRunningProcesses": [],
}
OLD = {"DeviceGetName": "Quadro P400", "DeviceGetUUID": "GPU-99999999-0"}
"""A GPU that tells next to nothing."""


class FakeNvml:
    """What pynvml looks like to one who asks: ``nvmlDeviceGetName(handle)`` and so on.

    A handle is a GPU's own dictionary of answers; a question that is not in it raises NVMLError.
    """

    class NVMLError(Exception):
        """What the library raises."""

    def __init__(self, *gpus: dict[str, Any], driver: str = "580.95.05", cuda: int = 13000) -> None:
        self.gpus = [dict(gpu) for gpu in gpus]
        self._driver, self._cuda = driver, cuda

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, start: str) -> dict[str, Any]:
        for gpu in self.gpus:
            uuid = gpu["DeviceGetUUID"]
            if (uuid.decode() if isinstance(uuid, bytes) else uuid).startswith(start):
                return gpu
        raise self.NVMLError("Not Found")

    def nvmlSystemGetDriverVersion(self) -> str:
        return self._driver

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return self._cuda

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def answer(handle: dict[str, Any], *which: int) -> Any:
            value = handle.get(name.removeprefix("nvml"))
            if value is None:
                raise self.NVMLError("Not Supported")
            return value[which[0]] if which else value

        return answer


def processes(*pids: int) -> dict[str, Any]:
    """Return the answer that lists these processes, beside a process that asks."""
    return {
        "DeviceGetComputeRunningProcesses": [
            SimpleNamespace(pid=pid) for pid in (os.getpid(), *pids)
        ]
    }
