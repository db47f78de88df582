"""OpenVINO: the exported file on Intel's CPU plug-in, float32 unless asked otherwise."""

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from foldbench.bench.backends import (
    NO_OPTIONS,
    BackendOptions,
    Closing,
    Floats,
    Format,
    NetworkSource,
)
from foldbench.bench.backends._options import check_values, whole_number
from foldbench.bench.errors import BackendError, one_line
from foldbench.bench.samples.timing import Device, OperatorTime

# OpenVINO sends usage data when it is imported, and writes files to the home directory for that.
# Where the package that does it cannot be imported, it goes on without.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
openvino: Any = import_module("openvino")

FORMAT: Format = "onnx"
TARGET = "openvino"
"""Whose files it is given: not those that are rewritten for onnxruntime."""
DISTRIBUTIONS = {"cpu": "openvino"}
"""What to install for another version of it, by device."""
OPTIONS: dict[str, str] = {
    "bf16": "bfloat16, where the CPU computes in it",
    "streams": "runs N calls at once, each with all the threads that are asked for: streams=2",
}

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_COMPUTED_IN = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "i8": "int8", "u8": "int8"}
_COARSEST_FIRST = ("int8", "bfloat16", "float16", "float32")
_HEAVY = {"Convolution", "Deconvolution", "FullyConnected", "MatMul"}


class OpenVinoSession(Closing):
    """A compiled model and one infer request, which reads the caller's array where it lies.

    The request is bound: input and output tensors are set on it, and ``infer()`` gets none. Threads
    are not pinned to CPUs, as those of the other backends are not.
    """

    device = "cpu"

    def __init__(self, model: Any, asked: str) -> None:
        self._model: Any = model
        self._asked = asked
        self._request: Any = model.create_infer_request()
        self._x: Floats | None = None
        self._done = False
        self.streams = streams = int(model.get_property("NUM_STREAMS"))
        self.threads = int(model.get_property("INFERENCE_NUM_THREADS")) // streams
        self.precision = check_precision(asked, read_precisions(model))
        version = openvino.__version__.partition("-")[0]
        pinned = "pinned" if model.get_property("ENABLE_CPU_PINNING") else "not pinned"
        self.runtime = (
            f"openvino {version} CPU, bound infer request, latency hint, "
            f"{streams} stream{'s' * (streams > 1)}, threads {pinned}"
        )

    def bind(self, x: Floats) -> None:
        """Take (N, C, H, W) float32, without a copy."""
        self._request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
        self._x = x  # the tensor does not keep the array alive
        self._done = False

    def step(self) -> None:
        """Run the network; returns when it is done."""
        self._request.infer()
        self._done = True

    def synchronize(self) -> None:
        """Nothing to wait for: infer() returns when the output is in host memory."""

    def output(self) -> Floats:
        """Return a copy of the logits of the last step, (N, classes) float32."""
        if not self._done:
            raise BackendError("output() before step(): run the network first")
        logits: Floats = self._request.get_output_tensor().data.copy()
        return logits

    def another(self) -> "OpenVinoSession":
        """Return a further infer request of the same compiled model."""
        return OpenVinoSession(self._model, self._asked)

    def close(self) -> None:
        """Free what the session holds."""
        self._request = self._model = self._x = None


def check_precision(asked: str, found: set[str]) -> str:
    """Return what the model computes in: the coarsest kind of number in `found`.

    Raises BackendError when that is coarser than `asked`, unless the file itself is quantised to
    int8, or when what was asked for was not used anywhere.
    """
    computed = next((kind for kind in _COARSEST_FIRST if kind in found), "float32")
    if computed not in (asked, "int8"):
        raise BackendError(
            f"asked for {asked}, but OpenVINO computes in {computed} on this CPU: "
            f"{'leave bf16 out' if asked == 'bfloat16' else 'nothing was measured'}"
        )
    return computed


def read_precisions(model: Any) -> set[str]:
    """Return what the convolutions and matrix products of a compiled model are computed in."""
    found = set()
    for operator in model.get_runtime_model().get_ordered_ops():
        facts = operator.get_rt_info()
        if facts["layerType"].astype(str) in _HEAVY:
            kind = facts["runtimePrecision"].astype(str)
            found.add(_COMPUTED_IN.get(kind, kind))
    return found


