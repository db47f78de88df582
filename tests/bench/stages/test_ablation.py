"""The ablation: every step from unfolded torch to the shipped file is exported and compared."""

from pathlib import Path

import pytest

from builders import QUICK, run_in_process
from foldbench.bench.errors import ExportError
from foldbench.bench.measure.contenders import Subject, contenders_of
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Run
from foldbench.bench.stages.compare import compare_run
from foldbench.bench.stages.export import export, plan_ablation
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.exporters.export import ExportOptions
from foldbench.reports.render import render
from foldbench.reports.rows.ablation import ablation_rows


@pytest.fixture(scope="module")
def climbed(
    trained_run: RunDirectory, trained_paths: Paths, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunDirectory, Run]:
    """A copy of the trained run, compared step by step."""
    import shutil

    folder = tmp_path_factory.mktemp("ladder") / trained_run.name
    shutil.copytree(trained_run.path, folder)
    run = RunDirectory(folder)
    settings = [*QUICK, "compare.batch_sizes=[2]"]
    with pytest.MonkeyPatch.context() as patch:
        run_in_process(patch)
        return run, compare_run(run, settings, trained_paths, NullListener(), ablation=True)


def test_every_step_is_a_contender_in_order(climbed: tuple[RunDirectory, Run]) -> None:
    _, record = climbed
    assert [(step.contender, step.what) for step in record.ladder] == [
        ("torch/unfolded/cpu", "torch, as trained"),
        ("torch/folded/cpu", "BatchNorm folded"),
        ("ort/plain/cpu", "torch.onnx.export by itself"),
        ("ort/bare/cpu", "folded, then exported"),
        ("ort/folded/cpu", "+ pass mish"),
    ]
    assert all(m.status == "ok" for m in record.measurements), record.measurements


def test_the_steps_are_told_with_what_each_gave(climbed: tuple[RunDirectory, Run]) -> None:
    _, record = climbed
    rows = ablation_rows(record)
    assert [row.step for row in rows] == [0, 1, 2, 3, 4]
    assert rows[0].before is None
    assert all(row.latency.median_s for row in rows)
    assert len({row.accuracy.correct for row in rows}) == 1
    text = render(record, "md")
    assert "Ablation" in text
    assert "+ pass mish" in text


def test_only_the_shipped_file_has_the_rewritten_graph(climbed: tuple[RunDirectory, Run]) -> None:
    run, _ = climbed
    made = {a.variant: a for a in run.artifacts()}
    assert made["plain"].batchnorm_nodes == 0
    assert made["plain"].fold.batchnorms_after == made["plain"].fold.batchnorms_before
    assert made["bare"].node_count < made["folded"].node_count
    assert made["folded"].ladder_step is None
    assert Path(run.path / made["bare"].path).name.endswith(".bare.onnx")


def test_steps_are_left_out_of_other_comparisons(climbed: tuple[RunDirectory, Run]) -> None:
    run, _ = climbed
    subject = Subject(run.path, run.checkpoint(), run.artifacts())
    rows = [c.variant for c in contenders_of(subject, "ort", "cpu")]
    assert rows == ["plain", "folded"], "torch.onnx.export by itself is always compared"


def test_openvino_is_not_given_the_graph_that_is_rewritten_for_onnxruntime(
    climbed: tuple[RunDirectory, Run], trained_paths: Paths
) -> None:
    run, _ = climbed
    settings = ["export.passes=[default]", "export.baselines=true"]
    export(run, settings, trained_paths, NullListener())
    subject = Subject(run.path, run.checkpoint(), run.artifacts())
    rows = {c.variant: c.path for c in contenders_of(subject, "openvino", "cpu")}
    assert set(rows) == {"plain", "folded"}
    assert rows["folded"] == run.path / "artifacts" / f"{run.name[:-4]}.folded.openvino.onnx"
    (made,) = (a for a in run.artifacts() if a.target == "openvino")
    assert made.parity.passed
    assert [p.name for p in made.passes if p.changed] == ["strip_metadata"]
    assert made.fold.batchnorms_after == 0


def test_steps_are_not_exported_again(
    climbed: tuple[RunDirectory, Run], trained_paths: Paths
) -> None:
    run, _ = climbed
    before = {a.variant: a.inputs_sha256 for a in run.artifacts()}
    export(run, QUICK, trained_paths, NullListener())
    assert {a.variant: a.inputs_sha256 for a in run.artifacts()} == before


def test_without_folding_there_is_no_ablation(climbed: tuple[RunDirectory, Run]) -> None:
    run, _ = climbed
    shipped = next(a for a in run.artifacts() if a.variant == "folded")
    with pytest.raises(ExportError, match="--no-fold-bn"):
        plan_ablation(shipped, ExportOptions(False, 20, ("strip_metadata",)))


def test_a_run_without_an_ablation_has_no_such_section(climbed: tuple[RunDirectory, Run]) -> None:
    _, record = climbed
    assert "Ablation" not in render(record.model_copy(update={"ladder": ()}), "md")
