"""The NVIDIA GPU that CUDA calls device 0, as the driver describes it.

https://docs.nvidia.com/cuda/cuda-driver-api
"""

import ctypes

from foldbench.bench.errors import BackendError

_DRIVER = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""


def gpu_architecture() -> str:
    """Return its architecture as NVRTC names it, such as ``sm_90``; BackendError without a GPU."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError as error:
        raise BackendError(
            f"the file has custom operators for a GPU, and there is no CUDA driver ({_DRIVER}): "
            "run it where there is one, or export it without them (--passes default)"
        ) from error
    device, numbers = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
    _check(driver.cuInit(0), "start")
    _check(driver.cuDeviceGet(ctypes.byref(device), 0), "find a GPU")
    for number, attribute in zip(numbers, (_MAJOR, _MINOR), strict=True):
        code = driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        _check(code, "describe the GPU")
    return "sm_{}{}".format(*(number.value for number in numbers))


def _check(code: int, what: str) -> None:
    if code:
        raise BackendError(f"the CUDA driver failed to {what}: error {code} (see nvidia-smi)")
