"""Passes over a given .onnx file: held against it, recorded, and the file itself recorded too."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import classifier
from onnx import TensorProto, helper, numpy_helper

from builders import make_checkpoint, needs_c_compiler
from foldbench.bench.errors import ConfigError, ExportError
from foldbench.bench.records import Artifact
from foldbench.exporters.export import ExportOptions, given_options
from foldbench.exporters.onnx_adopt import adopt_onnx
from foldbench.exporters.onnx_export import export_onnx_subject
from foldbench.exporters.onnx_optimize import optimize_onnx
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.rewriting import choose_passes

IMAGES = np.random.default_rng(4).standard_normal((7, 3, 8, 8)).astype(np.float32)


def with_mish(**change) -> onnx.ModelProto:
    """The classifier with Mish in place of Relu, as PyTorch's exporter writes it."""
    model = classifier(**change)
    place = next(n for n, node in enumerate(model.graph.node) if node.op_type == "Relu")
    del model.graph.node[place]
    for number, node in enumerate(
        [
            helper.make_node("Softplus", ["n"], ["soft"], name="softplus"),
            helper.make_node("Tanh", ["soft"], ["t"], name="tanh"),
            helper.make_node("Mul", ["n", "t"], ["r"], name="mul"),
        ]
    ):
        model.graph.node.insert(place + number, node)
    return model


def options(target: str = "cpu", *, fold_bn: bool = True, **change) -> ExportOptions:
    passes = choose_passes(["default"], target, fold_bn)
    return ExportOptions(fold_bn, 20, passes, target, given=True, **change)


def export(folder: Path, model: onnx.ModelProto, how: ExportOptions, **adopting) -> Artifact:
    onnx.save(model, folder / "theirs.onnx")
    run = folder / "run"
    adopted = adopt_onnx(folder / "theirs.onnx", run, name="model", **adopting)
    checkpoint = make_checkpoint(sha256=adopted.sha256, weights=adopted.path.name)
    artifact = export_onnx_subject(adopted.path, checkpoint, run, IMAGES, how)
    assert artifact.checkpoint_sha256 == adopted.sha256
    return artifact


def answers(path: Path, x: np.ndarray) -> np.ndarray:
    session = open_session(path)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def test_passes_are_applied_and_the_answers_stay(tmp_path: Path) -> None:
    artifact = export(tmp_path, with_mish(), options())
    assert artifact.variant == "optimized"
    assert artifact.parity.passed
    assert artifact.parity.reference == "onnx_float64"
    assert [p.name for p in artifact.passes if p.changed] == ["fold_batchnorm", "mish"]
    assert artifact.folded_by == ("foldbench",)
    assert (artifact.fold.batchnorms_before, artifact.fold.batchnorms_after) == (1, 0)
    assert [(f.layer, f.batchnorm) for f in artifact.fold.folded] == [("conv", "bn")]
    assert artifact.fold.agreement is not None
    assert artifact.fold.agreement.images == artifact.fold.agreement.top1_equal == len(IMAGES)
    assert artifact.exporter == "somebody (given)"
    written = onnx.load(tmp_path / "run" / artifact.path)
    onnx.checker.check_model(written, full_check=True)
    assert "BatchNormalization" not in [node.op_type for node in written.graph.node]
    facts = {p.key: p.value for p in written.metadata_props}
    assert facts["foldbench.checkpoint_sha256"] == artifact.checkpoint_sha256
    np.testing.assert_allclose(
        answers(tmp_path / "run" / artifact.path, IMAGES),
        answers(tmp_path / "theirs.onnx", IMAGES),
        atol=1e-5,
    )


def test_the_file_as_it_was_given_is_an_artifact_itself(tmp_path: Path) -> None:
    artifact = export(tmp_path, with_mish(), given_options(options()))
    assert (artifact.variant, artifact.path) == ("given", "model.onnx")
    assert artifact.sha256 == artifact.checkpoint_sha256
    assert artifact.parity.passed
    assert artifact.passes == ()
    assert (artifact.fold.batchnorms_before, artifact.fold.batchnorms_after) == (1, 1)
    assert (artifact.batchnorm_nodes, artifact.folded_by) == (1, ())
    assert not (tmp_path / "run" / "artifacts").exists()


def test_without_folding_the_batchnorm_stays(tmp_path: Path) -> None:
    artifact = export(tmp_path, with_mish(), options(fold_bn=False))
    assert artifact.variant == "unfolded"
    assert artifact.batchnorm_nodes == 1
    assert [p.name for p in artifact.passes if p.changed] == ["mish"]


