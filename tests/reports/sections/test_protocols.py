"""The homework's protocol and the clean one side by side: what is kept, and how it is shown."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from foldbench.bench.cli import cli
from foldbench.bench.errors import RunError
from foldbench.bench.store.directory import create_run
from foldbench.reports.sections.compose import build as build_report


def test_the_last_comparison_under_each_protocol_is_kept(tmp_path: Path, build) -> None:
    run = create_run(tmp_path, "a", {})
    with pytest.raises(RunError, match="has not been compared"):
        run.results_by_protocol()
    clean, homework, newer = (
        build.run(evaluation_protocol=protocol, created=created)
        for protocol, created in (("clean", "1"), ("homework", "2"), ("clean", "3"))
    )
    run.write_results(clean)
    run.write_results(homework)
    assert run.results() == homework
    assert run.results_by_protocol() == (homework, clean)
    run.write_results(newer)
    assert run.results_by_protocol() == (homework, newer)


def test_a_run_compared_before_protocols_were_kept_apart_still_has_its_results(
    tmp_path: Path, build
) -> None:
    run = create_run(tmp_path, "a", {})
    record = build.run()
    (run.path / "results.json").write_text(record.model_dump_json(), encoding="utf-8")
    assert run.results_by_protocol() == (record,)


def test_one_run_under_both_protocols_is_told_apart_by_them(build) -> None:
    runs = [build.run(evaluation_protocol=protocol) for protocol in ("homework", "clean")]
    accuracy = build_report(runs).sections[0]
    assert accuracy.table is not None
    labels = {row[0] for row in accuracy.table.rows}
    assert labels == {f"{runs[0].name}, homework", f"{runs[0].name}, clean"}


def test_the_report_shows_the_last_comparison_or_both_protocols(tmp_path: Path, build) -> None:
    run = create_run(tmp_path, "a", {})
    for protocol in ("clean", "homework"):
        run.write_results(build.run(evaluation_protocol=protocol))

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["report", "a-001", "--runs", str(tmp_path), *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert ", clean" not in call("--format=md")
    both = call("--format=md", "--both-protocols")
    assert ", clean" in both
    assert ", homework" in both
    shown = CliRunner().invoke(cli, ["homework", "--json", "--runs", str(tmp_path)]).stdout
    assert shown.count('"accuracy": 0.') >= 2
