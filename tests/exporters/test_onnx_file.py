"""What an .onnx file says of itself, and which files are refused, each in one line."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import classifier
from onnx import TensorProto, helper

from foldbench.bench.errors import ExportError
from foldbench.bench.records import Preprocessing
from foldbench.exporters.onnx_file import inspect_onnx, newest_ir_version, newest_opset
from foldbench.exporters.onnx_store import is_slim, opened_onnx, weights_folder, write_onnx

FEATURES = helper.make_tensor_value_info("r", TensorProto.FLOAT, ["batch", 4, 8, 8])


def save(folder: Path, model: onnx.ModelProto, name: str = "net.onnx", **options) -> Path:
    onnx.save(model, folder / name, **options)
    return folder / name


def test_names_shapes_opset_and_weights_are_read(tmp_path: Path) -> None:
    facts = inspect_onnx(save(tmp_path, classifier(outputs=[FEATURES])))
    assert (facts.input.name, facts.input.dtype) == ("images", "float32")
    assert facts.input_shape == (3, 8, 8)
    assert (facts.logits.name, facts.classes) == ("scores", 5)
    assert [value.name for value in facts.outputs] == ["scores", "r"]
    assert (facts.opset, facts.fixed_batch, facts.precision) == (20, None, "float32")
    assert facts.parameter_count == 4 * 3 * 9 + 2 * 4 + 4 * 5 + 5, "no statistics of BatchNorm"
    assert facts.batchnorm_nodes == 1
    assert facts.producer == "somebody"
    assert not facts.ends_in_softmax


@pytest.mark.parametrize(
    ("change", "batch", "softmax", "precision"),
    [
        ({"batch": 2}, 2, False, "float32"),
        ({"batch": None}, None, False, "float32"),
        ({"softmax": True}, None, True, "float32"),
        ({"dtype": TensorProto.FLOAT16}, None, False, "float16"),
        ({"head": "pixels"}, None, False, "float32"),
        ({"initializers_as_inputs": True, "ir_version": 3, "opset": 7}, None, False, "float32"),
    ],
    ids=str,
)
def test_forms_of_files_are_told_apart(tmp_path, change, batch, softmax, precision) -> None:
    facts = inspect_onnx(save(tmp_path, classifier(**change)))
    assert (facts.fixed_batch, facts.ends_in_softmax, facts.precision) == (
        batch,
        softmax,
        precision,
    )
    assert facts.classes == 5


def test_an_open_image_size_is_none(tmp_path: Path) -> None:
    facts = inspect_onnx(save(tmp_path, classifier(size="side")))
    assert facts.input_shape == (3, None, None)


def test_channels_that_come_last_are_seen(tmp_path: Path) -> None:
    model = classifier(names=("x", "scores"))
    model.graph.node.insert(0, helper.make_node("Transpose", ["nhwc"], ["x"], perm=[0, 3, 1, 2]))
    del model.graph.input[:]
    image = helper.make_tensor_value_info("nhwc", TensorProto.FLOAT, ["n", 8, 8, 3])
    model.graph.input.append(image)
    facts = inspect_onnx(save(tmp_path, model))
    assert facts.channels_last
    assert facts.input_shape == (3, 8, 8)


def test_what_foldbench_wrote_into_a_file_is_read(tmp_path: Path) -> None:
    model = classifier()
    wanted = Preprocessing(input_shape=(3, 8, 8), mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 2.0))
    helper.set_model_props(
        model,
        {
            "foldbench.preprocessing": wanted.model_dump_json(),
            "foldbench.classes": json.dumps(["a", "b", "c", "d", "e"]),
        },
    )
    described = inspect_onnx(save(tmp_path, model)).described
    assert described.preprocessing == wanted
    assert described.classes == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("entries", "mean", "std", "classes"),
    [
        (
            {"names": "{0: 'cat', 1: 'dog'}", "task": "classify"},
            (0.0,),
            (1.0,),
            ("cat", "dog"),
        ),
        (
            {"mean": "[0.485, 0.456, 0.406]", "std": "0.229, 0.224, 0.225"},
            (0.485, 0.456, 0.406),
            (0.229, 0.224, 0.225),
            None,
        ),
        ({"mean": "127.5", "std": "127.5"}, (0.5,), (0.5,), None),
        ({"id2label": '{"1": "b", "0": "a"}'}, None, None, ("a", "b")),
        ({"labels": "cat\ndog"}, None, None, ("cat", "dog")),
        ({"Image.NominalPixelRange": "Normalized_1_1"}, (0.5,), (0.5,), None),
        ({"mean": "[0.5", "std": "much", "classes": "__import__('os')"}, None, None, None),
        ({"names": "{0: 'a', 7: 'b'}"}, None, None, None),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_metadata_of_others_is_read_where_it_can_be(tmp_path, entries, mean, std, classes) -> None:
    model = classifier()
    helper.set_model_props(model, entries)
    described = inspect_onnx(save(tmp_path, model)).described
    assert (described.mean, described.std, described.classes) == (mean, std, classes)


def test_of_several_outputs_the_logits_have_to_be_named(tmp_path: Path) -> None:
    more = [helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1)]
    second = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 5])
    path = save(tmp_path, classifier(more=more, outputs=[second, FEATURES]))
    with pytest.raises(ExportError, match=r"2 outputs .*--output scores"):
        inspect_onnx(path)
    assert inspect_onnx(path, "scores").logits.name == "scores"
    assert inspect_onnx(path, "probabilities").ends_in_softmax
    with pytest.raises(ExportError, match="'score'.*'scores'"):
        inspect_onnx(path, "score")
    with pytest.raises(ExportError, match=r"r float32 \(batch, 4, 8, 8\)"):
        inspect_onnx(path, "r")


def test_a_graph_without_logits_lists_its_outputs(tmp_path: Path) -> None:
    model = classifier()
    del model.graph.output[:]
    model.graph.output.append(FEATURES)
    with pytest.raises(ExportError, match="r float32"):
        inspect_onnx(save(tmp_path, model))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "web page"),
        (b"\xff\xd8\xff\xe0 a photo", "no ONNX file"),
        (b"just some text\n", "no ONNX file"),
        (b"\x00\x00\x00\x00ORTM\x00", "onnxruntime's own format"),
    ],
)
def test_another_kind_of_file_is_refused_in_one_line(tmp_path: Path, content, says) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=says) as error:
        inspect_onnx(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_that_is_cut_off_or_missing_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, classifier())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ExportError, match=f"truncated: it has {len(whole) // 2} bytes"):
        inspect_onnx(path)
    with pytest.raises(ExportError, match="does not exist"):
        inspect_onnx(tmp_path / "other.onnx")
    with pytest.raises(ExportError, match="is a folder"):
        inspect_onnx(tmp_path)


def two_inputs() -> onnx.ModelProto:
    model = classifier()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.BOOL, ["batch"]))
    return model


def with_input(dtype: int, shape: list) -> onnx.ModelProto:
    model = classifier()
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("images", dtype, shape))
    return model


def no_graph() -> onnx.ModelProto:
    model = classifier()
    model.ClearField("graph")
    return model


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (no_graph, "no graph"),
        (two_inputs, r"takes 2 inputs \(images .* mask bool"),
        (lambda: with_input(TensorProto.UINT8, ["n", 3, 8, 8]), "without its preprocessing"),
        (lambda: with_input(TensorProto.FLOAT, ["n", 192]), r"gives images \(N, C, H, W\)"),
        (lambda: classifier(opset=6), "in opset 6, and 7 to"),
        (lambda: classifier(opset=newest_opset() + 1), "this onnxruntime takes up to"),
    ],
)
def test_a_network_that_cannot_be_given_images_is_refused(tmp_path: Path, make, says) -> None:
    with pytest.raises(ExportError, match=says):
        inspect_onnx(save(tmp_path, make()))


def test_what_the_runtime_takes_is_asked_of_the_runtime() -> None:
    assert newest_opset() >= 24
    assert newest_ir_version() >= 10


EXTERNAL = {
    "save_as_external_data": True,
    "all_tensors_to_one_file": True,
    "location": "net.weights",
    "size_threshold": 0,
}


def test_weights_beside_the_file_count_and_are_named(tmp_path: Path) -> None:
    path = save(tmp_path, classifier(), **EXTERNAL)
    facts = inspect_onnx(path)
    beside = tmp_path / "net.weights"
    assert facts.external == (beside,)
    assert facts.size_bytes == path.stat().st_size + beside.stat().st_size
    assert facts.parameter_count == 141


@pytest.mark.parametrize("name", ["../net.weights", "/etc/passwd", "a/../../net.weights", "link"])
def test_weights_outside_the_folder_are_never_read(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "net.weights").write_bytes(bytes(4096))
    (folder / "link").symlink_to(tmp_path / "net.weights")
    path = save(folder, classifier(), **EXTERNAL)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = name
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="in the folder"):
        inspect_onnx(path)


def test_weights_that_are_missing_or_short_are_named(tmp_path: Path) -> None:
    path = save(tmp_path, classifier(), **EXTERNAL)
    beside = tmp_path / "net.weights"
    beside.write_bytes(beside.read_bytes()[:100])
    with pytest.raises(ExportError, match=r"net.weights has 100 bytes, .* truncated"):
        inspect_onnx(path)
    beside.unlink()
    with pytest.raises(ExportError, match="net.weights, which is missing"):
        inspect_onnx(path)


def test_a_large_model_is_written_with_its_weights_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foldbench.exporters.onnx_store.IN_ONE_FILE_BYTES", 500)
    monkeypatch.setattr("foldbench.exporters.onnx_store._SMALLEST_EXTERNAL", 40)
    path = save(tmp_path, classifier(), **EXTERNAL)
    written = tmp_path / "there" / "net.onnx"
    with opened_onnx(path) as model:
        assert is_slim(model)
        files = write_onnx(model, written)
    with opened_onnx(written) as model:
        again = write_onnx(model, written)
        other = write_onnx(model, written.with_suffix(".openvino.onnx"))
        write_onnx(model, written)
    assert all(file.is_file() for file in other), "another file's weights are left alone"
    for file in other:
        file.unlink()
    assert weights_folder() is None
    assert files == again, "the same content has the same name"
    assert sorted(written.parent.iterdir()) == sorted(files)
    found, given = onnx.load(written), onnx.load(path)
    for one, other in zip(found.graph.initializer, given.graph.initializer, strict=True):
        first, second = map(onnx.numpy_helper.to_array, (one, other))
        np.testing.assert_array_equal(first, second)
    monkeypatch.undo()
    write_onnx(given, written)
    assert list(written.parent.iterdir()) == [written], "what is stale is gone"
