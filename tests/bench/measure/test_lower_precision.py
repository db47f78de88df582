"""Files in lower precision beside the others: rows of a comparison, the command line, reports."""

import shutil
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

import builders as B
from builders import HAS_VNNI, INT8, QUICK, needs_c_compiler
from foldbench.bench.analysis.advice.rules import advise
from foldbench.bench.cli import cli
from foldbench.bench.compiler.body import LOOKUP
from foldbench.bench.measure.contenders import Subject, list_contenders
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Artifact, Run
from foldbench.bench.stages.compare import compare_run
from foldbench.bench.stages.export import export
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.reports.commands.export import render_artifact
from foldbench.reports.render import render


def copy_artifacts(source: RunDirectory, run: RunDirectory) -> None:
    shutil.copytree(source.path / "artifacts", run.path / "artifacts")
    shutil.copy(source.path / "artifacts.json", run.path)


def int8_artifact(**changes) -> Artifact:
    return B.make_artifact(
        "int8", precision="int8", sha256=B.sha("8"), quantization=B.make_quantization(**changes)
    )


def run_with_int8(correct: int = 8000, **changes) -> Run:
    """A run in which 8,000 images are right in float32."""
    rows = [
        B.make_row("ort", variant, accuracy=B.make_accuracy(correct=right), source_sha256=sha256)
        for variant, right, sha256 in (("folded", 8000, B.sha("b")), ("int8", correct, B.sha("8")))
    ]
    artifacts = (B.make_artifact("folded"), int8_artifact(**changes))
    reference = B.make_row("torch", "unfolded")
    return B.make_run(measurements=(reference, *rows), artifacts=artifacts)


@needs_c_compiler
def test_tables_for_this_machine_alone_are_made_from_the_file_for_any_cpu(
    own_run: RunDirectory, quantized_run: RunDirectory, paths: Paths
) -> None:
    copy_artifacts(quantized_run, own_run)
    settings = ["export.quantize=int8_tables", "export.target=host"]
    host = export(own_run, [*INT8, *settings], paths, NullListener())
    assert (host.variant, host.target, host.precision) == ("int8_tables.host", "host", "int8")
    made = {artifact.variant: artifact for artifact in own_run.artifacts()}
    assert host.quantization.source_sha256 == made["int8"].sha256
    assert host.quantization.closeness == made["int8"].quantization.closeness
    operators = [node.op_type for node in onnx.load(own_run.path / host.path).graph.node]
    assert operators.count(LOOKUP.name) == host.quantization.tables > 0
    assert export(own_run, [*INT8, *settings], paths, NullListener()) == host


@pytest.mark.usefixtures("in_process")
def test_an_int8_file_is_a_row_on_the_cpu_that_says_its_precision(
    own_run: RunDirectory, quantized_run: RunDirectory, paths: Paths
) -> None:
    copy_artifacts(quantized_run, own_run)
    settings = [*QUICK, "compare.backends=[ort]", "compare.batch_sizes=[1]", "compare.rounds=1"]
    rows = {
        m.contender: m for m in compare_run(own_run, settings, paths, NullListener()).measurements
    }
    assert set(rows) == {"ort/int8/cpu", "ort/folded/cpu"}
    assert {name: row.precision for name, row in rows.items()} == {
        "ort/int8/cpu": "int8",
        "ort/folded/cpu": "float32",
    }
    for row in rows.values():
        assert (row.status, row.reason) == ("ok", None)
        assert row.accuracy is not None
    counts = [row.accuracy.correct for row in rows.values() if row.accuracy]
    assert not HAS_VNNI or abs(counts[0] - counts[1]) <= 0.05 * 360


def test_int8_for_the_cpu_is_no_row_on_a_gpu(quantized_run: RunDirectory) -> None:
    run = quantized_run
    subject = Subject(run.path, run.checkpoint(), run.artifacts())
    rows = list_contenders(subject, ("ort",), ("cpu", "cuda"))
    assert [row.name for row in rows] == ["ort/int8/cpu", "ort/folded/cpu", "ort/folded/cuda"]


