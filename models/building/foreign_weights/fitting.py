"""The one way in which a file's weights fit a network."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foldbench.bench.errors import CheckpointError, listed
from foldbench.bench.store.files import file_sha256
from foldbench.models.building.foreign_weights.faults import (
    describe_choices,
    describe_misfit,
    describe_way,
)
from foldbench.models.building.foreign_weights.file import read_weights
from foldbench.models.building.foreign_weights.names import (
    Candidate,
    Own,
    Way,
    find_candidates,
    find_ways,
    own_state,
)
from foldbench.models.building.foreign_weights.values import Cast, cast_values, same_values


@dataclass(frozen=True)
class FittedWeights:
    """A file's weights, by the names and in the dtypes of the network they were fitted to."""

    state: dict[str, Any]
    """For ``load_state_dict``: tensors, and states of other kinds that parts keep (extra state)."""
    key: str | None
    """Of the nested dictionary they were under, such as ``model_state_dict``; dots between levels.
    None for the whole file."""
    stripped: tuple[str, ...]
    """What was taken off their names, such as ``module.``."""
    widened_from: str | None
    """The dtype of parameters that became wider, such as ``bfloat16``."""
    notes: tuple[str, ...]
    """What was resolved, a sentence of one line each."""
    sha256: str
    """Of the file."""


def fit_weights(
    module: nn.Module, path: Path, key: str | None = None, strip_prefix: str | None = None
) -> FittedWeights:
    """Return the weights in the file as `module` calls them; `module` stays as it is.

    `key` names the nested dictionary to take, `strip_prefix` the one prefix to take off; tensors
    beside it are then skipped. Raises CheckpointError for a file that cannot be read, weights that
    do not fit or fit in several ways with different values, and values that are no plain numbers of
    the network's kind.
    """
    return fit_tensors(module, read_weights(path), path, key, strip_prefix)


def fit_tensors(
    module: nn.Module,
    content: Mapping[str, Any],
    path: Path,
    key: str | None = None,
    strip_prefix: str | None = None,
) -> FittedWeights:
    """Return what `fit_weights` does, of the file's `content`, which has been read."""
    own = own_state(module)
    candidates = _candidates_in(content, path, key)
    ways = find_ways(own, candidates, strip_prefix)
    casts = [(way, cast_values(own, way, path)) for way in ways if way.fits]
    if not casts:
        casts = list(_load_by_own_code(module, own, ways, candidates, path))
    if not casts:
        raise CheckpointError(describe_misfit(path, module, own, ways, strip_prefix))
    way, cast = casts[0]
    others = [w for w, c in casts[1:] if not same_values(cast.state, c.state)]
    if others:
        raise CheckpointError(describe_choices(path, [way, *others]))
    return FittedWeights(
        state=cast.state,
        key=way.key or None,
        stripped=(*sorted(f"{name}." for name in way.removed), *([way.strip] if way.strip else [])),
        widened_from=", ".join(cast.widened) or None,
        notes=(*describe_way(path, way), *cast.notes),
        sha256=file_sha256(path),
    )


def fit_classes(
    build: Callable[[int], nn.Module],
    path: Path,
    key: str | None = None,
    strip_prefix: str | None = None,
    *,
    default: int,
) -> int:
    """Return the number of classes with which ``build(classes)`` takes the file's weights.

    `default` is tried first; else the number follows from the shapes of the tensors that do not
    fit, where these change with the number of classes. Raises CheckpointError when there is no such
    number, or several.
    """
    candidates = _candidates_in(read_weights(path), path, key)
    module = build(default)
    own = own_state(module)
    ways = find_ways(own, candidates, strip_prefix)
    found = {default} if any(way.fits for way in ways) else set()
    named = [way for way in ways if way.other_shape and not (way.missing or way.surplus)]
    if named:
        other = own_state(build(default + 1))
        found |= {n for way in named if (n := _classes_of(way, own, other, default)) is not None}
    taken = [n for n in sorted(found) if n == default or _takes(build(n), candidates, strip_prefix)]
    if not taken:
        raise CheckpointError(describe_misfit(path, module, own, ways, strip_prefix))
    if len(taken) > 1:
        raise CheckpointError(
            f"{path}: holds weights for {listed(map(str, taken))} classes: choose with --classes, "
            f"or with {_options(ways)}"
        )
    return taken[0]


