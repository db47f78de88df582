"""What torch does anew at each export and needs to do once: half of the time of a small one.

It parses the source of its 500 translations to ONNX, and looks up each of its operators 60 times.
"""

from copy import copy as shallow_copy
from functools import cache
from typing import Any

import torch._export.utils as exporting
from torch.onnx._internal.exporter._registration import ONNXRegistry

USUAL_OPSET = 18


def read_once() -> None:
    """Have exports of this process take copies of what the first of them read.

    Operators are looked up for each namespace, in case that one has been added; what a network
    uses has been looked up by its own code.
    """
    read = cache(ONNXRegistry.from_torchlib)

    def copied(opset_version: int = USUAL_OPSET) -> Any:
        copy = shallow_copy(read(opset_version))
        copy.functions = {name: list(found) for name, found in copy.functions.items()}
        return copy

    ONNXRegistry.from_torchlib = staticmethod(copied)
    exporting._materialize_cpp_cia_ops = cache(exporting._materialize_cpp_cia_ops)
