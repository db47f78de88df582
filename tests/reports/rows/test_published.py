"""Published summaries opened again: the same figures in every form, faults in one line."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from foldbench.bench.cli import cli
from foldbench.bench.errors import RunError
from foldbench.reports.render import render, summarise
from foldbench.reports.rows.accuracy import accuracy_rows
from foldbench.reports.rows.latency import latency_rows
from foldbench.reports.rows.published import read_published
from foldbench.reports.rows.self_checks import self_check_rows

PUBLISHED = sorted((Path(__file__).parents[3] / "reports" / "published").glob("*.json"))


@pytest.fixture
def written(build, tmp_path: Path) -> Path:
    path = tmp_path / "run.json"
    path.write_text(render(build.run(), "json"))
    return path


def test_the_figures_are_those_that_were_written(build, written):
    run = build.run()
    (found,) = read_published(written)
    assert latency_rows(found) == latency_rows(run)
    assert accuracy_rows(found) == accuracy_rows(run)
    assert self_check_rows(found) == self_check_rows(run)
    assert render(found, "json") == render(run, "json")
    assert summarise([found]) == summarise([run])


def test_the_first_screen_and_the_spreadsheet_hold_what_the_runs_own_do(build, written):
    (found,) = read_published(written)
    screens = [render(one, "terminal", details=False) for one in (build.run(), found)]
    tables = [text.split("batch 1 ")[1] for text in screens]
    assert tables[0] == tables[1]
    first = next(csv.DictReader(render(found, "csv").splitlines()))
    assert first["median_s"] == repr(latency_rows(found)[0].median_s)


def test_the_page_has_the_table_and_the_charts_but_no_calls(written):
    page = render(read_published(written), "html")
    assert "2.14×" in page
    assert 'id="figure-speedups"' in page
    assert 'id="raw-statistics"' in page
    assert "raw-samples" not in page


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_every_published_summary_opens_on_one_screen(path):
    runs = read_published(path)
    assert len(render(runs, "terminal", details=False).splitlines()) <= 25
    for run in runs:
        assert any(row.median_s for row in latency_rows(run))


def test_summaries_from_before_the_correction_keep_their_verdicts_and_say_so():
    (path,) = (one for one in PUBLISHED if one.stem == "fast_deep_mish")
    (run,) = read_published(path)
    assert "9.5x as fast" in summarise([run])
    assert "did not correct them" in render(run, "md")


def test_a_file_on_the_command_line_is_a_report_in_every_form(written):
    for form, start in (("terminal", "bn_cnn-1 "), ("md", "# bn_cnn"), ("html", "<!DOCTYPE")):
        result = CliRunner().invoke(cli, ["report", str(written), "--format", form])
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(start)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"runs": 3}', '{"runs": [{"schema_version": 1}]}', "\x00"]
)
def test_what_is_no_summary_is_an_error_that_says_how_to_make_one(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(RunError, match="--format json"):
        read_published(path)


def test_a_summary_of_another_version_is_refused(written):
    found = json.loads(written.read_text())
    found["runs"][0]["schema_version"] = 2
    written.write_text(json.dumps(found))
    with pytest.raises(RunError, match="use the version that wrote it"):
        read_published(written)


def test_runs_and_files_are_not_mixed(written):
    result = CliRunner().invoke(cli, ["report", str(written), "digits-001"])
    assert result.exit_code == 2


def test_brackets_in_a_string_stay_as_they_are(build):
    run = build.run(command=("bench", "compare", "--set", "x=[ 1, 2 ]"))
    assert json.loads(render(run, "json"))["runs"][0]["command"][-1] == "x=[ 1, 2 ]"
