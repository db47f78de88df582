"""What a network returns, and which part of it are the logits."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_NAMES = ("logits", "out")


def logits_of(output: Any) -> Any:
    """Return the logits in what a network returns while it learns.

    Networks with auxiliary classifiers return several outputs: the logits are called so, or come
    first. What holds none is returned as it is.
    """
    if isinstance(output, Tensor):
        return output
    for name in _NAMES:
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(found, Tensor):
            return found
    if isinstance(output, tuple | list) and output:
        return logits_of(output[0])
    return output


def find_logits(output: Any) -> str | None:
    """Return name or number of the logits among several outputs; None for a single tensor.

    Also None where there is no telling.
    """
    if isinstance(output, Tensor):
        return None
    for name in _NAMES:
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(found, Tensor):
            return name
    if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        return "0"
    return None


def describe_output(output: Any) -> str:
    """Return what `output` is, for a message."""
    if isinstance(output, Tensor):
        return f"{str(output.dtype).removeprefix('torch.')} {tuple(output.shape)}"
    kind = type(output).__name__
    if isinstance(output, Mapping):
        return f"{kind} of {len(output)} ({', '.join(map(str, output))})"
    if isinstance(output, tuple | list):
        parts = getattr(output, "_fields", None) or map(describe_output, output)
        return f"{kind} of {len(output)} ({', '.join(parts)})"
    return kind