def _options(ways: Iterable[Way]) -> str:
    keys = dict.fromkeys(way.key for way in ways if way.key)
    return listed((f"--weights-key {key}" for key in keys), 4) if keys else "--strip-prefix"


def _takes(module: nn.Module, candidates: list[Candidate], strip_prefix: str | None) -> bool:
    return any(way.fits for way in find_ways(own_state(module), candidates, strip_prefix))


def _classes_of(way: Way, own: Own, other: Own, default: int) -> int | None:
    """Return the number of classes that all tensors of another shape agree upon.

    `own` is the state of the network with `default` classes, `other` with one more.
    """
    numbers = set()
    for name, (mine, theirs) in way.other_shape.items():
        more = tuple(other.state[name].shape) if name in other.state else ()
        if not len(mine) == len(theirs) == len(more):
            return None
        for here, there, step in zip(mine, theirs, more, strict=True):
            if here != there and step == here:
                return None  # does not change with the number of classes
            if here != step:
                steps, rest = divmod(there - here, step - here)
                numbers.add(None if rest else default + steps)
    number = numbers.pop() if len(numbers) == 1 else None
    return number if number is not None and number > 0 else None


def _candidates_in(content: Mapping[str, Any], path: Path, key: str | None) -> list[Candidate]:
    """Return the dictionaries of tensors in a file, those under `key` alone where it is given."""
    candidates = find_candidates(content)
    if key is None:
        if not candidates:
            holds = listed(map(str, content), 5) or "nothing"
            raise CheckpointError(
                f"{path}: holds no tensors by name (it holds {holds}): save network.state_dict()"
            )
        return candidates
    asked = [c for c in candidates if c.key == key]
    below = [c for c in candidates if c.key.startswith(f"{key}.")]
    if not asked and not below:
        known = [c.key for c in candidates if c.key]
        holds = f"known: {listed(known, 8)}" if known else "it holds no nested tensors"
        raise CheckpointError(f"{path}: has no tensors under --weights-key {key} ({holds})")
    return [*asked, *below]


def _load_by_own_code(
    module: nn.Module, own: Own, ways: list[Way], candidates: list[Candidate], path: Path
) -> Iterable[tuple[Way, Cast]]:
    """Yield what the network's parts make of the file by code of theirs for older files.

    The network is as before afterwards.
    """
    if not _has_loading_code(module) or any(_is_meta(value) for value in own.state.values()):
        return
    by_key = {candidate.key: candidate for candidate in candidates}
    for way in _apart(ways):
        given = {
            name.removeprefix(way.strip): value
            for name, value in by_key[way.key].tensors.items()
            if name.startswith(way.strip)
        }
        state = _try_loading(module, given)
        if state is not None:
            done = replace(way, found=state, missing=(), surplus=(), other_shape={}, by_code=True)
            yield done, cast_values(own, done, path)


def _apart(ways: Iterable[Way]) -> list[Way]:
    return list({(way.key, way.strip): way for way in ways if not way.removed}.values())


def _is_meta(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_meta


def _has_loading_code(module: nn.Module) -> bool:
    """Return whether parts besides torch.nn's own translate what they are given."""
    return any(
        part._load_state_dict_pre_hooks
        or not getattr(type(part)._load_from_state_dict, "__module__", "").startswith("torch.nn.")
        for part in module.modules()
    )


def _try_loading(module: nn.Module, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the network's state after it took all of `given`, None when it does not."""
    kept = {n: v for n, v in module.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
    before = {name: value.detach().clone() for name, value in kept.items()}
    try:
        nn.Module.load_state_dict(module, dict(given), strict=True)
        return {n: v.detach().clone() for n, v in kept.items()}
    except Exception:  # a part's own code
        return None
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                value.copy_(before[name])
