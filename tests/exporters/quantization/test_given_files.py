"""A given .onnx file in lower precision: old opsets, weights in nodes, one batch size."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import classifier
from onnx import TensorProto, helper, numpy_helper

from builders import make_checkpoint
from foldbench.bench.errors import ExportError
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Artifact
from foldbench.exporters.export import ExportOptions, given_options
from foldbench.exporters.onnx_adopt import adopt_onnx
from foldbench.exporters.onnx_export import export_onnx_subject, run_model
from foldbench.exporters.quantization.calibration import CalibrationSet, LabelledImages
from foldbench.exporters.quantization.quantize import QuantizeOptions, Quantizer

PIXELS = np.random.default_rng(0).integers(0, 256, (150, 3, 8, 8)).astype(np.uint8)
OPTIONS = ExportOptions(True, 20, ("strip_metadata", "fold_batchnorm"), given=True)


def scaled(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / 127.5 - 1


def weights_in_nodes() -> onnx.ModelProto:
    model = classifier()
    for tensor in list(model.graph.initializer):
        node = helper.make_node("Constant", [], [tensor.name], value=tensor)
        model.graph.node.insert(0, node)
    del model.graph.initializer[:]
    return model


def fixed_to_four() -> onnx.ModelProto:
    model = classifier(batch=4, names=("x", "y"))
    model.graph.node.append(helper.make_node("Add", ["y", "offsets"], ["z"]))
    offsets = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    model.graph.initializer.append(numpy_helper.from_array(offsets, "offsets"))
    model.graph.output[0].name = "z"
    return model


def prepare(folder: Path, model: onnx.ModelProto, options=OPTIONS) -> tuple[Artifact, Quantizer]:
    onnx.save(model, folder / "theirs.onnx")
    adopted = adopt_onnx(folder / "theirs.onnx", folder, name="model")
    checkpoint = make_checkpoint(sha256=adopted.sha256)
    images = scaled(PIXELS)
    artifact = export_onnx_subject(adopted.path, checkpoint, folder, images[:8], options)
    logits = run_model(onnx.load(adopted.path), images, artifact.fixed_batch)
    labels = logits.argmax(1)
    material = CalibrationSet(
        calibration=LabelledImages(PIXELS[:50], labels[:50], scaled),
        validation=LabelledImages(PIXELS[50:], labels[50:], scaled),
        untrained=0,
    )
    return artifact, Quantizer(folder, "model", material, 1, NullListener())


@pytest.mark.parametrize(
    ("make", "batch"),
    [
        (lambda: classifier(opset=9), None),
        (lambda: classifier(initializers_as_inputs=True, ir_version=3, opset=7), None),
        (weights_in_nodes, None),
        (fixed_to_four, 4),
        (lambda: classifier(head="pixels", softmax=True), None),
    ],
    ids=["opset 9", "opset 7", "weights in nodes", "fixed batch", "pixels"],
)
def test_given_files_are_made_int8_and_float16(tmp_path: Path, make, batch: int | None) -> None:
    source, quantizer = prepare(tmp_path, make())
    assert source.parity.passed
    int8 = quantizer.to_int8(source, QuantizeOptions("int8", 50.0))
    assert int8.fixed_batch == batch
    assert int8.quantization is not None
    assert int8.quantization.within_budget
    assert [node.quantized for node in int8.quantization.nodes] == [True, True]
    assert int8.quantization.closeness.images == 100
    assert int8.quantization.closeness.top1_equal >= 75
    operators = {node.op_type for node in onnx.load(tmp_path / int8.path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    half = quantizer.to_float16(source, QuantizeOptions("float16", 50.0))
    assert half.quantization is not None
    assert half.quantization.closeness.top1_equal >= 95
    run_model(onnx.load(tmp_path / half.path), scaled(PIXELS), batch)


def test_a_file_in_lower_precision_already_is_refused(tmp_path: Path) -> None:
    source, quantizer = prepare(tmp_path, classifier(dtype=TensorProto.FLOAT16))
    assert source.precision == "float16"
    for lower in (quantizer.to_int8, quantizer.to_float16):
        with pytest.raises(ExportError, match="is in float16 already"):
            lower(source, QuantizeOptions("int8", 50.0))


def test_an_int8_file_can_be_given(tmp_path: Path) -> None:
    source, quantizer = prepare(tmp_path, classifier())
    int8 = quantizer.to_int8(source, QuantizeOptions("int8", 50.0))
    folder = tmp_path / "second"
    folder.mkdir()
    model = onnx.load(tmp_path / int8.path)
    for how in (OPTIONS, given_options(OPTIONS)):
        artifact, _ = prepare(folder, model, how)
        assert artifact.precision == "int8"
        assert artifact.parity.passed, artifact.parity.reason
        assert artifact.parity.is_exact
