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


def find_logits(output: Any, images: int, classes: int | None) -> str | None:
    """Return name or number of the logits among several outputs; None for a single tensor.

    They are called so, or are the only ones of shape (images, classes), or come first; `classes`
    is None where any number will do. Also None where there is no telling.
    """
    if isinstance(output, Tensor):
        return None
    for name in _NAMES:
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(found, Tensor):
            return name
    parts = _parts_of(output)
    scores = [name for name, part in parts.items() if _are_scores(part, images, classes)]
    if len(scores) == 1:
        return scores[0]
    return "0" if isinstance(parts.get("0"), Tensor) else None


def _parts_of(output: Any) -> dict[str, Any]:
    """Return the outputs by their names, or by their numbers where they have none."""
    if isinstance(output, tuple | list):
        return {str(number): part for number, part in enumerate(output)}
    named = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
    return {name: part for name, part in named.items() if isinstance(name, str)}


def _are_scores(part: Any, images: int, classes: int | None) -> bool:
    return (
        isinstance(part, Tensor)
        and part.is_floating_point()
        and part.ndim == 2
        and part.shape[0] == images
        and classes in (None, part.shape[1])
    )


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
