"""What can be asked of onnxruntime, in its own terms."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foldbench.bench.backends import BackendOptions
from foldbench.bench.backends._options import (
    check_exclusive,
    check_values,
    refuse_elsewhere,
    whole_number,
)
from foldbench.bench.errors import BackendError
from foldbench.bench.samples.timing import Device

_ONLY_ON: dict[str, Device] = {
    "micro": "cpu",
    "tuned": "cpu",
    "no_spin": "cpu",
    "saved": "cpu",
    "openvino": "cpu",
    "tensorrt": "cuda",
    "tf32": "cuda",
    "fp16": "cuda",
    "cuda_graph": "cuda",
    "nhwc": "cuda",
    "search": "cuda",
}
_EXCLUSIVE = (
    ("micro", "tuned"),
    ("openvino", "micro"),
    ("openvino", "tuned"),
    ("openvino", "saved"),
    ("no_spin", "tuned"),
    ("no_spin", "openvino"),
    ("tf32", "fp16"),
    *(("tensorrt", other) for other in ("cuda_graph", "nhwc", "search")),
)
_SEARCHES = ("exhaustive", "heuristic", "default")
_HOW_TO_INSTALL = {
    "CUDAExecutionProvider": "pip install onnxruntime-gpu",
    "TensorrtExecutionProvider": "pip install onnxruntime-gpu 'tensorrt-cu13-libs<11'",
    "OpenVINOExecutionProvider": (
        "pip install onnxruntime-openvino in place of onnxruntime-gpu, or compare the backend "
        "openvino"
    ),
}


@dataclass(frozen=True)
class OrtSettings:
    """How a session is opened and run."""

    provider: str
    provider_options: Mapping[str, str] = field(default_factory=dict)
    precision: str = "float32"
    reported: tuple[str, ...] = ()
    """The provider's settings as text."""
    fallback: tuple[str, ...] = ()
    """Providers for nodes that the first one does not know; no convolution may go there."""
    spinning: bool = True
    """Whether threads wait for work by asking for it over and over, which is how it is shipped."""
    micro: int | None = None
    """Images in a micro-batch; None for whole batches."""
    tuned: bool = False
    saved: bool = False
    """Whether the optimised graph is kept and opened in place of the file."""
    cuda_graph: bool = False

    @property
    def providers(self) -> list[Any]:
        """What an InferenceSession is to be given as its providers."""
        return [(self.provider, dict(self.provider_options)), *self.fallback]


def refuse(options: BackendOptions, device: Device) -> str | None:
    """Return why `options` make no sense on `device`; raise BackendError for impossible ones."""
    check_values("ort", options, ("micro", "search"))
    for group in _EXCLUSIVE:
        check_exclusive("ort", options, group)
    if "micro" in options:
        whole_number("ort", "micro", options["micro"])
    if options.get("search", _SEARCHES[0]) not in _SEARCHES:
        raise BackendError(f"ort:search={options['search']}: give one of {', '.join(_SEARCHES)}")
    if "fp16" in options and "tensorrt" not in options:
        raise BackendError(
            "ort:fp16 is TensorRT's: write ort:tensorrt+fp16, or export a file in float16 "
            "(bench export --quantize float16)"
        )
    return refuse_elsewhere("ort", options, _ONLY_ON, device)


def read_settings(options: BackendOptions, device: Device, threads: int) -> OrtSettings:
    """Return the settings for `options`; raise BackendError where they cannot be had."""
    reason = refuse(options, device)
    if reason:
        raise BackendError(reason)
    if "openvino" in options:
        return _openvino(threads)
    if "tensorrt" in options:
        return _tensorrt(options)
    if device == "cuda":
        return _cuda(options)
    return OrtSettings(
        "CPUExecutionProvider",
        micro=whole_number("ort", "micro", options["micro"]) if "micro" in options else None,
        tuned="tuned" in options,
        saved="saved" in options,
        spinning="no_spin" not in options,
    )


def how_to_install(provider: str) -> str:
    """Return what to do where onnxruntime has no such provider."""
    return _HOW_TO_INSTALL[provider]


def _cuda(options: BackendOptions) -> OrtSettings:
    """TF32 is off as in torch; what is searched for convolutions is stated, not left to chance.

    Names and values: onnxruntime's documentation of the CUDA execution provider.
    """
    tf32, search = "tf32" in options, options.get("search", _SEARCHES[0])
    settings = {"use_tf32": str(int(tf32)), "cudnn_conv_algo_search": search.upper()}
    reported = [f"TF32 {'on' if tf32 else 'off'}", f"cuDNN search {search}"]
    if "nhwc" in options:
        settings["prefer_nhwc"] = "1"
        reported.append("NHWC preferred")
    if "cuda_graph" in options:
        settings["enable_cuda_graph"] = "1"
        reported.append("CUDA graph replayed")
    return OrtSettings(
        "CUDAExecutionProvider",
        settings,
        "tf32" if tf32 else "float32",
        tuple(reported),
        cuda_graph="cuda_graph" in options,
    )


def _tensorrt(options: BackendOptions) -> OrtSettings:
    """An engine is built at the first call of each new range of shapes, and kept on disk.

    Names and values: onnxruntime's documentation of the TensorRT execution provider.
    """
    tf32, fp16 = "tf32" in options, "fp16" in options
    return OrtSettings(
        "TensorrtExecutionProvider",
        {"trt_fp16_enable": str(int(fp16))},
        "float16" if fp16 else "tf32" if tf32 else "float32",
        (f"TF32 {'on' if tf32 else 'off'}", *(["float16 allowed"] if fp16 else [])),
        ("CUDAExecutionProvider",),
    )


def _openvino(threads: int) -> OrtSettings:
    """OpenVINO's own settings, as the backend openvino has them."""
    plugin = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": "NO",
    }
    return OrtSettings(
        "OpenVINOExecutionProvider",
        {"device_type": "CPU", "load_config": json.dumps({"CPU": plugin})},
        reported=("float32 hint", "latency hint", "threads not pinned"),
    )
