"""What came of a bundle on other machines: figures, then a row for each machine."""

import shlex
from collections.abc import Sequence
from typing import Any

from foldbench.bench.remote.places import Elsewhere
from foldbench.reports.formats.terminal import render_section
from foldbench.reports.render import render
from foldbench.reports.text.document import ReportSection, left, tabulated
from foldbench.reports.text.machines import machine_of


def render_remote(found: Sequence[Elsewhere], colour: bool = False) -> str:
    """Return the first screen of the report, what came of each machine, and the whole report."""
    records = [one.record for one in found if one.record is not None]
    columns = (left("where"), left("machine"), left("record, or why there is none"))
    rows = [
        [one.place, machine_of(one.record) if one.record else "", one.reason or str(one.path)]
        for one in found
    ]
    table = ReportSection("Machines", table=tabulated(columns, rows))
    parts = [render_section(table, colour)]
    if records:
        names = shlex.join(str(one.path) for one in found if one.path is not None)
        parts.insert(0, render(records, colour=colour, details=False).rstrip("\n"))
        parts.append(f"Report  bench report {names} --output report.html")
    return "\n\n".join(parts) + "\n"


def remote_json(found: Sequence[Elsewhere]) -> list[dict[str, Any]]:
    """Return the same as JSON types; `record` is the path of the stored record."""
    return [
        {
            "where": one.place,
            "machine": machine_of(one.record) if one.record else None,
            "record": str(one.path) if one.path else None,
            "reason": one.reason,
        }
        for one in found
    ]
