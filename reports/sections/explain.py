"""Time, cost and error by module, as text."""

from collections.abc import Iterator, Sequence

from foldbench.bench import units
from foldbench.bench.analysis.explaining import (
    ROWS,
    Difference,
    Far,
    Finding,
    Grows,
    PutIn,
    findings,
    rolled_up,
    roofline_share,
)
from foldbench.bench.records.explanation import ContenderModules, Explanation, ModuleFacts
from foldbench.reports.text.document import Column, Document, ReportSection, Table, left, right

_CAPTION = (
    "ms: by each runtime's own profiler, which slows the network down in its own way: compare "
    "shares within a column (bench compare says which contender is faster). In brackets: the least "
    "time that the operations and bytes need at this machine's peak (matrix products, copies), "
    "divided by that time; above 100 % the data stayed in a cache. A fused operator counts for the "
    "module with most of its operations."
)


def build_explanation(explanation: Explanation, whole: bool = False) -> Document:
    """Return the modules side by side, summed up by block unless `whole`, and what stands out."""
    shown = explanation if whole else rolled_up(explanation)
    what = "node" if explanation.by_node else "module"
    title = (
        f"Time by {what}: {explanation.name}, batch {units.count(explanation.batch_size)}, "
        f"{units.count(explanation.threads)} threads"
    )
    ran = [c for c in shown.contenders if c.status == "ok"]
    caption = _CAPTION if ran else ""
    sections = [ReportSection("Modules", table=_table(shown, ran, whole), caption=caption)]
    notes = tuple(_notes(explanation))
    if notes:
        sections.append(ReportSection("Notes", notes=notes))
    answer = tuple(_say(found) for found in findings(shown)) or ("Nothing stands out.",)
    return Document(title, tuple(sections), answer)


def _table(explanation: Explanation, ran: Sequence[ContenderModules], whole: bool) -> Table:
    columns: list[Column] = [left("module"), right("MFLOP"), right("MB")]
    columns += [right(f"{name} ms") for name in _short_names(ran)]
    columns += [right("error"), left(_FUSED)]
    known = {one.module: one for one in explanation.modules}
    names = dict.fromkeys([*known, *(r.module for c in ran for r in c.modules)])
    order = list(names)
    if not whole and len(order) > ROWS:
        order = sorted(order, key=lambda n: -max((_time(c, n) or 0.0 for c in ran), default=0.0))
        order = order[:ROWS]
    rows = [_row(explanation, ran, known.get(name), name) for name in order]
    rest = [name for name in names if name not in set(order)]
    if rest:
        rows.append(_summary(f"{len(rest)} more", ran, [_sum(c, rest) for c in ran]))
    rows.append(_summary("unattributed", ran, [c.unattributed_s for c in ran]))
    rows.append(_summary("all", ran, [c.total_s for c in ran]))
    if not whole or not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Table(tuple(columns), tuple(map(tuple, rows)))


_FUSED = "fused into it"


def _row(
    explanation: Explanation,
    ran: Sequence[ContenderModules],
    facts: ModuleFacts | None,
    name: str,
) -> list[str]:
    cells = [_called(name)]
    cells.append(units.mega(facts.flops) if facts and facts.flops else "")
    cells.append(units.mega(facts.size_bytes) if facts else "")
    for contender in ran:
        time_s = _time(contender, name)
        share = roofline_share(explanation, facts, time_s) if facts else None
        told = f" ({_part(share)} %)" if share is not None else ""
        cells.append(f"{units.milliseconds(time_s)}{told}")
    fused = dict.fromkeys(
        f for c in ran for r in c.modules if r.module == name for f in r.fused if f != name
    )
    cells.append(units.error(facts.error) if facts else "")
    cells.append(" ".join(f"+{_called(other)}" for other in fused))
    return cells


def _summary(what: str, ran: Sequence[ContenderModules], seconds: Sequence[float]) -> list[str]:
    cells = [what, "", ""]
    for _, time_s in zip(ran, seconds, strict=True):
        cells.append(units.milliseconds(time_s))
    return [*cells, "", ""]


def _time(contender: ContenderModules, name: str) -> float | None:
    return next((row.time_s for row in contender.modules if row.module == name), None)


def _sum(contender: ContenderModules, names: Sequence[str]) -> float:
    return sum(_time(contender, name) or 0.0 for name in names)


def _part(share: float) -> str:
    return units.whole(100 * share) if share <= 1 else ">100"


def _called(name: str) -> str:
    return name or "(itself)"


def _short_names(ran: Sequence[ContenderModules]) -> list[str]:
    """Return the backends, with their files where a backend has several."""
    ways = [contender.contender.removesuffix("/cpu") for contender in ran]
    backends = [way.partition("/")[0] for way in ways]
    return [
        backend if backends.count(backend) == 1 else way
        for way, backend in zip(ways, backends, strict=True)
    ]


def _say(found: Finding) -> str:
    if isinstance(found, Grows):
        return (
            f"The error grows at {_called(found.module)}: {units.error(found.error)} of the "
            f"largest value there, {units.error(found.before)} at most before it."
        )
    if isinstance(found, PutIn):
        return (
            f"{found.contender} spends {units.percent(found.share)} % of its time on "
            f"{units.plain(found.count)} copies, casts and changes of layout that it put in, most "
            f"of it at {_called(found.most_at)}."
        )
    if isinstance(found, Far):
        return (
            f"{_called(found.module)} takes {units.percent(found.share)} % of the time of "
            f"{found.contender} and reaches {units.percent(found.roofline)} % of what this machine "
            "can do."
        )
    assert isinstance(found, Difference)
    return (
        f"{_called(found.module)} takes {units.percent(found.shares[0])} % of the time of "
        f"{found.contenders[0]} and {units.percent(found.shares[1])} % of that of "
        f"{found.contenders[1]}."
    )


def _notes(explanation: Explanation) -> Iterator[str]:
    for contender in explanation.contenders:
        if contender.status != "ok":
            yield f"{contender.contender}: {contender.reason}"
    if explanation.error_of:
        yield (
            f"error: of the file {explanation.error_of}, operator by operator in onnxruntime, "
            "against float64 on the same images; largest difference divided by largest value"
        )
    if explanation.error_missing:
        yield f"no errors: {explanation.error_missing}"
    if explanation.by_node:
        yield "nodes rather than modules: the file names none"
