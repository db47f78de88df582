"""The homework's figures beside those of runs here: the text and the JSON of `bench homework`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from foldbench.bench import units
from foldbench.reports.formats.markdown import render_markdown
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.rows.homework_table import HomeworkRow
from foldbench.reports.text.document import Document, ReportSection, left, right, tabulated


def render_homework(rows: Sequence[HomeworkRow], markdown: bool = False) -> str:
    """Return the table, ending in a newline."""
    balanced = any(row.balanced is not None for row in rows)
    columns = (
        left("problem"),
        left("system"),
        left("protocol"),
        right("homework %"),
        right("here %"),
        right("95 % interval"),
        right("difference"),
        *((right("balanced %"),) if balanced else ()),
        right("training"),
        left("on"),
        left("run"),
        right("note"),
    )
    remarks = list(dict.fromkeys(row.remark for row in rows if row.remark))
    cells = [
        [
            row.problem,
            row.system,
            row.protocol or "",
            units.percent(row.homework_accuracy),
            units.percent(row.accuracy),
            units.span(units.percent(row.low), units.percent(row.high)),
            units.points(row.difference),
            *((units.percent(row.balanced),) if balanced else ()),
            units.long_duration(row.training_s),
            row.trained_on or "",
            row.run or "",
            str(remarks.index(row.remark) + 1) if row.remark else "",
        ]
        for row in rows
    ]
    section = ReportSection(
        "Accuracy",
        table=tabulated(columns, cells),
        caption="homework: as its code ran, quirks included; clean: done as it should be. "
        "Interval: Wilson's, for the test images drawn. Difference: in points, from the "
        "homework's figure, which is of its own protocol. Training: all epochs of one run, "
        "and what it had at its end. "
        + (
            "Balanced: mean over classes; the homework gives plain accuracy and calls it "
            "mean-per-class. "
            if balanced
            else ""
        )
        + "An empty figure was not measured here.",
    )
    sections = (section, ReportSection("Notes", notes=tuple(remarks)))
    document = Document("The homework's figures, and what was measured here", sections)
    return render_markdown(document) if markdown else render_terminal(document)


def homework_json(rows: Sequence[HomeworkRow]) -> list[dict[str, Any]]:
    """Return the rows as JSON types, unrounded."""
    return [asdict(row) for row in rows]
