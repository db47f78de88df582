"""An .onnx file of any form becomes one that takes images and gives logits."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import classifier, stuck
from onnx import TensorProto, helper

from foldbench.bench.errors import ExportError
from foldbench.bench.host_files.marks import FIXED_BATCH
from foldbench.bench.store.files import file_sha256
from foldbench.exporters.onnx_adopt import adopt_onnx
from foldbench.exporters.onnx_file import newest_ir_version
from foldbench.exporters.onnx_store import is_slim

RANDOM = np.random.default_rng(3).standard_normal((3, 3, 8, 8)).astype(np.float32)


def answers(path: Path, x: np.ndarray, output: str | None = None) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = output or session.get_outputs()[0].name
    return np.asarray(session.run([wanted], {session.get_inputs()[0].name: x})[0])


def adopt(folder: Path, model: onnx.ModelProto, **options):
    onnx.save(model, folder / "given.onnx")
    return adopt_onnx(folder / "given.onnx", folder / "run", name="net", **options)


@pytest.mark.parametrize(
    "change",
    [
        *({"opset": opset, "ir_version": 3 if opset < 9 else 8} for opset in range(7, 25)),
        {"batch": "unk__614"},
        {"batch": None},
        {"batch": "batch", "names": ("input", "logits")},
        {"names": ("logits", "input")},
        {"names": ("data", "input")},
        {"softmax": True},
        {"head": "computed", "batch": "n"},
        {"ir_version": 3, "opset": 8, "initializers_as_inputs": True},
    ],
    ids=str,
)
def test_a_file_with_an_open_batch_keeps_its_answers(tmp_path: Path, change: dict) -> None:
    model = classifier(**change)
    if change.get("opset", 20) < 13 and change.get("ir_version") == 3:
        given = classifier(**{**change, "initializers_as_inputs": True})
        model = given
    adopted = adopt(tmp_path, model)
    assert adopted.fixed_batch is None
    assert (adopted.input_shape, adopted.classes) == ((3, 8, 8), 5)
    assert adopted.notes == ()
    written = onnx.load(adopted.path)
    assert [value.name for value in written.graph.input] == ["input"]
    assert [value.name for value in written.graph.output] == ["logits"]
    onnx.checker.check_model(written, full_check=True)
    before = answers(tmp_path / "given.onnx", RANDOM)
    np.testing.assert_array_equal(answers(adopted.path, RANDOM), before)
    assert adopted.given == {"given.onnx": file_sha256(tmp_path / "given.onnx")}
    assert adopted.sha256 == file_sha256(adopted.path)


def test_nodes_stay_as_they_are_and_values_with_our_names_make_way(tmp_path: Path) -> None:
    model = classifier(names=("x", "scores"))
    for node in model.graph.node:  # an inner value has the name that the output will have
        node.input[:] = ["logits" if name == "r" else name for name in node.input]
        node.output[:] = ["logits" if name == "r" else name for name in node.output]
    adopted = adopt(tmp_path, model)
    written = onnx.load(adopted.path)
    assert [n.op_type for n in written.graph.node] == [n.op_type for n in model.graph.node]
    assert [n.name for n in written.graph.node] == [n.name for n in model.graph.node]
    before = answers(tmp_path / "given.onnx", RANDOM)
    np.testing.assert_array_equal(answers(adopted.path, RANDOM), before)


@pytest.mark.parametrize(
    ("batch", "head"),
    [(1, "flatten"), (2, "flatten"), (1, "reshape"), (2, "reshape"), (4, "computed")],
)
def test_a_fixed_batch_is_opened_where_the_answers_stay(tmp_path, batch, head) -> None:
    adopted = adopt(tmp_path, classifier(batch=batch, head=head))
    assert (adopted.fixed_batch, adopted.batch_reason) == (None, None)
    (note,) = adopted.notes
    assert f"fixed to {batch}" in note
    assert ("Reshape" in note) == (head == "reshape")
    x = np.concatenate([RANDOM] * 4)[: 2 * batch]
    given = [answers(tmp_path / "given.onnx", part) for part in np.split(x, 2)]
    np.testing.assert_allclose(answers(adopted.path, x), np.concatenate(given), atol=1e-5)


def test_a_batch_that_cannot_be_opened_stays_and_the_reason_is_told(tmp_path: Path) -> None:
    adopted = adopt(tmp_path, stuck(2), output="z")
    assert adopted.fixed_batch == 2
    assert adopted.batch_reason
    assert "at batch" in adopted.batch_reason
    written = onnx.load(adopted.path)
    assert {p.key: p.value for p in written.metadata_props}[FIXED_BATCH] == "2"
    assert written.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    before = answers(tmp_path / "given.onnx", RANDOM[:2], "z")
    np.testing.assert_array_equal(answers(adopted.path, RANDOM[:2]), before)


def test_a_batch_that_is_open_in_name_alone_is_found_out(tmp_path: Path) -> None:
    adopted = adopt(tmp_path, classifier(batch="n", head="reshape", names=("x", "y")))
    assert adopted.fixed_batch is None, "the shape that was baked in is opened"
    model = classifier(batch="n", more=[helper.make_node("Softmax", ["scores"], ["q"], axis=0)])
    model.graph.output[0].name = "q"
    adopted = adopt(tmp_path, model)
    assert adopted.fixed_batch == 1
    assert "its answers are others" in str(adopted.batch_reason)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"dtype": TensorProto.FLOAT16}, "its input is float16: a Cast in front"),
        ({"head": "pixels"}, "a Flatten behind gives"),
    ],
)
def test_other_forms_get_a_node_in_front_or_behind(tmp_path: Path, change, note) -> None:
    adopted = adopt(tmp_path, classifier(**change))
    assert any(note in told for told in adopted.notes)
    kind = helper.tensor_dtype_to_np_dtype(change.get("dtype", TensorProto.FLOAT))
    found = answers(adopted.path, RANDOM)
    assert (found.shape, found.dtype) == ((3, 5), np.float32)
    given = answers(tmp_path / "given.onnx", RANDOM.astype(kind)).reshape(3, 5)
    np.testing.assert_allclose(found, given.astype(np.float32), atol=1e-2)


def test_channels_that_come_last_are_turned(tmp_path: Path) -> None:
    model = classifier(names=("x", "scores"))
    model.graph.node.insert(0, helper.make_node("Transpose", ["nhwc"], ["x"], perm=[0, 3, 1, 2]))
    del model.graph.input[:]
    image = helper.make_tensor_value_info("nhwc", TensorProto.FLOAT, ["n", 8, 8, 3])
    model.graph.input.append(image)
    adopted = adopt(tmp_path, model)
    assert adopted.input_shape == (3, 8, 8)
    given = answers(tmp_path / "given.onnx", RANDOM.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(answers(adopted.path, RANDOM), given, atol=1e-6)


def test_one_of_several_outputs_is_kept_and_the_others_are_named(tmp_path: Path) -> None:
    more = [helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1)]
    second = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 5])
    adopted = adopt(tmp_path, classifier(more=more, outputs=[second]), output="probabilities")
    assert [v.name for v in onnx.load(adopted.path).graph.output] == ["logits"]
    assert adopted.facts.ends_in_softmax
    assert any("not used: scores" in note for note in adopted.notes)
    before = answers(tmp_path / "given.onnx", RANDOM, "probabilities")
    np.testing.assert_array_equal(answers(adopted.path, RANDOM), before)


def test_an_open_image_size_has_to_be_given_and_has_to_fit(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--input CxHxW"):
        adopt(tmp_path, classifier(size="side"))
    assert not (tmp_path / "run").exists()
    adopted = adopt(tmp_path, classifier(size="side"), input_shape=(3, 12, 16))
    assert adopted.input_shape == (3, 12, 16)
    dims = onnx.load(adopted.path).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 3, "height", "width"]
    with pytest.raises(ExportError, match="3x12x12"):
        adopt(tmp_path, classifier(), input_shape=(3, 12, 12))


def test_a_newer_file_format_is_written_as_one_that_the_runtime_opens(tmp_path: Path) -> None:
    newest = newest_ir_version()
    model = classifier(ir_version=newest + 1)
    with pytest.raises(Exception, match="(?i)unsupported model ir"):
        onnxruntime.InferenceSession(model.SerializeToString())
    adopted = adopt(tmp_path, model)
    assert onnx.load(adopted.path).ir_version == newest
    assert f"IR version {newest + 1} written as {newest}" in adopted.notes[0]


def test_a_network_that_the_runtime_cannot_run_is_refused_in_one_line(tmp_path: Path) -> None:
    model = classifier(more=[helper.make_node("Magic", ["scores"], ["z"], domain="my.own")])
    model.graph.output[0].name = "z"
    model.opset_import.append(helper.make_opsetid("my.own", 1))
    with pytest.raises(ExportError, match="onnxruntime cannot run it") as error:
        adopt(tmp_path, model)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def with_function() -> onnx.ModelProto:
    model = classifier(names=("x", "y"))
    opsets = [helper.make_opsetid("", 20)]
    body = [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["b"])]
    model.functions.append(helper.make_function("mine", "Swish", ["a"], ["b"], body, opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.graph.node.append(helper.make_node("Swish", ["y"], ["z"], domain="mine"))
    model.graph.output[0].name = "z"
    return model


def test_functions_in_the_file_are_kept(tmp_path: Path) -> None:
    adopted = adopt(tmp_path, with_function())
    assert adopted.facts.functions == 1
    before = answers(tmp_path / "given.onnx", RANDOM)
    np.testing.assert_array_equal(answers(adopted.path, RANDOM), before)


def test_weights_beside_the_file_come_along(tmp_path: Path, monkeypatch) -> None:
    model = classifier(batch=1, head="reshape")
    onnx.save(model, tmp_path / "whole.onnx")
    before = answers(tmp_path / "whole.onnx", RANDOM[:1])
    onnx.save(
        model,
        tmp_path / "given.onnx",
        save_as_external_data=True,
        location="given.bin",
        size_threshold=0,
    )
    adopted = adopt_onnx(tmp_path / "given.onnx", tmp_path / "run", name="net")
    assert adopted.files == (adopted.path,), "small weights fit into the file"
    assert list(adopted.given) == ["given.onnx", "given.bin"]
    monkeypatch.setattr("foldbench.exporters.onnx_store.IN_ONE_FILE_BYTES", 100)
    monkeypatch.setattr("foldbench.exporters.onnx_store._SMALLEST_EXTERNAL", 64)
    large = adopt_onnx(tmp_path / "given.onnx", tmp_path / "large", name="net")
    assert len(large.files) == 2
    assert large.fixed_batch is None
    for found in (adopted, large):
        np.testing.assert_array_equal(answers(found.path, RANDOM[:1]), before)
        assert answers(found.path, RANDOM).shape == (3, 5)
    assert is_slim(onnx.load(large.path, load_external_data=False))
