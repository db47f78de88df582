"""A backend for tests: one-hot answers, and times of a clock of its own.

`BACKENDS.added("fake", fake_backend)` makes it a plug-in, in this process alone.
"""

from foldbench.bench.backends import NO_OPTIONS, BackendOptions, Format, NetworkSource
from foldbench.bench.errors import BackendError
from foldbench.bench.samples.timing import Device
from foldbench.bench.timing.simulation import FakeClock, FakeSession

FORMAT: Format = "onnx"
OPTIONS = {"slow": "each image takes twice the time"}


def open_session(
    source: NetworkSource, *, device: Device, threads: int, options: BackendOptions = NO_OPTIONS
) -> FakeSession:
    """Open a session that takes 1 ms for each image of a batch; there is no fake CUDA."""
    if device != "cpu":
        raise BackendError(f"asked for {device}, but the fake backend has only a cpu")
    image_s = 2e-3 if "slow" in options else 1e-3
    return FakeSession(lambda batch_size: image_s * batch_size, FakeClock())
