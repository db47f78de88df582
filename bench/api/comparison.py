"""What a comparison found, for a Python program and for a notebook."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foldbench.bench.analysis.ratios import is_claimed
from foldbench.bench.analysis.speedups import with_other_answers
from foldbench.bench.errors import MissingPackageError
from foldbench.bench.records import Run
from foldbench.bench.store.files import write_text
from foldbench.reports.formats.csv_rows import COLUMNS, CellValue, rows_of
from foldbench.reports.render import render

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Comparison:
    """The records of a comparison, one for each network, with their raw samples."""

    records: tuple[Run, ...]
    notes: tuple[str, ...] = ()
    """What was taken for granted or done on the way, one sentence each."""

    def rows(self) -> list[dict[str, CellValue]]:
        """Return a row per contender and batch size; `columns` explains what it holds.

        Seconds, bytes and shares of 1, unrounded; None for what does not exist. A contender that
        did not run is a row, too, with its reason.
        """
        with _warnings_kept():
            found = [row for record in self.records for row in rows_of(record)]
        return [{column: row.get(column) for column in COLUMNS} for row in found]

    @staticmethod
    def columns() -> dict[str, str]:
        """Return every column of `rows` and what it holds."""
        return dict(COLUMNS)

    def to_frame(self) -> "DataFrame":
        """Return `rows` as a data frame of pandas.

        Raises MissingPackageError where pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                "to_frame() needs the package 'pandas', which is not installed: pip install "
                "pandas, or use rows()"
            ) from error
        return pandas.DataFrame(self.rows(), columns=list(COLUMNS))

    def best(self, batch_size: int = 1) -> dict[str, CellValue] | None:
        """Return the row that is fastest at `batch_size`, from host array to host array.

        It is the smallest median of those whose difference from the reference is resolved, or the
        reference itself where nothing is faster; None where nothing was timed at that batch size.
        Rows whose answers rounding does not explain are passed over.
        """
        other = {(run.name, name) for run in self.records for name in with_other_answers(run)}
        timed = [
            row
            for row in self.rows()
            if row["batch_size"] == batch_size and row["boundary"] == "host" and row["median_s"]
            if (row["run"], row["contender"]) not in other
        ]
        faster = [row for row in timed if _is_faster(row)]
        references = [row for row in timed if row["contender"] == row["speedup_reference"]]
        return min(
            faster or references or timed, key=lambda row: float(row["median_s"] or 0), default=None
        )

    def summary(self) -> str:
        """Return the report as text for a terminal."""
        with _warnings_kept():
            return render(self.records, "terminal")

    def save(self, path: "str | os.PathLike[str]") -> Path:
        """Write results.json, report.md and report.html into the folder `path`; return it.

        Of several networks, each has a results.json in a folder of its name. Raises RunError where
        it cannot be written.
        """
        folder = Path(path)
        with _warnings_kept():
            page, markdown = render(self.records, "html"), render(self.records, "md")
        for record in self.records:
            place = folder if len(self.records) == 1 else folder / record.name
            place.mkdir(parents=True, exist_ok=True)
            write_text(place / "results.json", record.model_dump_json())
        write_text(folder / "report.md", markdown)
        write_text(folder / "report.html", page)
        return folder

    def __repr__(self) -> str:
        counts = f"{len(self.records)} networks, " if len(self.records) > 1 else ""
        rows = [row for record in self.records for row in record.measurements]
        contenders = sum(row.role == "contender" for row in rows)
        return f"<foldbench.Comparison: {counts}{contenders} contenders; print(.summary())>"

    def _repr_html_(self) -> str:
        from foldbench.reports.formats.notebook import render_notebook
        from foldbench.reports.sections.compose import build

        with _warnings_kept():
            return render_notebook(build(self.records))


def _is_faster(row: dict[str, CellValue]) -> bool:
    p_value = row["speedup_p_value"]
    found = row["verdict"] == "faster" and isinstance(p_value, float)
    return found and is_claimed("faster", float(p_value or 0))


def _warnings_kept() -> "warnings.catch_warnings[None]":
    """Undo what scipy does to the filters of warnings when it is imported."""
    return warnings.catch_warnings()
