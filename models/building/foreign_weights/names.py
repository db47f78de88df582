"""Ways to call the tensors of a file of weights as a network calls its own."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from foldbench.bench.errors import CheckpointError

WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""What torch.compile, FSDP and checkpointing put into names, wherever they wrapped a part."""
_PARALLEL = "module"
"""What DataParallel puts into names."""
_SILENT = ("num_batches_tracked", "n_averaged")
_COUNTED = ("total_ops", "total_params")
"""Buffers that counters of operations leave behind."""
_SINGLE = {(), (1,)}
"""Shapes of a single number, which torch takes for one another."""
_DEPTH = 8
_PREFIXES_TRIED = 8


@dataclass(frozen=True)
class Own:
    """What a network keeps in its state."""

    state: dict[str, Any]
    ties: dict[str, tuple[str, ...]]
    """For each name the others of the same tensor."""
    transient: dict[str, Tensor]
    """Buffers that are in no state (persistent=False), by qualified name."""


def own_state(module: nn.Module) -> Own:
    """Return what `module` keeps; raise CheckpointError for layers without weights as yet."""
    state = module.state_dict(keep_vars=True)
    lazy = [name for name, value in state.items() if is_lazy(value)]
    if lazy:
        raise CheckpointError(
            f"the network's {lazy[0]} has no shape before the first input: run the network once"
        )
    names: dict[int, list[str]] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            names.setdefault(id(value), []).append(name)
    ties = {
        name: tuple(other for other in group if other != name)
        for group in names.values()
        for name in group
    }
    transient = {
        f"{path}.{name}" if path else name: part._buffers[name]
        for path, part in module.named_modules()
        for name in part._non_persistent_buffers_set
        if part._buffers[name] is not None
    }
    return Own(dict(state), ties, transient)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Candidate:
    """Tensors by name, somewhere within a file."""

    key: str
    """Of the nested dictionary, dots between its levels; empty for the whole file."""
    tensors: dict[str, Any]


def find_candidates(content: Mapping[Any, Any]) -> list[Candidate]:
    """Return every dictionary of a file that holds tensors by name, states of optimizers aside."""
    found: list[Candidate] = []
    seen: set[int] = set()
    waiting: list[tuple[tuple[str, ...], Mapping[Any, Any]]] = [((), content)]
    for path, one in waiting:
        if id(one) in seen:
            continue
        seen.add(id(one))
        tensors = {str(k): v for k, v in one.items() if isinstance(k, str) and _is_state(k, v)}
        if any(isinstance(value, Tensor) for value in tensors.values()):
            found.append(Candidate(".".join(path), tensors))
        waiting.extend(
            ((*path, str(k)), v)
            for k, v in one.items()
            if isinstance(v, Mapping) and len(path) < _DEPTH and "optim" not in str(k).lower()
        )
    return found


def _is_state(name: str, value: Any) -> bool:
    return isinstance(value, Tensor) or _leaf(name) == "_extra_state"


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


@dataclass(frozen=True)
class _Names:
    """Names in their plain form."""

    actual: dict[str, str]
    """For each plain name the one that is meant."""
    removed: frozenset[str]
    """Segments that were taken out."""


def _plain(names: Iterable[str], wrappers: frozenset[str]) -> _Names | None:
    """Return the names without wrappers and with today's names of parametrizations.

    None where two names become one.
    """
    known = list(names)
    actual: dict[str, str] = {}
    removed: set[str] = set()
    for name in known:
        segments = name.split(".")
        removed |= wrappers & set(segments)
        plain = ".".join(part for part in segments if part not in wrappers)
        if plain in actual:
            return None
        actual[plain] = name
    return _Names(_rename_parametrizations(actual), frozenset(removed))


_OLD_FORMS = (
    {"_g": "original0", "_v": "original1"},
    {"_orig": "original", "_u": "0._u", "_v": "0._v"},
)
"""Endings of weight_norm's and spectral_norm's tensors, and what parametrizations call them."""
_ENDING = re.compile(r"(?P<owner>(?:.*\.)?)(?P<tensor>\w+?)(?P<ending>_g|_orig)")


