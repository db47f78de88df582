"""ONNX Runtime: the exported file on the CPU or CUDA execution provider."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import onnxruntime

from bench.backends import NO_OPTIONS, Floats, Format, Options, Source
from bench.backends._ort_profile import read_profile
from bench.errors import BackendError, one_line
from bench.records import Device
from bench.records_profile import OperatorTime
from bench.records_quantization import PRECISION

FORMAT: Format = "onnx"
OPTIONS: dict[str, str] = {}

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_HIGH = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
_SILENT = 4  # what the runtime would log on the way is checked and raised here


class OrtSession:
    """An InferenceSession called with host arrays; graph optimisation ALL, spinning as shipped."""

    def __init__(self, session: Any, device: Device) -> None:
        self._session: Any = session
        self._input = session.get_inputs()[0].name
        self._outputs = [session.get_outputs()[0].name]
        self._x: Floats | None = None
        self._y: Any = None
        self._placed: Any = None  # the IO binding that keeps input and output on the device
        self.precision = session.get_modelmeta().custom_metadata_map.get(PRECISION, "float32")
        self.threads = session.get_session_options().intra_op_num_threads
        provider = check_provider(device, session.get_providers())
        self.device = "cpu" if device == "cpu" else "cuda:0"
        self.runtime = f"onnxruntime {onnxruntime.__version__} {provider}, graph optimisation all"
        if device == "cuda":
            self.runtime += ", TF32 off, cuDNN search exhaustive"

    def bind(self, x: Floats) -> None:
        """Take (N, C, H, W) float32; the runtime copies it to a GPU when it runs."""
        self._x, self._placed, self._y = x, None, None

    def place(self, x: Floats) -> None:
        """Bring (N, C, H, W) float32 to the device; outputs stay there until they are fetched."""
        kind = self.device.partition(":")[0]
        self._placed = self._session.io_binding()
        value = onnxruntime.OrtValue.ortvalue_from_numpy(x, kind, 0)
        self._placed.bind_ortvalue_input(self._input, value)
        self._placed.bind_output(self._outputs[0], kind, 0)
        self._placed.synchronize_inputs()
        self._y = None

    def step(self) -> None:
        """Run the session; unless its input was placed, returns with the output in host memory."""
        if self._placed is None:
            self._y = self._session.run(self._outputs, {self._input: self._x})[0]
        else:
            self._session.run_with_iobinding(self._placed)
            self._y = self._placed

    def synchronize(self) -> None:
        """Wait for outputs that stay on the device; run() itself returns host arrays."""
        if self._placed is not None:
            self._placed.synchronize_outputs()

    def output(self) -> Floats:
        """Return the logits of the last step, (N, classes) float32."""
        if self._y is None:
            raise BackendError("output() before step(): run the network first")
        return self._y if self._placed is None else self._y.copy_outputs_to_cpu()[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = self._placed = self._x = self._y = None


def check_provider(device: Device, held: list[str]) -> str:
    """Return the provider that stands for `device`; raise BackendError when it is not held.

    `held` is what the session itself says it uses, most preferred first. A session that fell back
    holds CPUExecutionProvider alone, whatever was asked for.
    """
    wanted = _PROVIDERS[device]
    if not held or held[0] != wanted:
        raise BackendError(
            f"asked for {device} ({wanted}), but the session holds {', '.join(held) or 'none'}: "
            "onnxruntime fell back; check the driver (nvidia-smi) and that the CUDA and cuDNN "
            "libraries it needs are installed"
        )
    return wanted


def open(
    source: Source, *, device: Device, threads: int, options: Options = NO_OPTIONS
) -> OrtSession:
    """Open the source's .onnx file on `device`.

    Raises BackendError when onnxruntime cannot load it, has no such provider, or fell back.
    """
    return OrtSession(_open_session(source, device, threads), device)


def profile(
    source: Source,
    *,
    device: Device,
    threads: int,
    options: Options,
    batches: Sequence[Floats],
    runs: int,
) -> tuple[OperatorTime, ...]:
    """Return each node's time as onnxruntime's profiler sees it; raises what `open` raises.

    As many runs are made before, and left out.
    """
    with TemporaryDirectory() as folder:
        session = _open_session(source, device, threads, str(Path(folder) / "profile"))
        name = session.get_inputs()[0].name
        for index in range(2 * runs):
            session.run(None, {name: batches[index % len(batches)]})
        return read_profile(Path(session.end_profiling()), skip=runs)


def _open_session(
    source: Source, device: Device, threads: int, profile_prefix: str | None = None
) -> Any:
    onnxruntime.set_default_logger_severity(_SILENT)
    wanted = _PROVIDERS[device]
    if wanted not in onnxruntime.get_available_providers():
        raise BackendError(
            f"asked for {device}, but this onnxruntime {onnxruntime.__version__} has no {wanted} "
            f"(it has {', '.join(onnxruntime.get_available_providers())}): "
            "pip install onnxruntime-gpu"
        )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.graph_optimization_level = _HIGH
    settings.log_severity_level = _SILENT
    if profile_prefix is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = profile_prefix
    try:
        session = onnxruntime.InferenceSession(
            str(source.path), settings, providers=_provider_options(device), enable_fallback=0
        )
    except Exception as error:  # onnxruntime raises bare Exceptions of its own
        raise BackendError(
            f"onnxruntime could not open it on {device}: {one_line(error)}"
        ) from None
    return session


def _provider_options(device: Device) -> list[Any]:
    if device == "cpu":
        return [_PROVIDERS["cpu"]]
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    # TF32 off as in torch; the search for convolution algorithms is stated, not left to a default.
    settings = {"use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE"}
    return [(_PROVIDERS["cuda"], settings)]
