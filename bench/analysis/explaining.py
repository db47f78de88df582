"""Time by module: whose each operator's time is, how rows are summed, and what stands out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from foldbench.bench.analysis.origins import Origin
from foldbench.bench.records import ContenderProfile
from foldbench.bench.records.explanation import (
    ContenderModules,
    Explanation,
    ModuleFacts,
    ModuleTime,
)
from foldbench.bench.samples.timing import OperatorTime

ROWS = 16
"""That one screen has room for."""
LARGE_SHARE = 0.05
"""Of the time, from which something stands out."""
LARGE_ERROR = 1e-4
"""Above what float32 gives in a network of usual depth."""
GROWS = 10.0
"""Times the largest error before it, from which an error is said to begin somewhere."""


@dataclass
class _Sum:
    time_s: float = 0.0
    put_in: float = 0.0
    put_in_s: float = 0.0
    fused: dict[str, None] = field(default_factory=dict)


def by_module(
    profile: ContenderProfile,
    origin_of: Callable[[OperatorTime], Origin],
    flops: Mapping[str, int],
) -> ContenderModules:
    """Return a contender's time by module; the sum of all rows is that of all operators.

    A fused operator counts for the module among its own that has the most operations.
    """
    sums: dict[str, _Sum] = {}
    unattributed_s = 0.0
    for one in profile.operators:
        origin = origin_of(one)
        if not origin.modules:
            unattributed_s += one.time_s
            continue
        main = max(origin.modules, key=lambda name: flops.get(name, 0))
        found = sums.setdefault(main, _Sum())
        found.time_s += one.time_s
        found.fused |= dict.fromkeys(name for name in origin.modules if name != main)
        if origin.is_put_in:
            found.put_in += one.calls
            found.put_in_s += one.time_s
    rows = tuple(
        ModuleTime(
            module=name,
            time_s=s.time_s,
            fused=tuple(s.fused),
            put_in=s.put_in,
            put_in_s=s.put_in_s,
        )
        for name, s in sums.items()
    )
    return ContenderModules(
        contender=profile.contender,
        status=profile.status,
        reason=profile.reason,
        total_s=profile.total_s,
        unattributed_s=unattributed_s,
        modules=rows,
    )


def rolled_up(explanation: Explanation, rows: int = ROWS) -> Explanation:
    """Return the explanation by the deepest level of modules that has at most so many rows.

    Where the first level has more, it is that level.
    """
    names = [facts.module for facts in explanation.modules]
    names += [row.module for c in explanation.contenders for row in c.modules]
    deepest = max((len(parts_of(name)) for name in names), default=1)
    for depth in range(deepest, 0, -1):
        if len({_above(name, depth) for name in names}) <= rows or depth == 1:
            return _at_depth(explanation, depth)
    return explanation


def parts_of(name: str) -> list[str]:
    """Return the levels of a name: ``layer1.0.conv1``, or ``/layer1/layer1.0/conv1/Conv``."""
    return name.strip("/").split("/") if "/" in name else name.split(".")


def _above(name: str, depth: int) -> str:
    parts = parts_of(name)[:depth]
    return ("/" if "/" in name else ".").join(parts)


def _at_depth(explanation: Explanation, depth: int) -> Explanation:
    facts: dict[str, ModuleFacts] = {}
    for one in explanation.modules:
        name = _above(one.module, depth)
        before = facts.get(name)
        error = one.error if one.error is not None or before is None else before.error
        facts[name] = ModuleFacts(
            module=name,
            flops=one.flops + (before.flops if before else 0),
            size_bytes=one.size_bytes + (before.size_bytes if before else 0),
            error=error,
        )
    contenders = tuple(_contender_at(c, depth) for c in explanation.contenders)
    return explanation.model_copy(
        update={"modules": tuple(facts.values()), "contenders": contenders}
    )


def _contender_at(contender: ContenderModules, depth: int) -> ContenderModules:
    rows: dict[str, ModuleTime] = {}
    for row in contender.modules:
        name = _above(row.module, depth)
        before = rows.get(name, ModuleTime(module=name, time_s=0.0))
        fused = [_above(other, depth) for other in row.fused]
        rows[name] = ModuleTime(
            module=name,
            time_s=before.time_s + row.time_s,
            fused=tuple(dict.fromkeys(n for n in (*before.fused, *fused) if n != name)),
            put_in=before.put_in + row.put_in,
            put_in_s=before.put_in_s + row.put_in_s,
        )
    return contender.model_copy(update={"modules": tuple(rows.values())})


def roofline_share(
    explanation: Explanation, facts: ModuleFacts, time_s: float | None
) -> float | None:
    """Return the least time that operations and bytes need on this machine, divided by `time_s`.

    Roofline: S. Williams, A. Waterman, D. Patterson, CACM 52 (4), 2009.
    """
    if not time_s or not explanation.flops_per_s or not explanation.bytes_per_s:
        return None
    least_s = max(facts.flops / explanation.flops_per_s, facts.size_bytes / explanation.bytes_per_s)
    return least_s / time_s


@dataclass(frozen=True)
class Difference:
    """The module whose share of the time differs most between two contenders."""

    module: str
    contenders: tuple[str, str]
    shares: tuple[float, float]


@dataclass(frozen=True)
class PutIn:
    """What a runtime spends on copies, casts and changes of layout that it put in."""

    contender: str
    count: float
    share: float
    most_at: str


@dataclass(frozen=True)
class Far:
    """A module that takes much time for what it computes."""

    module: str
    contender: str
    share: float
    roofline: float


@dataclass(frozen=True)
class Grows:
    """Where the error first becomes large."""

    module: str
    error: float
    before: float


Finding = Difference | PutIn | Far | Grows
FINDINGS = 3
"""At most."""


def findings(explanation: Explanation) -> list[Finding]:
    """Return what stands out: an error that grows, what was put in, what is slow, what differs."""
    found: list[Finding] = [*_growth(explanation)]
    ran = [c for c in explanation.contenders if c.status == "ok" and c.total_s]
    found += [put for c in ran for put in _put_in(c)]
    found += [far for c in ran[1:2] or ran for far in _far(explanation, c)]
    found += _difference(ran)
    return found[:FINDINGS]


def _growth(explanation: Explanation) -> list[Grows]:
    largest = 0.0
    for facts in explanation.modules:
        if facts.error is None:
            continue
        if facts.error >= LARGE_ERROR and facts.error > GROWS * largest:
            return [Grows(facts.module, facts.error, largest)]
        largest = max(largest, facts.error)
    return []


def _put_in(contender: ContenderModules) -> list[PutIn]:
    put_in_s = sum(row.put_in_s for row in contender.modules)
    if put_in_s < LARGE_SHARE * contender.total_s:
        return []
    most = max(contender.modules, key=lambda row: row.put_in_s)
    count = sum(row.put_in for row in contender.modules)
    return [PutIn(contender.contender, count, put_in_s / contender.total_s, most.module)]


def _far(explanation: Explanation, contender: ContenderModules) -> list[Far]:
    """Return the module that loses the most time against the machine's peak, if it is much."""
    facts = {one.module: one for one in explanation.modules}
    lost: list[tuple[float, Far]] = []
    for row in contender.modules:
        one = facts.get(row.module)
        roofline = roofline_share(explanation, one, row.time_s) if one else None
        if roofline is not None and roofline < 1:
            share = row.time_s / contender.total_s
            far = Far(row.module, contender.contender, share, roofline)
            lost.append((share * (1 - roofline), far))
    most = max(lost, key=lambda pair: pair[0], default=None)
    return [most[1]] if most and most[0] >= LARGE_SHARE else []


def _difference(ran: Sequence[ContenderModules]) -> list[Difference]:
    if len(ran) < 2:
        return []
    first, second = ran[:2]
    shares = [{r.module: r.time_s / c.total_s for r in c.modules} for c in (first, second)]
    names = dict.fromkeys([*shares[0], *shares[1]])
    if not names:
        return []
    gap = {name: shares[0].get(name, 0.0) - shares[1].get(name, 0.0) for name in names}
    most = max(gap, key=lambda name: abs(gap[name]))
    if abs(gap[most]) < LARGE_SHARE:
        return []
    pair = (shares[0].get(most, 0.0), shares[1].get(most, 0.0))
    return [Difference(most, (first.contender, second.contender), pair)]
