"""Values of a file of weights in the dtypes of the network that takes them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foldbench.bench import units
from foldbench.bench.errors import CheckpointError, listed
from foldbench.models.building.foreign_weights.names import Own, Way

_FLOATS = {torch.float16: 16, torch.bfloat16: 16, torch.float32: 32, torch.float64: 64}
"""Dtypes of weights that are read, and their bits."""


@dataclass(frozen=True)
class Cast:
    """A file's values in the network's dtypes."""

    state: dict[str, Any]
    widened: tuple[str, ...]
    """The file's dtypes that became wider."""
    notes: tuple[str, ...]


def cast_values(own: Own, way: Way, path: Path) -> Cast:
    """Return the values of `way` in the network's dtypes, shapes and layout.

    Raises CheckpointError for values that cannot be what the network computes with: integers where
    it has real numbers, quantized, sparse or absent values, numbers that are infinite once
    narrowed, and two values for one shared tensor.
    """
    state: dict[str, Any] = {}
    changes: Counter[tuple[torch.dtype, torch.dtype]] = Counter()
    for name, value in way.found.items():
        target = own.state[name]
        if not isinstance(target, Tensor) or not isinstance(value, Tensor):
            state[name] = value
            continue
        _check(name, value, target, path)
        state[name] = _cast(name, value.detach(), target, path)
        if target.is_floating_point() and value.dtype != target.dtype:
            changes[value.dtype, target.dtype] += 1
    _check_ties(own, state, path)
    for name, value in own.state.items():
        if name not in state:  # counters of batches, which no inference uses
            state[name] = value.detach().clone()
    widened = [kind for kind in changes if _FLOATS[kind[0]] < _FLOATS[kind[1]]]
    notes = [
        f"{_tensors(count)} {_verb(kinds)} from {_short(kinds[0])} to {_short(kinds[1])}"
        for kinds, count in changes.items()
    ]
    return Cast(state, tuple(sorted({_short(kind[0]) for kind in widened})), (*notes, *_odd(state)))


def _verb(kinds: tuple[torch.dtype, torch.dtype]) -> str:
    before, after = (_FLOATS[kind] for kind in kinds)
    if before == after:
        return "converted"
    return "widened" if before < after else "narrowed"


def _tensors(count: int) -> str:
    return "1 tensor" if count == 1 else f"{units.count(count)} tensors"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check(name: str, value: Tensor, target: Tensor, path: Path) -> None:
    """Raise CheckpointError unless the values are plain numbers of the network's kind."""
    kind = None
    if value.is_quantized:
        kind = "quantized"
    elif value.layout != torch.strided or value.is_nested:
        kind = "sparse or nested"
    elif value.is_meta and not target.is_meta:
        kind = "without values (saved from the meta device)"
    elif target.is_floating_point() and value.dtype not in _FLOATS:
        kind = f"{_short(value.dtype)}, which is no dtype of trained weights (perhaps quantized)"
    elif target.is_complex() != value.is_complex():
        kind = f"{_short(value.dtype)}, the network's is {_short(target.dtype)}"
    if kind is not None:
        raise CheckpointError(
            f"{path}: its {name} is {kind}: save the weights as float32 before quantization or "
            "pruning"
        )


def _cast(name: str, value: Tensor, target: Tensor, path: Path) -> Tensor:
    """Return the values in the target's dtype and shape, contiguous, in memory of their own."""
    result = value.reshape(target.shape).to(target.dtype, memory_format=torch.contiguous_format)
    if value.is_meta:
        return result
    if value.dtype != target.dtype:
        if not target.is_floating_point() and not target.is_complex():
            if not torch.equal(result.to(value.dtype).reshape(value.shape), value):
                raise CheckpointError(
                    f"{path}: its {name} is {_short(value.dtype)} with values that are no "
                    f"{_short(target.dtype)}, which the network's is: give its own weights"
                )
        elif bool((result.isinf().reshape(value.shape) & ~value.isinf()).any()):
            raise CheckpointError(
                f"{path}: its {name} has values beyond {_short(target.dtype)}, which the network "
                f"computes with (the file's are {_short(value.dtype)}): give weights within it"
            )
    return result


def _check_ties(own: Own, state: Mapping[str, Any], path: Path) -> None:
    for name, others in own.ties.items():
        for other in others:
            if name < other and not _same(state.get(name), state.get(other)):
                raise CheckpointError(
                    f"{path}: {name} and {other} are one tensor in the network and two with other "
                    "values in the file: give weights of the network with this tensor shared"
                )


def _odd(state: Mapping[str, Any]) -> list[str]:
    """Return a sentence about weights that are not finite."""
    odd = [
        name
        for name, value in state.items()
        if isinstance(value, Tensor)
        and (value.is_floating_point() or value.is_complex())
        and not value.is_meta
        and not bool(value.isfinite().all())
    ]
    return (
        [f"{_tensors(len(odd))} with values that are not finite: {listed(odd, 3)}"] if odd else []
    )


def same_values(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two states hold the same."""
    return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.is_meta or other.is_meta or torch.equal(one, other)
    return not isinstance(one, Tensor) and not isinstance(other, Tensor) and bool(one == other)
