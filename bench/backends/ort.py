"""ONNX Runtime: the exported file on the CPU or CUDA execution provider."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime

from foldbench.bench.backends import (
    NO_OPTIONS,
    BackendOptions,
    Closing,
    Floats,
    Format,
    NetworkSource,
    Session,
)
from foldbench.bench.backends._ort.graph import CudaGraphSession
from foldbench.bench.backends._ort.kept import cache_options, keep_engines, keep_graph
from foldbench.bench.backends._ort.operator_times import read_profile
from foldbench.bench.backends._ort.options import OrtSettings, how_to_install, read_settings
from foldbench.bench.backends._ort.options import refuse as refuse
from foldbench.bench.backends._ort.placement import RECORD_PLACEMENT, check_nodes
from foldbench.bench.backends._ort.tactics import MicroBatchSession, TunedSession
from foldbench.bench.compiler.driver import gpu_architecture
from foldbench.bench.errors import BackendError, one_line
from foldbench.bench.host_files import custom_operators
from foldbench.bench.host_files.marks import OPERATORS, PRECISION, HowToRun, how_to_run
from foldbench.bench.samples.timing import Device, OperatorTime
from foldbench.bench.store.files import replacing

FORMAT: Format = "onnx"
OPTIONS: dict[str, str] = {
    "micro": "micro-batching: batches larger than N in parts of N images: micro=16 (cpu)",
    "tuned": "autotuned before timing: micro-batches, threads with or without spin-wait (cpu)",
    "no_spin": "threads sleep at once when there is no work, without spin-wait (cpu)",
    "saved": "opened from the graph that onnxruntime has optimized and saved before (cpu)",
    "openvino": "OpenVINO's execution provider, of the package onnxruntime-openvino (cpu)",
    "tensorrt": "TensorRT's execution provider (cuda)",
    "tf32": "TF32 matrix products and convolutions (cuda)",
    "fp16": "TensorRT may compute in float16: tensorrt+fp16 (cuda)",
    "cuda_graph": "record the GPU's work once for each batch size and replay it (cuda)",
    "nhwc": "convolutions in NHWC where there are kernels for it (cuda)",
    "search": "how cuDNN's algorithms are found: search=exhaustive, heuristic or default (cuda)",
}
DISTRIBUTIONS = {"cpu": "onnxruntime", "cuda": "onnxruntime-gpu[cuda,cudnn]"}
"""What to install for another version of it, by device."""
RUNS_HOST_FILES = True
"""Whether it runs files that onnxruntime has optimised for this machine alone."""

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_TENSORRT = "TensorrtExecutionProvider"
_HIGH = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
_NONE = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
_SEQUENTIAL = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
_SILENT = 4  # what the runtime would log on the way is checked and raised here


class OrtSession(Closing):
    """An InferenceSession called with host arrays; graph optimisation ALL, arena as shipped.

    A file that is optimised for this machine already is run as it is.
    """

    def __init__(self, session: Any, device: Device, settings: OrtSettings | None = None) -> None:
        self._session: Any = session
        self._asked: Any = (session, device, settings)
        self._input = session.get_inputs()[0].name
        self._outputs = [session.get_outputs()[0].name]
        self._x: Floats | None = None
        self._y: Any = None
        self._placed: Any = None  # the IO binding that keeps input and output on the device
        self.threads = session.get_session_options().intra_op_num_threads
        settings = settings or OrtSettings(_PROVIDERS[device])
        check_provider(device, session.get_providers(), settings.provider)
        facts = session.get_modelmeta().custom_metadata_map
        self.precision = facts.get(PRECISION, settings.precision)
        self.device = "cpu" if device == "cpu" else "cuda:0"
        self.runtime = describe(session, settings)

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

    def another(self) -> "OrtSession":
        """Return a further session that runs the same InferenceSession."""
        return OrtSession(*self._asked)

    def close(self) -> None:
        """Free what the session holds."""
        self._session = self._placed = self._x = self._y = self._asked = None


def describe(session: Any, settings: OrtSettings) -> str:
    """Return library, provider and the settings that matter to speed, as the session has them."""
    used = session.get_session_options()
    level = "as in the file" if used.graph_optimization_level == _NONE else "all"
    reported = [
        f"onnxruntime {onnxruntime.__version__} {settings.provider}",
        f"graph optimisation {level}",
        "sequential" if used.execution_mode == _SEQUENTIAL else "parallel",
        f"arena {'on' if used.enable_cpu_mem_arena else 'off'}",
        *settings.reported,
    ]
    if OPERATORS in session.get_modelmeta().custom_metadata_map:
        reported.append("custom operators")
    if settings.provider != _PROVIDERS["cpu"]:
        reported.append(check_nodes(session, settings.provider))
    else:
        reported.append(f"spinning {'on' if settings.spinning else 'off'}")
    return ", ".join(reported)


def check_provider(device: Device, held: list[str], wanted: str | None = None) -> str:
    """Return the provider that stands for `device`; raise BackendError when it is not held.

    `held` is what the session itself says it uses, most preferred first. A session that fell back
    holds CPUExecutionProvider alone, whatever was asked for. `wanted` is another provider than the
    device's usual one.
    """
    wanted = wanted or _PROVIDERS[device]
    if not held or held[0] != wanted:
        raise BackendError(
            f"asked for {device} ({wanted}), but the session holds {', '.join(held) or 'none'}: "
            "onnxruntime fell back; check the driver (nvidia-smi) and that the CUDA and cuDNN "
            "libraries it needs are installed"
        )
    return wanted


def open_session(
    source: NetworkSource, *, device: Device, threads: int, options: BackendOptions = NO_OPTIONS
) -> Session:
    """Open the source's .onnx file on `device`.

    Raises BackendError when onnxruntime cannot load it, has no such provider, or fell back.
    """
    settings = read_settings(options, device, threads)
    session = _open_session(source, settings, device, threads)
    plain = OrtSession(session, device, settings)
    if settings.cuda_graph:
        return CudaGraphSession(session, plain.runtime, plain.precision)
    if settings.micro is not None:
        return MicroBatchSession(plain, settings.micro)
    if settings.tuned:
        no_spin_wait = replace(settings, spinning=False)
        return TunedSession(
            plain,
            lambda: OrtSession(
                _open_session(source, no_spin_wait, device, threads), device, no_spin_wait
            ),
        )
    return plain


def profile(
    source: NetworkSource,
    *,
    device: Device,
    threads: int,
    options: BackendOptions,
    batches: Sequence[Floats],
    runs: int,
) -> tuple[OperatorTime, ...]:
    """Return each node's time as onnxruntime's profiler sees it; raises what `open` raises.

    As many runs are made before, and left out.
    """
    settings = read_settings(options, device, threads)
    if settings.micro or settings.tuned or settings.cuda_graph:
        raise BackendError("its operators are those of ort without that option: profile ort")
    with TemporaryDirectory(prefix=f"foldbench-{os.getpid()}-") as folder:
        prefix = str(Path(folder) / "profile")
        session = _open_session(source, settings, device, threads, prefix)
        name = session.get_inputs()[0].name
        for index in range(2 * runs):
            session.run(None, {name: batches[index % len(batches)]})
        return read_profile(Path(session.end_profiling()), skip=runs)


def _open_session(
    source: NetworkSource,
    wanted: OrtSettings,
    device: Device,
    threads: int,
    profile_prefix: str | None = None,
) -> Any:
    onnxruntime.set_default_logger_severity(_SILENT)
    if wanted.provider not in onnxruntime.get_available_providers():
        raise BackendError(
            f"asked for {device}, but this onnxruntime {onnxruntime.__version__} has no "
            f"{wanted.provider} (it has {', '.join(onnxruntime.get_available_providers())}): "
            f"{how_to_install(wanted.provider)}"
        )
    _prepare_cuda(wanted, device)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = _SEQUENTIAL
    how = how_to_run(source.path, onnxruntime.__version__)
    if how.host and wanted.provider != _PROVIDERS["cpu"]:
        raise BackendError(
            f"the file is for this machine's CPU alone, not for {wanted.provider}: "
            "export it for that (bench export --target)"
        )
    kept = _kept_graph(source.path, how) if wanted.saved else None
    is_optimised = how.optimised or bool(kept and kept.is_file())
    settings.graph_optimization_level = _NONE if is_optimised else _HIGH
    if how.operators is not None:
        custom_operators.register(settings, how.operators, _architecture(wanted.provider))
    settings.log_severity_level = _SILENT
    settings.add_session_config_entry(*RECORD_PLACEMENT)
    if wanted.provider == _TENSORRT:
        wanted = _keep_engines(wanted, source.path)
    if not wanted.spinning:
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile_prefix is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = profile_prefix
    try:
        if kept is None or kept.is_file():
            return _create(kept or source.path, settings, wanted)
        with replacing(kept) as new:
            settings.optimized_model_filepath = str(new)
            return _create(source.path, settings, wanted)
    except Exception as error:  # onnxruntime raises bare Exceptions of its own
        hint = how_to_install(wanted.provider) if "install" in str(error) else ""
        raise BackendError(
            f"onnxruntime could not open it on {device}: {one_line(error)}"
            f"{f' ({hint})' if hint else ''}"
        ) from None


def _create(path: Path, settings: Any, wanted: OrtSettings) -> Any:
    return onnxruntime.InferenceSession(
        str(path), settings, providers=wanted.providers, enable_fallback=0
    )


def _kept_graph(path: Path, how: HowToRun) -> Path:
    """Return where its optimised graph is kept; raise BackendError for a file that is one."""
    if how.optimised or how.operators is not None:
        raise BackendError("its file is optimised for this machine already: leave out :saved")
    return keep_graph(path, onnxruntime.__version__)


def _architecture(provider: str) -> str | None:
    """Return the GPU that custom operators are compiled for; None for a CPU."""
    if provider == _PROVIDERS["cpu"]:
        return None
    if provider != _PROVIDERS["cuda"]:
        raise BackendError(
            f"the file has custom operators for a CPU and for {_PROVIDERS['cuda']}, not for "
            f"{provider}: export it without them (--passes default)"
        )
    return gpu_architecture()


def _keep_engines(wanted: OrtSettings, path: Path) -> OrtSettings:
    """Return the settings with a place for the engines of this file."""
    folder = keep_engines(path, wanted.provider_options, onnxruntime.__version__)
    return replace(wanted, provider_options={**wanted.provider_options, **cache_options(folder)})


def _prepare_cuda(wanted: OrtSettings, device: Device) -> None:
    """Set what has to be there before a CUDA library is loaded."""
    if device != "cuda":
        return
    if wanted.provider == _TENSORRT and wanted.precision in ("float32", "float16"):
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # TensorRT's own default is TF32
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
