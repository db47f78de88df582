"""The steps of an ablation, found among what was measured."""

from builders import make_artifact, make_fold, make_row
from foldbench.bench import records
from foldbench.bench.measure.ablation import ablation_of
from foldbench.bench.stages.export import plan_ablation
from foldbench.exporters.export import ExportOptions


def artifact(variant: str, *passes: str, **changes) -> records.Artifact:
    reports = [records.PassReport(name=name, changed=1, detail="done") for name in passes]
    notes = records.PassReport(name="strip_metadata", changed=0, detail="no notes found")
    return make_artifact(variant, passes=(notes, *reports), **changes)


def steps_of(*made: records.Artifact) -> list[tuple[str, str]]:
    rows = [make_row("ort", a.variant) for a in reversed(made)]
    return [(step.contender, step.what) for step in ablation_of(rows, made)]


def test_the_steps_of_a_given_file_begin_with_the_file_itself() -> None:
    assert steps_of(
        artifact("given"),
        artifact("given+fold_batchnorm", "fold_batchnorm", ladder_step=1),
        artifact("optimized", "fold_batchnorm", "mish"),
    ) == [
        ("ort/given/cpu", "the file as it was given"),
        ("ort/given+fold_batchnorm/cpu", "+ pass fold_batchnorm"),
        ("ort/optimized/cpu", "+ pass mish"),
    ]


def test_a_file_that_keeps_its_batchnorm_or_is_for_another_target_is_no_step() -> None:
    assert steps_of(
        artifact("plain", ladder_step=0),
        artifact("bare", ladder_step=1),
        artifact("folded", "mish"),
        artifact("unfolded", "mish"),
        artifact("folded.openvino", target="openvino"),
    ) == [
        ("ort/plain/cpu", "torch.onnx.export by itself"),
        ("ort/bare/cpu", "folded, then exported"),
        ("ort/folded/cpu", "+ pass mish"),
    ]


def test_folding_more_than_batchnorm_is_a_step_of_its_own() -> None:
    branches = records.LinearFold(kind="branches", layer="conv", taken="conv2")
    fold = make_fold("folded", others=(branches,))
    assert steps_of(
        artifact("plain", ladder_step=0),
        artifact("batchnorm", ladder_step=1),
        artifact("bare", ladder_step=2, fold=fold),
        artifact("folded", "mish", fold=fold),
    ) == [
        ("ort/plain/cpu", "torch.onnx.export by itself"),
        ("ort/batchnorm/cpu", "BatchNorm and scales folded, then exported"),
        ("ort/bare/cpu", "+ everything linear folded"),
        ("ort/folded/cpu", "+ pass mish"),
    ]


def test_the_steps_are_planned_from_what_folding_did() -> None:
    branches = records.LinearFold(kind="branches", layer="conv", taken="conv2")
    options = ExportOptions(True, 20, ("strip_metadata", "fold_batchnorm", "mish"))
    simple, rich = (
        plan_ablation(artifact("folded", "mish", fold=make_fold("folded", others=others)), options)
        for others in ((), (branches,))
    )
    assert [(step.name, step.ladder_step) for step in simple] == [("plain", 0), ("bare", 1)]
    assert [(step.name, step.ladder_step, step.batchnorm_alone) for step in rich] == [
        ("plain", 0, False),
        ("batchnorm", 1, True),
        ("bare", 2, False),
    ]
