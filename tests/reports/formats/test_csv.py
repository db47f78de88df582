"""CSV: a row per contender and batch size, numbers as they were measured."""

import csv
import io

import pytest

from foldbench.reports.formats.csv_rows import COLUMNS
from foldbench.reports.render import render
from foldbench.reports.text.escaping import visible


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_there_is_one_row_for_each_contender_and_batch_size(build):
    rows = rows_of(render(build.run(), "csv"))
    keys = [(row["contender"], row["batch_size"]) for row in rows]
    assert len(set(keys)) == len(keys) == 4 * 2 + 2  # four that ran at two sizes, two that did not
    assert [row["status"] for row in rows[-2:]] == ["failed", "skipped"]
    assert rows[-1]["median_s"] == rows[-1]["accuracy_ratio"] == rows[-1]["batch_size"] == ""


def test_every_column_is_there_and_explained(build):
    (header, *_) = csv.reader(io.StringIO(render(build.run(), "csv")))
    assert header == list(COLUMNS)
    assert all(COLUMNS.values())
    run = build.run()
    filled = {name for row in rows_of(render(run, "csv")) for name, cell in row.items() if cell}
    assert set(COLUMNS) - filled == {"speedup_floor_ratio"}


def test_numbers_are_unrounded_seconds_bytes_and_shares(build):
    row = next(
        row
        for row in rows_of(render(build.run(), "csv"))
        if (row["contender"], row["batch_size"]) == ("ort/folded/cpu", "1")
    )
    assert float(row["accuracy_ratio"]) == 0.7602
    assert float(row["median_s"]) == pytest.approx(0.000934, rel=0.01)
    assert float(row["speedup_low_ratio"]) < float(row["speedup_ratio"])
    assert int(row["size_bytes"]) == 247_901


def test_runs_stand_one_after_the_other(build):
    rows = rows_of(render([build.run(), build.run("deep_mish")], "csv"))
    assert list(dict.fromkeys(row["model"] for row in rows)) == ["bn_cnn", "deep_mish"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_text_becomes_a_formula_in_a_spreadsheet(build, start):
    name = f'{start}HYPERLINK("http://x","y"), "z"\nnext'
    (first, *_) = rows_of(render(build.run(name=name), "csv"))
    assert first["run"] == "'" + visible(name)


def test_no_run_is_no_table():
    with pytest.raises(ValueError, match="at least one run"):
        render([], "csv")
