"""Copies of networks whose code foldbench did not write."""

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import nn

from foldbench.bench.errors import ExportError, one_line


def copy_network(module: nn.Module) -> nn.Module:
    """Return a deep copy of `module` in the same mode that shares no tensor with it.

    Tensors that were computed (by the hooks of the old weight_norm and of pruning, or kept from the
    last call), which deepcopy refuses, are copied as values. Raises ExportError that names the
    attribute that cannot be copied.
    """
    memo = _memo_of(module)
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:  # whatever an attribute's own code raises
        raise ExportError(
            f"the network cannot be copied: {_name_culprit(module)}{one_line(error, 160)}: "
            "keep in a network only what can be copied, or give it a __deepcopy__"
        ) from error


def _memo_of(module: nn.Module) -> dict[int, Any]:
    """Return what deepcopy is not to copy in its own way, by id.

    Every module holds a dozen empty dictionaries and a set, on which deepcopy would spend most of
    its time.
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        held = vars(part)
        empty = (one for one in held.values() if type(one) in (OrderedDict, set) and not one)
        memo |= {id(one): type(one)() for one in empty}
        for value in _values(held):
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
            elif isinstance(value, ModuleType):
                memo[id(value)] = value
    return memo


def _values(held: object) -> Iterator[object]:
    """Yield what a container holds, and what the containers in it hold; a network's parts aside."""
    waiting, seen = [held], set()
    while waiting:
        container = waiting.pop()
        if id(container) in seen:
            continue
        seen.add(id(container))
        if isinstance(container, Mapping):
            waiting += container.values()
        elif isinstance(container, list | tuple | set):
            waiting += container
        else:
            yield container


def _name_culprit(module: nn.Module) -> str:
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name == "_modules":
                continue
            try:
                copy.deepcopy(value, _memo_of(module))
            except Exception:  # it is the one that is looked for
                place = f"{path}.{name}" if path else name
                return f"{place} ({type(value).__name__}): "
    return ""
