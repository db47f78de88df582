"""Which contenders there are: their names beside their ids."""

from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.records import Run
from foldbench.reports.text.document import Column, ReportSection, left, tabulated
from foldbench.reports.text.labels import Labelled, labelled_rows
from foldbench.reports.text.names import name_of


def build_contenders(column: Column, labelled: Labelled) -> ReportSection:
    """Return which name stands for which id: the other tables have ids alone."""

    def cells(_: str, run: Run) -> list[list[str]]:
        return [
            [
                m.contender,
                name_of(m.contender),
                m.precision if m.status == "ok" else m.status,
            ]
            for m in contenders(run)
        ]

    columns = (column, left("contender"), left("name"), left("precision"))
    return ReportSection(
        "Contenders", table=tabulated(columns, labelled_rows(labelled, cells)), key="contenders"
    )