def test_a_batchnorm_that_cannot_be_folded_says_why(tmp_path: Path) -> None:
    model = classifier(more=[helper.make_node("Relu", ["c"], ["again"])])
    kept = helper.make_tensor_value_info("again", TensorProto.FLOAT, ["batch", 4, 8, 8])
    model.graph.output.append(kept)
    model.graph.node[-1].output[0] = "again"
    more = helper.make_node("GlobalAveragePool", ["again"], ["pooled"])
    total = [helper.make_node("Flatten", ["pooled"], ["flat"])]
    del model.graph.output[:]
    model.graph.node.extend([more, *total, helper.make_node("Gemm", ["flat", "fc"], ["second"])])
    model.graph.node.append(helper.make_node("Add", ["scores", "second"], ["sum"]))
    model.graph.output.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", 5]))
    artifact = export(tmp_path, model, options())
    (skip,) = artifact.fold.skipped
    assert skip.module == "bn"
    assert "used elsewhere" in skip.reason
    assert (artifact.batchnorm_nodes, artifact.folded_by) == (1, ())


@pytest.mark.parametrize(
    ("change", "batch"),
    [
        ({"opset": 9}, None),
        ({"batch": 2}, None),
        ({"initializers_as_inputs": True, "ir_version": 3, "opset": 9}, None),
        ({"dtype": TensorProto.FLOAT16}, None),
        ({"softmax": True}, None),
        ({"head": "pixels"}, None),
        ({"head": "computed"}, None),
    ],
    ids=str,
)
def test_files_of_all_forms_are_folded(tmp_path: Path, change: dict, batch: int | None) -> None:
    artifact = export(tmp_path, classifier(**change), options())
    assert artifact.parity.passed, artifact.parity.reason
    assert artifact.batchnorm_nodes == 0
    assert artifact.fixed_batch == batch
    assert artifact.opset == change.get("opset", 20)


def test_a_fixed_batch_is_recorded_and_kept(tmp_path: Path) -> None:
    model = classifier(batch=2, names=("x", "y"))
    model.graph.node.append(helper.make_node("Add", ["y", "offsets"], ["z"]))
    offsets = np.arange(10, dtype=np.float32).reshape(2, 5)
    model.graph.initializer.append(numpy_helper.from_array(offsets, "offsets"))
    model.graph.output[0].name = "z"
    artifact = export(tmp_path, model, options())
    assert artifact.fixed_batch == 2
    assert artifact.parity.passed
    assert {case.batch_size for case in artifact.parity.cases} == {2}
    assert artifact.fold.agreement is not None
    assert artifact.fold.agreement.images == 7
    facts = {p.key: p.value for p in onnx.load(tmp_path / "run" / artifact.path).metadata_props}
    assert facts["foldbench.fixed_batch"] == "2"