def _rename_parametrizations(actual: dict[str, str]) -> dict[str, str]:
    """Return the names with each whole old form of a parametrization in the new one."""
    renamed: dict[str, str] = {}
    for name in actual:
        match = _ENDING.fullmatch(name)
        if not match:
            continue
        owner, tensor = match["owner"], match["tensor"]
        for form in _OLD_FORMS:
            old = {f"{owner}{tensor}{ending}": new for ending, new in form.items()}
            if match["ending"] in form and old.keys() <= actual.keys():
                renamed |= {k: f"{owner}parametrizations.{tensor}.{new}" for k, new in old.items()}
    return {renamed.get(name, name): value for name, value in actual.items()}


@dataclass(frozen=True)
class Way:
    """One way to call a file's tensors by the network's names, and what does not fit then."""

    key: str
    strip: str
    """The prefix that is taken off, with its dot."""
    added: str
    """The prefix that is put before, with its dot."""
    removed: frozenset[str]
    found: dict[str, Any]
    """The file's values by the network's names."""
    renamed: int
    """How many are called otherwise besides the prefix."""
    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    other_shape: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    """The network's shape and the file's."""
    skipped: tuple[str, ...]
    """Of the file's, that no network needs or that lie beside the prefix which was asked for."""
    by_code: bool = False
    """Whether the network's own loading code translated the names."""

    @property
    def fits(self) -> bool:
        """Whether every tensor has its place."""
        return not (self.missing or self.surplus or self.other_shape)

    @property
    def is_whole(self) -> bool:
        """Whether the network gets all its tensors, whatever else the file holds."""
        return bool(self.found) and not (self.missing or self.other_shape)

    @property
    def identity(self) -> tuple[object, ...]:
        """What two ways have in common that give a network the same."""
        return (
            tuple((name, id(value)) for name, value in self.found.items()),
            *(self.missing, self.surplus, *self.other_shape),
            *(() if self.fits else (self.key, self.strip)),
        )

    @property
    def faults(self) -> int:
        """How many tensors of both do not fit."""
        return len(self.missing) + len(self.surplus) + len(self.other_shape)


def find_ways(own: Own, candidates: Iterable[Candidate], strip_prefix: str | None) -> list[Way]:
    """Return the ways worth a look, the best first."""
    found: list[Way] = []
    for candidate in candidates:
        ways = list(_ways_of(own, candidate, WRAPPERS, strip_prefix))
        if strip_prefix is None and not any(way.fits for way in ways):
            ways += _ways_of(own, candidate, WRAPPERS | {_PARALLEL}, None)
        found += ways
    apart = {way.identity: way for way in sorted(found, key=_plainness, reverse=True)}
    return sorted(apart.values(), key=lambda way: (*_rank(way), *_plainness(way)))


def _rank(way: Way) -> tuple[bool, bool, int]:
    return not way.fits, not way.is_whole, way.faults


def _plainness(way: Way) -> tuple[int, int]:
    """Return a number that is less the less has to be resolved."""
    return len(way.strip) + len(way.added) + len(way.removed), len(way.key)


def _ways_of(
    own: Own, candidate: Candidate, wrappers: frozenset[str], strip_prefix: str | None
) -> Iterator[Way]:
    mine, theirs = _plain(own.state, wrappers), _plain(candidate.tensors, wrappers)
    if mine is None or theirs is None:
        mine, theirs = (
            _Names({name: name for name in names}, frozenset())
            for names in (own.state, candidate.tensors)
        )
    asked = None if strip_prefix is None else _plain_prefix(strip_prefix, wrappers)
    for added in _common_prefixes(mine.actual):
        bare = {name.removeprefix(added): actual for name, actual in mine.actual.items()}
        for strip in [asked] if asked is not None else _prefixes(bare, theirs.actual):
            yield _compare(own, candidate, bare, theirs, (strip, added), asked is not None)


def _plain_prefix(prefix: str, wrappers: frozenset[str]) -> str:
    segments = [part for part in prefix.split(".") if part and part not in wrappers]
    return ".".join((*segments, "")) if segments else ""


