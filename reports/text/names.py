"""What people call a contender: ``ort/int8_tables.host/cpu`` in words.

The id stays the key of records, JSON and CSV, where the name stands beside it. The rows of a
comparison have different names; what is not known here is shown as it is written.
"""

from collections.abc import Iterator

from foldbench.bench.records import FLOAT64

_BACKENDS = {
    "torch": "PyTorch eager",
    "torch_compile": "torch.compile",
    "ort": "ONNX Runtime",
    "openvino": "OpenVINO",
}
_OPTIONS = {
    "channels_last": "channels-last",
    "keep_memory": "freed memory kept",
    "bf16": "BF16",
    "fp16": "FP16",
    "tf32": "TF32",
    "freeze": "frozen weights",
    "max_autotune": "max-autotune",
    "reduce_overhead": "CUDA graphs",
    "no_cache": "compiled anew",
    "micro": "micro-batches of",
    "tuned": "autotuned",
    "saved": "saved graph",
    "openvino": "OpenVINO provider",
    "tensorrt": "TensorRT provider",
    "cuda_graph": "CUDA graph",
    "nhwc": "NHWC",
    "search": "cuDNN search",
}
_VARIANTS = {
    "unfolded": "not folded",
    "folded": "folded",
    "optimized": "optimized",
    "plain": "plain export",
    "given": "file as given",
    "bare": "folded, no passes",
    "int8": "INT8",
    "int8_tables": "INT8, lookup tables",
    "float16": "FP16 file",
}
_TARGETS = {
    "host": "this CPU only",
    "openvino": "made for OpenVINO",
    "cuda": "made for CUDA",
    "tensorrt": "made for TensorRT",
}
_DEVICES = {"cpu": "", "cuda": "CUDA"}
_ROLES = {"again": "A/A control"}


def name_of(contender: str) -> str:
    """Return the name of a contender, such as ``ONNX Runtime, INT8, this CPU only``."""
    return ", ".join(name_parts(contender))


def spoken(contender: str) -> str:
    """Return the name as it stands in a sentence: ``ONNX Runtime (INT8, this CPU only)``."""
    runtime, *rest = name_parts(contender)
    return f"{runtime} ({', '.join(rest)})" if rest else runtime


def way_name(way: str) -> str:
    """Return the name of a backend and a variant without their device: of ``ort/folded``."""
    return spoken(f"{way}/cpu")


def name_parts(contender: str) -> tuple[str, ...]:
    """Return the parts of a contender's name, its runtime first.

    FLOAT64 is a reference and no contender. Another text that is not written as
    ``backend/variant/device`` is returned as it is.
    """
    if contender == FLOAT64:
        return ("the network in float64",)
    parts = contender.split("/")
    if len(parts) != 3 or not all(parts):
        return (contender,)
    backend, variant, where = parts
    name, _, options = backend.partition(":")
    found = [_BACKENDS.get(name, name), *map(_option, options.split("+") if options else ())]
    if (name, variant) != ("torch", "unfolded"):  # the module as it is
        found += _variant(variant)
    return tuple(part for part in (*found, *_place(where)) if part)


def _option(text: str) -> str:
    name, _, value = text.partition("=")
    return f"{_OPTIONS.get(name, name)} {value}".strip()


def _variant(variant: str) -> Iterator[str]:
    """Yield what a file is and what it was made for; a step of an ablation names its passes."""
    first, *passes = variant.split("+")
    base, _, target = first.rpartition(".")
    if target not in _TARGETS:
        base, target = first, ""
    yield from _VARIANTS.get(base, base).split(", ")[: 1 if passes else None]
    yield from (f"+ {name}" for name in passes)
    if target:
        yield _TARGETS[target]


def _place(where: str) -> Iterator[str]:
    """Yield the device unless it is the CPU, and what else an id ends in: threads or a role."""
    device, _, rest = where.partition(" ")
    yield _DEVICES.get(device, device)
    if rest:
        yield _ROLES.get(rest, rest)
