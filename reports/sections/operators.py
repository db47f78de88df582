"""Where the time goes, as text: the top operators of each contender side by side."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from foldbench.bench import units
from foldbench.bench.records import ContenderProfile, OperatorTime, Profile
from foldbench.reports.text.document import Document, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in

_CONTENDERS_A_TABLE = 3
_TOP = 10
"""Operators of a contender that a report shows."""
_CAPTION = (
    "Each cell: its share of the time of all operators, ms in one run of the network, how often it "
    "ran if not once. Each runtime's own profiler tells, and slows the network down in its own "
    "way: compare shares within a column. Which contender is faster, bench compare says."
)


def build_profile(profile: Profile, top: int, nodes: bool) -> Document:
    """Return the `top` operators of each contender, by place in the graph where `nodes`."""
    ran = [one for one in profile.profiles if one.status == "ok"]
    sections = []
    for batch_size, group in groupby(sorted(ran, key=_batch_size), key=_batch_size):
        found = list(group)
        for start in range(0, len(found), _CONTENDERS_A_TABLE):
            part = found[start : start + _CONTENDERS_A_TABLE]
            sections.append(_section(part, batch_size, top, nodes))
    if sections:
        sections[-1] = ReportSection(sections[-1].title, sections[-1].table, caption=_CAPTION)
    sections += [*_placement(ran), *_failures(profile.profiles)]
    return Document(
        f"Time by {'node' if nodes else 'operator'}: {profile.name}, "
        f"{units.count(profile.threads)} threads",
        tuple(sections),
    )


def operator_sections(labelled: Labelled, profiles: Sequence[Profile]) -> Iterator[ReportSection]:
    """Yield, for a report, the top operators of each run that a profile names."""
    for label, run in labelled:
        for profile in profiles:
            if profile.name == run.name:
                whose = label_in(labelled, label, before=" of ")
                for section in build_profile(profile, _TOP, nodes=False).sections:
                    title = section.title[0].lower() + section.title[1:]
                    yield replace(section, title=f"Operators{whose}, {title}", detail=True)


def _batch_size(profile: ContenderProfile) -> int:
    return profile.batch_size


def _section(
    profiles: Sequence[ContenderProfile], batch_size: int, top: int, nodes: bool
) -> ReportSection:
    cells = [list(_cells(profile, top, nodes)) for profile in profiles]
    depth = max(len(column) for column in cells)
    rows = [[column[i] if i < len(column) else "" for column in cells] for i in range(depth)]
    columns = [left(profile.contender) for profile in profiles]
    return ReportSection(f"Batch {units.count(batch_size)}", table=tabulated(columns, rows))


def _cells(profile: ContenderProfile, top: int, nodes: bool) -> Iterator[str]:
    shares = summed(profile, _by_node if nodes else _by_operator)
    for name, time_s, calls in shares[:top]:
        times = f" ×{units.plain(calls)}" if calls != 1 else ""
        share = units.by_name("_ratio", time_s / profile.total_s if profile.total_s else 0.0)
        yield f"{share:>6} {units.milliseconds(time_s)} {name}{times}"
    rest = shares[top:]
    if rest:
        share = units.by_name("_ratio", sum(time_s for _, time_s, _ in rest) / profile.total_s)
        yield f"{share:>6} {len(rest)} more"
    yield f"all: {units.milliseconds(profile.total_s)} ms"


def _by_operator(one: OperatorTime) -> str:
    return one.operator.removeprefix("aten::")


def _by_node(one: OperatorTime) -> str:
    return f"{_by_operator(one)} {one.node}" if one.node else _by_operator(one)


def summed(
    profile: ContenderProfile, key: Callable[[OperatorTime], str]
) -> list[tuple[str, float, float]]:
    """Return (name, seconds and calls in one run) for each value of `key`, the longest first."""
    times: dict[str, float] = {}
    calls: dict[str, float] = {}
    for one in profile.operators:
        name = key(one)
        times[name] = times.get(name, 0.0) + one.time_s
        calls[name] = calls.get(name, 0.0) + one.calls
    return sorted(((n, times[n], calls[n]) for n in times), key=lambda found: -found[1])


_COPIES = "Memcpy"
"""What the operators that copy between the CPU and the GPU begin with, in every runtime."""
_PLACEMENT_CAPTION = (
    "Share of the time of all operators, and number of nodes, by what ran them: the provider that "
    "onnxruntime gave each node to, or the device. Copies: between the CPU and the GPU in one run "
    "of the network. Nodes on the CPU and copies make the GPU wait: more than 1 % of the time or "
    "more copies than there are inputs and outputs is a reason to change the export. Of nodes on "
    "CUDA, onnxruntime as it is shipped tells how long it took to start them."
)


@dataclass(frozen=True)
class Placement:
    """How much of a contender one execution provider or device ran."""

    placed_on: str
    share: float
    """Of the time of all operators."""
    nodes: int | None
    """Places in the graph; None where the runtime only knows the type of an operator."""


def placements(profile: ContenderProfile) -> list[Placement]:
    """Return what ran the operators of a contender, the one with the largest share first."""
    found = []
    for place in dict.fromkeys(one.placed_on for one in profile.operators):
        there = [one for one in profile.operators if one.placed_on == place]
        in_graph = not profile.backend.startswith("torch")  # there, places are modules
        nodes = len({one.node for one in there if one.node and in_graph}) or None
        share = sum(one.time_s for one in there) / (profile.total_s or 1.0)
        found.append(Placement(place, share, nodes))
    return sorted(found, key=lambda one: -one.share)


def count_copies(profile: ContenderProfile) -> float:
    """Return how often one run of the network copies between the CPU and the GPU."""
    return sum(one.calls for one in profile.operators if one.operator.startswith(_COPIES))


def _placement(ran: Sequence[ContenderProfile]) -> Iterator[ReportSection]:
    """Yield where the operators of contenders on a GPU ran; on the CPU there is no other place."""
    rows = []
    for profile in ran:
        if profile.device != "cpu":
            where = [
                f"{place.placed_on} {units.percent(place.share)} %"
                + (f" ({_nodes(place.nodes)})" if place.nodes else "")
                for place in placements(profile)
            ]
            copies = units.plain(count_copies(profile))
            rows.append(
                [profile.contender, units.count(profile.batch_size), ", ".join(where), copies]
            )
    if rows:
        columns = (left("contender"), right("batch"), left("ran on"), right("copies"))
        yield ReportSection("Placement", table=tabulated(columns, rows), caption=_PLACEMENT_CAPTION)


def _nodes(number: int) -> str:
    return f"{units.count(number)} node{'' if number == 1 else 's'}"


def _failures(profiles: Sequence[ContenderProfile]) -> Iterator[ReportSection]:
    reasons = {one.contender: one.reason for one in profiles if one.status != "ok"}
    if reasons:
        rows = [[name, reason or ""] for name, reason in reasons.items()]
        yield ReportSection(
            "Not profiled", table=tabulated((left("contender"), left("reason")), rows)
        )
