"""What is said of weights that fit a network, fit in several ways, or do not."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import nn

from foldbench.bench import units
from foldbench.bench.errors import cut, listed
from foldbench.models.building.foreign_weights.names import Own, Way

_AT_MOST = 3


def describe_way(path: Path, way: Way) -> Iterator[str]:
    """Yield a sentence for each thing that was resolved."""
    parts = [f"the tensors under {way.key!r}"] if way.key else []
    taken = [*sorted(f"{name}." for name in way.removed), *([way.strip] if way.strip else [])]
    if taken:
        parts.append(f"without {' and '.join(map(repr, taken))} in their names")
    if way.added:
        parts.append(f"with {way.added!r} before their names")
    if parts:
        yield f"{path.name}: {', '.join(parts)}"
    if way.renamed:
        count = units.count(way.renamed)
        yield f"tensors under other names of theirs (shared or parametrized): {count}"
    if way.by_code:
        yield "names of an older form, which the network's own loading code translates"
    if way.skipped:
        yield f"skipped {_named('tensor', way.skipped)}, which the network does not have"


def describe_choices(path: Path, ways: Iterable[Way]) -> str:
    """Return that several ways fit with other values, and how to choose one."""
    known = list(ways)
    by_key = len({way.key for way in known}) > 1
    by_prefix = len({(way.key, way.strip) for way in known}) > len({way.key for way in known})
    options = []
    for way in known:
        parts = [f"--weights-key {way.key}"] if way.key and by_key else []
        if by_prefix:
            parts.append(f"--strip-prefix {way.strip or repr('')}")
        options.append(" ".join(parts) or "--strip-prefix ''")
    places = [repr(way.key or way.strip or "the whole file") for way in known]
    return (
        f"{path}: fits in {len(known)} ways with different values ({listed(places, _AT_MOST)}): "
        f"choose one with {' or '.join(dict.fromkeys(options[:4]))}"
    )


def describe_misfit(
    path: Path, module: nn.Module, own: Own, ways: list[Way], asked_prefix: str | None
) -> str:
    """Return what is missing, left over and of another shape, and what would resolve it."""
    name = type(module).__name__
    best = ways[0]
    if asked_prefix and not best.found and not best.surplus:
        begins = dict.fromkeys(f"{n.partition('.')[0]}." for n in best.skipped if "." in n)
        return (
            f"{path}: no tensor's name begins with --strip-prefix {asked_prefix} (they begin with "
            f"{listed(begins, 8) or 'no prefix'})"
        )
    place = f" under {best.key!r}" if best.key else ""
    faults = []
    if best.missing:
        faults.append(f"{_named('tensor', best.missing)} of the network missing")
    if best.surplus:
        faults.append(f"{_named('tensor', best.surplus)} left over")
    if best.other_shape:
        shapes = [
            f"{n} is {_text(theirs)}, not {_text(mine)}"
            for n, (mine, theirs) in best.other_shape.items()
        ]
        faults.append(f"{_named('tensor', shapes)} of another shape")
    return f"{path}: does not fit {name}{place}: {'; '.join(faults)}: {_advise(own, best, ways)}"


def _named(noun: str, names: Iterable[str]) -> str:
    known = list(names)
    plural = "" if len(known) == 1 else "s"
    return f"{units.count(len(known))} {noun}{plural} ({listed(known, _AT_MOST)})"


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _advise(own: Own, best: Way, ways: list[Way]) -> str:
    """Return what would resolve it."""
    transient = [n for n in best.surplus if n.removeprefix(best.strip) in own.transient]
    if transient:
        return f"register {transient[0]} with persistent=True, so that the file's values are used"
    whole = [way for way in ways if way.is_whole]
    if whole:
        return _advise_options(whole)
    if best.other_shape and not best.missing and not best.surplus:
        return _advise_shapes(best)
    parametrized = [n for n in best.surplus if _is_parametrized(n)]
    if parametrized:
        return (
            "the file was saved with weight_norm, spectral_norm or pruning "
            f"({parametrized[0]}): apply the same to the network, or remove it before saving"
        )
    if len(best.found) - len(best.other_shape) < len(own.state) / 2:
        theirs = cut(next(iter(best.surplus), ""), 60)
        mine = cut(next(iter(own.state), ""), 60)
        return (
            f"these are the weights of another network, with names such as {theirs!r}: give "
            f"weights with names such as {mine!r}"
        )
    return "build the network with the arguments it was trained with, or give its own weights"


def _advise_options(whole: list[Way]) -> str:
    options = dict.fromkeys(
        " ".join(
            [*([f"--weights-key {way.key}"] if way.key else [])]
            + [f"--strip-prefix {way.strip}"] * bool(way.strip)
        )
        for way in whole
    )
    named = [option for option in options if "--strip-prefix" in option]
    if named:
        return f"{' or '.join(named[:4])} takes the tensors of that name alone"
    return "remove what is left over from the file, or build the network that has it"


def _is_parametrized(name: str) -> bool:
    leaf = name.rpartition(".")[2]
    return ".parametrizations." in f".{name}" or leaf.endswith(("weight_g", "_orig", "_mask"))


def _advise_shapes(best: Way) -> str:
    """Return what to do about shapes alone: mostly another number of classes."""
    parts = dict.fromkeys(name.rpartition(".")[0] for name in best.other_shape)
    first = {(mine[:1], theirs[:1]) for mine, theirs in best.other_shape.values()}
    same_inputs = all(mine[1:] == theirs[1:] for mine, theirs in best.other_shape.values())
    if len(first) == 1 and same_inputs and all(next(iter(first))):
        ((mine,), (theirs,)) = first.pop()
        return (
            f"its classifier {listed(parts, 2)} has {units.count(theirs)} classes, the network's "
            f"{units.count(mine)}: build the network with {theirs} classes (--classes {theirs})"
        )
    return "build the network with the arguments it was trained with"