def refuse(options: BackendOptions, device: Device) -> str | None:
    """Return why there is no such contender on `device`; raise BackendError for bad options."""
    check_values("openvino", options, ("streams",))
    if "streams" in options:
        whole_number("openvino", "streams", options["streams"])
    if device != "cpu":
        return f"asked for {device}, but OpenVINO runs on the cpu here: it has no CUDA"
    return None


def open_session(
    source: NetworkSource, *, device: Device, threads: int, options: BackendOptions = NO_OPTIONS
) -> OpenVinoSession:
    """Open the source's .onnx file on the CPU.

    Raises BackendError when OpenVINO cannot load it or does not compute in what was asked for.
    """
    reason = refuse(options, device)
    if reason:
        raise BackendError(reason)
    asked = _read_precision(options)
    streams = int(options.get("streams", 1))
    session = OpenVinoSession(_compile(source, threads, asked, streams), asked)
    if session.streams != streams:
        session.close()
        raise BackendError(
            f"asked for {streams} streams, but OpenVINO runs {session.streams} on this CPU: give "
            "no more streams than it has cores"
        )
    return session


def _read_precision(options: BackendOptions) -> str:
    return "bfloat16" if "bf16" in options else "float32"


def profile(
    source: NetworkSource,
    *,
    device: Device,
    threads: int,
    options: BackendOptions,
    batches: Sequence[Floats],
    runs: int,
) -> tuple[OperatorTime, ...]:
    """Return each operator's time as OpenVINO's counters have it; raises what `open` raises.

    What was fused into another operator is counted there. As many runs are made before, and left
    out.
    """
    with open_session(source, device=device, threads=threads, options=options):
        pass  # it can be had as it is asked for
    asked = _read_precision(options)
    compiled = _compile(source, threads, asked, profiled=True)
    request, fused = compiled.create_infer_request(), _read_fused(compiled)
    totals: dict[tuple[str, str, str], float] = {}
    for index in range(2 * runs):
        x = batches[index % len(batches)]
        request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
        request.infer()
        if index >= runs:
            for key, seconds in _operator_times(request):
                totals[key] = totals.get(key, 0.0) + seconds
    return tuple(
        OperatorTime(
            operator=kind,
            node=node,
            placed_on=f"CPU {kernel}",
            time_s=total / runs,
            calls=1,
            fused=fused.get(node, ()),
        )
        for (kind, node, kernel), total in totals.items()
    )


def _read_fused(compiled: Any) -> dict[str, tuple[str, ...]]:
    """Return the nodes of the file that each operator of a compiled model stands for.

    A change of layout stands for none, and is named for the operator behind it: it gets that one's.
    """
    fused: dict[str, tuple[str, ...]] = {}
    for operator in compiled.get_runtime_model().get_ordered_ops():
        names = operator.get_rt_info()["originalLayersNames"].astype(str)
        fused[operator.get_friendly_name()] = tuple(filter(None, names.split(",")))
    return {
        name: nodes or next((fused[n] for n in fused if n != name and name.endswith(f"_{n}")), ())
        for name, nodes in fused.items()
    }


def _operator_times(request: Any) -> Iterator[tuple[tuple[str, str, str], float]]:
    for event in request.get_profiling_info():
        if event.status == openvino.ProfilingInfo.Status.EXECUTED:
            key = (event.node_type, event.node_name, event.exec_type)
            yield key, event.real_time.total_seconds()


def _compile(
    source: NetworkSource, threads: int, precision: str, streams: int = 1, profiled: bool = False
) -> Any:
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads * streams,
        "NUM_STREAMS": streams,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "PERF_COUNT": profiled,
    }
    try:
        core = openvino.Core()
        return core.compile_model(core.read_model(str(source.path)), "CPU", settings)
    except Exception as error:  # OpenVINO raises RuntimeErrors with its own stack in them
        raise BackendError(f"openvino could not open it on cpu: {one_line(error)}") from None