def test_functions_are_written_out_so_that_passes_see_them(tmp_path: Path) -> None:
    model = classifier(names=("x", "y"))
    opsets = [helper.make_opsetid("", 20)]
    body = [
        helper.make_node("Softplus", ["a"], ["s"]),
        helper.make_node("Tanh", ["s"], ["t"]),
        helper.make_node("Mul", ["a", "t"], ["b"]),
    ]
    model.functions.append(helper.make_function("mine", "Act", ["a"], ["b"], body, opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain = "Act", "mine"
    artifact = export(tmp_path, model, options())
    assert artifact.parity.passed
    assert [p.name for p in artifact.passes if p.changed] == ["fold_batchnorm", "mish"]


@needs_c_compiler
def test_a_file_for_this_machine_can_be_made_of_a_given_one(tmp_path: Path) -> None:
    artifact = export(tmp_path, with_mish(), options("host"))
    assert (artifact.variant, artifact.target) == ("optimized.host", "host")
    assert artifact.parity.passed
    assert "fuse_elementwise" in [p.name for p in artifact.passes if p.changed]
    assert artifact.fold.batchnorms_after == 0


def test_steps_of_an_ablation_are_named_and_numbered(tmp_path: Path) -> None:
    shipped = options()
    step = replace(shipped, passes=shipped.passes[:2], name="given+fold_batchnorm", ladder_step=1)
    artifact = export(tmp_path, with_mish(), step)
    assert (artifact.variant, artifact.ladder_step) == ("given+fold_batchnorm", 1)
    assert artifact.path == "artifacts/bn_cnn.given+fold_batchnorm.onnx"


def test_optimizing_keeps_names_and_outputs(tmp_path: Path) -> None:
    features = helper.make_tensor_value_info("r", TensorProto.FLOAT, ["batch", 4, 8, 8])
    onnx.save(with_mish(outputs=[features]), tmp_path / "in.onnx")
    done = optimize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert done.changed == 2
    assert done.fold.batchnorms_after == 0
    assert done.random_images
    assert [name for name, parity in done.parity if parity.passed] == ["scores", "r"]
    session = open_session(done.path)
    assert [value.name for value in session.get_inputs()] == ["images"]
    assert [value.name for value in session.get_outputs()] == ["scores", "r"]
    before = open_session(done.given).run(None, {"images": IMAGES})
    for found, wanted in zip(session.run(None, {"images": IMAGES}), before, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    again = optimize_onnx(done.path, tmp_path / "again.onnx", images=IMAGES)
    assert again.changed == 0
    assert not again.random_images


@pytest.mark.parametrize(
    "change",
    [
        {"initializers_as_inputs": True, "ir_version": 3, "opset": 9},
        {"dtype": TensorProto.FLOAT16},
        {"batch": 2, "head": "reshape"},
        {"head": "pixels"},
    ],
    ids=str,
)
def test_optimizing_keeps_the_form_of_the_file(tmp_path: Path, change: dict) -> None:
    onnx.save(classifier(**change), tmp_path / "in.onnx")
    done = optimize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert done.fold.batchnorms_after == 0
    (before,), (after,) = (open_session(p).get_inputs() for p in (done.given, done.path))
    assert (before.name, before.type, before.shape) == (after.name, after.type, after.shape)


def test_nothing_is_written_where_optimizing_is_refused(tmp_path: Path) -> None:
    onnx.save(classifier(size="side"), tmp_path / "in.onnx")
    with pytest.raises(ExportError, match="--input CxHxW"):
        optimize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx")
    with pytest.raises(ExportError, match=r"in\.onnx"):
        optimize_onnx(tmp_path / "in.onnx", tmp_path / "in.onnx")
    with pytest.raises(ConfigError, match="--target host"):
        optimize_onnx(
            tmp_path / "in.onnx",
            tmp_path / "out.onnx",
            input_shape=(3, 8, 8),
            passes=["nchwc_strip"],
        )
    assert not (tmp_path / "out.onnx").exists()
    done = optimize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", input_shape=(3, 8, 8))
    assert done.path.is_file()
    shutil.copy(done.path, tmp_path / "text.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ExportError, match="no ONNX file"):
        optimize_onnx(tmp_path / "text.onnx", tmp_path / "other.onnx")


def test_a_large_network_is_optimized_with_its_weights_beside_it(tmp_path, monkeypatch) -> None:
    onnx.save(with_mish(), tmp_path / "in.onnx")
    monkeypatch.setattr("foldbench.exporters.onnx_store.IN_ONE_FILE_BYTES", 500)
    monkeypatch.setattr("foldbench.exporters.onnx_store._SMALLEST_EXTERNAL", 64)
    done = optimize_onnx(tmp_path / "in.onnx", tmp_path / "made" / "out.onnx")
    assert len(list((tmp_path / "made").iterdir())) == 2
    assert done.changed == 2
    np.testing.assert_allclose(answers(done.path, IMAGES), answers(done.given, IMAGES), atol=1e-5)


def test_a_large_network_is_exported_without_being_held_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = export(tmp_path, with_mish(), options())
    monkeypatch.setattr("foldbench.exporters.onnx_store.IN_ONE_FILE_BYTES", 700)
    monkeypatch.setattr("foldbench.exporters.onnx_store._SMALLEST_EXTERNAL", 64)
    (tmp_path / "large").mkdir()
    large = export(tmp_path / "large", with_mish(), options())
    assert large.parity.passed
    assert large.parity.reference == "ort_float32", "float64 would need twice the room"
    assert large.fold == small.fold
    assert [p.changed for p in large.passes] == [p.changed for p in small.passes]
    beside = list((tmp_path / "large" / "run" / "artifacts").glob("*.data"))
    assert len(beside) == 1
    assert large.size_bytes > beside[0].stat().st_size > 0
    given = export(tmp_path / "large", with_mish(), given_options(options()))
    assert given.parity.passed
    assert given.size_bytes == sum(
        file.stat().st_size for file in (tmp_path / "large" / "run").glob("model*")
    )