def _common_prefixes(names: Iterable[str]) -> list[str]:
    """Return what all names begin with, segment by segment, from nothing on."""
    split = [name.split(".") for name in names]
    prefixes = [""]
    for parts in zip(*(segments[:-1] for segments in split), strict=False):
        if len(set(parts)) > 1:
            break
        prefixes.append(f"{prefixes[-1]}{parts[0]}.")
    return prefixes


def _prefixes(own: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """Return what stands before the network's names in the file, the most frequent first."""
    counts: Counter[str] = Counter({"": 0})
    for name in names:
        place = 0
        while True:
            if name[place:] in own:
                counts[name[:place]] += 1
            place = name.find(".", place) + 1
            if not place:
                break
    return [prefix for prefix, _ in counts.most_common(_PREFIXES_TRIED)]


def _compare(
    own: Own,
    candidate: Candidate,
    bare: Mapping[str, str],
    theirs: _Names,
    prefixes: tuple[str, str],
    asked: bool,
) -> Way:
    """Return what fits when the file's names lose a prefix and the network's get one."""
    strip, added = prefixes
    inside = {n.removeprefix(strip): n for n in theirs.actual if n.startswith(strip)}
    plain_of = {actual: plain for plain, actual in bare.items()}
    found, other_shape, used = {}, {}, set()
    missing, renamed = [], 0
    for plain, actual in bare.items():
        names = (plain, *(plain_of[tie] for tie in own.ties.get(actual, ())))
        hit = next((name for name in names if name in inside), None)
        if hit is None:
            if _leaf(actual) != "num_batches_tracked":
                missing.append(actual)
            continue
        used.add(hit)
        stored = theirs.actual[inside[hit]]
        value = candidate.tensors[stored]
        renamed += hit != plain or _leaf(stored) != _leaf(actual)
        found[actual] = value
        shapes = _shape(own.state[actual]), _shape(value)
        if shapes[0] != shapes[1] and not set(shapes) <= _SINGLE:
            other_shape[actual] = shapes
    left = {plain: name for plain, name in inside.items() if plain not in used}
    outside = {name: name for name in theirs.actual if not name.startswith(strip)}
    surplus, skipped = _sort_left(own, candidate, theirs, left if asked else left | outside, added)
    return Way(
        key=candidate.key,
        strip=strip,
        added=added,
        removed=theirs.removed,
        found=found,
        renamed=renamed,
        missing=tuple(missing),
        surplus=tuple(surplus),
        other_shape=other_shape,
        skipped=(*skipped, *(theirs.actual[name] for name in outside if asked)),
    )


def _sort_left(
    own: Own, candidate: Candidate, theirs: _Names, left: Mapping[str, str], added: str
) -> tuple[list[str], list[str]]:
    """Return the names that belong to no network like this one, and those that no network needs."""
    surplus, skipped = [], []
    for plain, name in left.items():
        stored = theirs.actual[name]
        value = candidate.tensors[stored]
        if _leaf(stored) in _SILENT or _is_known(own.transient.get(f"{added}{plain}"), value):
            continue
        if _leaf(stored) in _COUNTED or not isinstance(value, Tensor):
            skipped.append(stored)
        else:
            surplus.append(stored)
    return surplus, skipped


def _is_known(buffer: Tensor | None, value: Any) -> bool:
    """Return whether the network makes the file's buffer itself."""
    if buffer is None or not isinstance(value, Tensor) or _shape(buffer) != _shape(value):
        return False
    if buffer.is_meta or not value.is_floating_point():
        return buffer.is_meta or torch.equal(buffer.to(value.dtype), value)
    tolerance = 8 * torch.finfo(value.dtype).eps
    return torch.allclose(
        buffer.double(), value.double(), rtol=tolerance, atol=tolerance, equal_nan=True
    )


def _shape(value: Any) -> tuple[int, ...]:
    """Return the shape; () for states that are no tensors."""
    return tuple(value.shape) if isinstance(value, Tensor) else ()
