"""The machines of a report about several: a card of each, and what differs between them."""

from collections.abc import Iterator
from typing import Any

from foldbench.bench import units
from foldbench.bench.analysis.comparable import ALWAYS_DIFFERENT
from foldbench.bench.errors import cut
from foldbench.reports.sections.provenance import describe_machine
from foldbench.reports.text.document import ReportSection, left, tabulated
from foldbench.reports.text.labels import Labelled
from foldbench.reports.text.machines import Machine, by_machine

_WIDEST = 60
"""Characters of a fact."""


def build_machines(labelled: Labelled) -> Iterator[ReportSection]:
    """Yield a section for each machine, then what differs; nothing where there is one machine."""
    machines = by_machine(labelled)
    if len(machines) < 2:
        return
    names = [", ".join(label for label, _ in machine.runs) for machine in machines]
    for name, machine in zip(names, machines, strict=True):
        yield ReportSection(f"Machine of {name}", pairs=describe_machine(machine.runs[0][1]))
    rows = [[fact, *values] for fact, values in _differing(machines)]
    yield ReportSection(
        "What differs between the machines",
        table=tabulated((left("what"), *map(left, names)), rows),
        caption="No ratio in this report is between two machines.",
    )


def _differing(machines: tuple[Machine, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield each fact that differs, as text; of a list what not all of the machines have."""
    environments = [machine.runs[0][1].environment for machine in machines]
    for key in dict.fromkeys(key for facts in environments for key in facts):
        values = [facts.get(key) for facts in environments]
        if key in (*ALWAYS_DIFFERENT, "gpus") or all(value == values[0] for value in values):
            continue
        lists = [value for value in values if isinstance(value, list)]
        yield key, [cut(_text(key, value, lists), _WIDEST) for value in values]


def _text(key: str, value: Any, lists: list[list[Any]]) -> str:
    if isinstance(value, list):
        value = [part for part in value if not all(part in other for other in lists)]
    if key.endswith("_bytes"):
        return units.size(value)
    return "" if value is None else units.plain(value)