def test_a_file_over_its_budget_is_made_and_told_but_not_benchmarked(
    own_exported_run: RunDirectory, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> bool:
        return False

    monkeypatch.setattr("foldbench.exporters.quantization.choice.keeps_budget", never)
    monkeypatch.setattr("foldbench.exporters.quantization.quantize.keeps_budget", never)
    own_run = own_exported_run
    given = ["export", own_run.name, "--runs", str(paths.runs), "--cache", str(paths.cache)]
    asked = ["--quantize", "int8", "--max-drop", "0.25", "--calibration-images", "60"]
    settings = [f"--set={text}" for text in (*QUICK, "export.judged_images=80")]
    result = CliRunner().invoke(cli, [*given, *asked, *settings])
    assert result.exit_code == 1
    last = result.output.splitlines()[-1]
    assert last.startswith("Error: artifacts/digits.int8.onnx ")
    assert "of 80 images" in last
    assert last.endswith(" 0.25")
    artifacts = own_run.artifacts()
    assert [a.variant for a in artifacts] == ["int8", "folded"]
    rows = list_contenders(
        Subject(own_run.path, own_run.checkpoint(), artifacts), ("ort",), ("cpu",)
    )
    assert [row.status for row in rows] == ["failed", "ok"]
    assert str(artifacts[0].quantization.reason) in str(rows[0].reason)


def test_what_each_node_costs_alone_is_printed_where_not_all_are_taken() -> None:
    text = render_artifact(Path("digits-001"), int8_artifact())
    assert "conv_1: int8 (alone KL" in text
    assert "conv_2: float32 (alone KL" in text


def test_what_was_decided_is_printed(quantized_run: RunDirectory, paths: Paths) -> None:
    settings = [f"--set={text}" for text in INT8]
    given = ["export", str(quantized_run.path), "--cache", str(paths.cache)]
    result = CliRunner().invoke(cli, [*given, *settings])
    assert result.exit_code == 0, result.output
    for words in (
        "ranges by percentile:",
        "(taken)",
        "nodes in int8: together",
        "budget of 50 percentage",
    ):
        assert words in result.output


def test_the_report_shows_cost_choice_and_budget() -> None:
    text = render(run_with_int8(), "md")
    (row,) = (line for line in text.splitlines() if "percentile" in line and "kept" in line)
    for words in ("folded", "1/2", "percentile", "990/1,000", "90.00", "89.90", "-0.10", "kept"):
        assert words in row
    assert "too sensitive" in text
    folding = text[text.index("BatchNorm folding") : text.index("Export to ONNX")]
    assert "int8" not in folding, "it was folded before"


def test_more_lost_on_the_test_split_than_allowed_is_warned_of() -> None:
    kinds = {advice.kind for advice in advise(run_with_int8(7940))}
    assert "drop_on_test" in kinds
    (found,) = (a for a in advise(run_with_int8(7940)) if a.kind == "drop_on_test")
    assert (found.subject, found.numbers["before"]) == ("ort/int8/cpu", "ort/folded/cpu")
    assert found.numbers["drop_ratio"] == pytest.approx(0.006)
    assert found.numbers["training_ratio"] == pytest.approx(0.001)
    assert "drop_on_test" not in {advice.kind for advice in advise(run_with_int8(7951))}


def test_the_drop_of_tables_is_against_the_file_in_float32_and_not_against_int8() -> None:
    tables = B.make_artifact(
        "int8_tables",
        precision="int8",
        sha256=B.sha("6"),
        quantization=B.make_quantization(source_variant="int8", source_sha256=B.sha("8"), tables=2),
    )
    run = run_with_int8(7960)
    accuracy = B.make_accuracy(correct=7930)
    row = B.make_row("ort", "int8_tables", accuracy=accuracy, source_sha256=B.sha("6"))
    run = run.model_copy(
        update={
            "artifacts": (*run.artifacts, tables),
            "measurements": (*run.measurements, row),
        }
    )
    (found,) = (a for a in advise(run) if a.kind == "drop_on_test")
    assert (found.subject, found.numbers["before"]) == ("ort/int8_tables/cpu", "ort/folded/cpu")
    assert found.numbers["drop_ratio"] == pytest.approx(0.007)


def test_an_exceeded_budget_is_warned_of() -> None:
    run = run_with_int8(within_budget=False, reason="accuracy is 3 points lower", correct=8000)
    (found,) = (a for a in advise(run) if a.kind == "budget_exceeded")
    assert (found.subject, found.numbers["reason"]) == ("int8", "accuracy is 3 points lower")
