"""What a network keeps between calls that is in no file of weights."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_AT_MOST = 4


def describe_unsaved(trained: nn.Module, loaded: nn.Module) -> str:
    """Return what differs between two networks of one kind besides their saved weights."""
    others = dict(_unsaved(loaded))
    found = [name for name, value in _unsaved(trained) if not _same(value, others.get(name, value))]
    if not found:
        return (
            "what it computes with is neither a parameter nor a persistent buffer of a part: "
            "register it (register_buffer, nn.ModuleList)"
        )
    more = ", …" if len(found) > _AT_MOST else ""
    verb = "is" if len(found) == 1 else "are"
    return (
        f"{', '.join(found[:_AT_MOST])}{more} {verb} neither parameter nor persistent buffer: "
        "register what is learnt (register_buffer, nn.Parameter, nn.ModuleList)"
    )


def _unsaved(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield qualified name and value of each such tensor, array, number and part."""
    for path, part in network.named_modules():
        prefix = f"{path}." if path else ""
        for name in part._non_persistent_buffers_set:
            yield f"{prefix}{name}", part._buffers[name]
        for name, value in vars(part).items():
            if name not in vars(_EMPTY):
                yield from _inside(f"{prefix}{name}", value)


_EMPTY = nn.Module()


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, nn.Module):
        yield from ((f"{name}.{key}", tensor) for key, tensor in value.state_dict().items())
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _inside(f"{name}[{key!r}]", one)
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            yield from _inside(f"{name}[{index}]", one)
    elif isinstance(value, Tensor | np.ndarray | float | int):
        yield name, value


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, Tensor) and isinstance(other, Tensor):
        return torch.equal(value.cpu(), other.cpu())
    return bool(np.array_equal(value, other))
