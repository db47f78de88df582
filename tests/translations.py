"""What torch does anew at each export and needs to do once: half of the time of a small one.

It parses the source of its 500 translations to ONNX, and looks up each of its operators 60 times.
"""

import sys
from copy import copy as shallow_copy
from functools import cache
from typing import Any

USUAL_OPSET = 18
_READ: dict[int, Any] = {}


def quick_reader() -> tuple[Any, Any] | None:
    """Return torch's registry and a reader that gives copies of what it has read before.

    None where nothing has loaded torch's exporter.
    """
    registration = sys.modules.get("torch.onnx._internal.exporter._registration")
    registry = getattr(registration, "ONNXRegistry", None)
    read = getattr(registry, "from_torchlib", None)
    if read is None or getattr(read, "reads_once", False):
        return None

    def read_once(opset_version: int = USUAL_OPSET) -> Any:
        if opset_version not in _READ:
            _READ[opset_version] = read(opset_version=opset_version)
        copy = shallow_copy(_READ[opset_version])
        copy.functions = {name: list(found) for name, found in copy.functions.items()}
        return copy

    read_once.reads_once = True  # type: ignore[attr-defined]
    return registry, staticmethod(read_once)


def look_up_operators_once() -> None:
    """Have torch.export look up the operators of C++ once in this process.

    It does so for each namespace, in case that one has been added; what a network uses has been
    looked up by its own code.
    """
    exporting = sys.modules.get("torch._export.utils")
    if exporting is not None and not hasattr(exporting._materialize_cpp_cia_ops, "cache_info"):
        exporting._materialize_cpp_cia_ops = cache(exporting._materialize_cpp_cia_ops)
