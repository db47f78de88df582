"""torch parses the source of its 500 translations to ONNX at each export: half of the time."""

import sys
from copy import copy as shallow_copy
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
