"""Preprocessing as part of the graph: an image of any size goes in, probabilities come out.

    uint8 (N, H, W, 3), RGB -> resize -> cut -> (pixels - 255 mean) / 255 std -> network -> softmax

Resizing runs on uint8, with the filter, the anti-aliasing and the rounding of Pillow, so hardly a
pixel differs from what the network was evaluated on. A caller only has to decode the image and turn
it upright.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from foldbench.bench.errors import ExportError
from foldbench.bench.records import Preprocessing, Resize

INPUT, OUTPUT = "image", "probabilities"
_PREFIX = "preprocessing/"
_CENTRED = f"{_PREFIX}centred"
_MODES: dict[str, dict[str, Any]] = {
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5},  # the coefficient that Pillow has
}


def add_preprocessing(
    model: onnx.ModelProto, preprocessing: Preprocessing, softmax: bool = True
) -> onnx.ModelProto:
    """Return `model` with `preprocessing` before it and softmax behind it.

    `model` takes (N, C, H, W) float32, C 3 or 1 (grey), and gives logits (N, classes) float32, or,
    where `softmax` is false, probabilities; it is not changed. All images of a batch have one size.
    Raises ExportError for an interpolation that ONNX has not, and for other numbers of channels.
    """
    if preprocessing.input_shape[0] not in (1, 3):
        raise ExportError(
            f"the network takes {preprocessing.input_shape[0]} channels, and an image has 3 or 1: "
            "export without --with-preprocess"
        )
    if preprocessing.resize.interpolation not in _MODES:
        raise ExportError(
            f"ONNX has no {preprocessing.resize.interpolation} interpolation: "
            f"allowed: {', '.join(_MODES)}: export without --with-preprocess"
        )
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    (source,), (logits,) = graph.input, graph.output
    builder = _Builder()
    pixels = builder.add("Transpose", [INPUT], perm=[0, 3, 1, 2])
    channels, *size = preprocessing.input_shape
    if channels == 1:
        pixels = _grey(builder, pixels)
    fitted = _resize(builder, pixels, (size[0], size[1]), preprocessing.resize)
    floats = _normalise(builder, fitted, preprocessing, source.name)
    last = ("Softmax", {"axis": -1}) if softmax else ("Identity", {})
    after = helper.make_node(
        last[0], [logits.name], [OUTPUT], name=f"{_PREFIX}{last[0].lower()}", **last[1]
    )
    nodes = [*builder.nodes, *graph.node, after]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(builder.constants)
    graph.value_info.append(
        helper.make_tensor_value_info(floats, TensorProto.FLOAT, [None, *preprocessing.input_shape])
    )
    batch = source.type.tensor_type.shape.dim[0].dim_param or "batch"
    classes = logits.type.tensor_type.shape.dim[-1].dim_value
    image = [batch, "height", "width", 3]
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, image))
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, classes]))
    result.metadata_props.add(key="foldbench.input", value="uint8 RGB image (N, H, W, 3), upright")
    onnx.checker.check_model(result, full_check=True)
    return result


def applied_before(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return which of mean and std is no part of the weights of a `model` made here."""
    mean = any(_CENTRED in node.output for node in model.graph.node)
    std = any(_CENTRED in node.input and node.op_type == "Div" for node in model.graph.node)
    return (*(("mean",) if mean else ()), *(("std",) if std else ()))


class _Builder:
    """Nodes one after the other, with names that the network's own cannot clash with."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(
        self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any
    ) -> str:
        """Add a node with one output; return the output's name."""
        name = f"{_PREFIX}{kind}_{len(self.nodes)}"
        output = output or name
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def constant(self, value: np.ndarray) -> str:
        name = f"{_PREFIX}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))


def _grey(builder: _Builder, pixels: str) -> str:
    """Return the name of the luma (N, 1, H, W) uint8 of RGB (N, 3, H, W), rounded as by Pillow."""
    weights = builder.constant(np.array([19595, 38470, 7471], np.int32)[:, None, None])
    half, whole = (builder.constant(np.array(n, np.int32)) for n in (2**15, 2**16))
    weighted = builder.add("Mul", [builder.add("Cast", [pixels], to=TensorProto.INT32), weights])
    total = builder.add("ReduceSum", [weighted, builder.integers(1)], keepdims=1)
    rounded = builder.add("Div", [builder.add("Add", [total, half]), whole])
    return builder.add("Cast", [rounded], to=TensorProto.UINT8)


def _resize(builder: _Builder, pixels: str, size: tuple[int, int], resize: Resize) -> str:
    """Return the name of the images (N, C, *size) uint8."""
    wanted = builder.integers(*size)
    if resize.stretch:
        return _scale(builder, pixels, wanted, resize)
    sides = builder.add("Shape", [pixels], start=2)
    shorter = builder.add("ReduceMin", [sides], keepdims=1)
    if resize.shorter_side is None:
        # Half a pixel, where the sides differ by an odd number, cannot be cut off here.
        if size[0] == size[1]:
            part = builder.add("Concat", [shorter, shorter], axis=0)
        else:
            part = _largest_part(builder, sides, size)
        return _scale(builder, _cut_centre(builder, pixels, sides, part), wanted, resize)
    length = builder.integers(resize.shorter_side)
    scaled_sides = builder.add("Div", [builder.add("Mul", [sides, length]), shorter])
    scaled = _scale(builder, pixels, scaled_sides, resize)
    return _cut_centre(builder, scaled, scaled_sides, wanted)


def _largest_part(builder: _Builder, sides: str, size: tuple[int, int]) -> str:
    """Return height and width of the largest part of an image with the proportions of `size`."""
    tall, wide = size
    across = builder.add("Gather", [sides, builder.integers(1, 0)])
    scaled = builder.add("Mul", [across, builder.integers(tall, wide)])
    return builder.add("Min", [sides, builder.add("Div", [scaled, builder.integers(wide, tall)])])


def _scale(builder: _Builder, pixels: str, sides: str, resize: Resize) -> str:
    before = builder.add("Shape", [pixels], start=0, end=2)
    sizes = builder.add("Concat", [before, sides], axis=0)
    return builder.add(
        "Resize",
        [pixels, "", "", sizes],
        antialias=1,
        coordinate_transformation_mode="half_pixel",
        exclude_outside=1,
        **_MODES[resize.interpolation],
    )


def _cut_centre(builder: _Builder, pixels: str, sides: str, wanted: str) -> str:
    """Cut `wanted` (height, width) out of the centre; half a pixel is rounded to the even one."""
    two = builder.integers(2)
    spare = builder.add("Sub", [sides, wanted])
    half = builder.add("Div", [spare, two])
    odd = builder.add("Mul", [builder.add("Mod", [spare, two]), builder.add("Mod", [half, two])])
    start = builder.add("Add", [half, odd])
    end = builder.add("Add", [start, wanted])
    return builder.add("Slice", [pixels, start, end, builder.integers(2, 3)])


def _normalise(builder: _Builder, fitted: str, preprocessing: Preprocessing, output: str) -> str:
    """Write (pixels - 255 mean) / 255 std: the scale is last, as a first layer can take it in.

    Returns the name of the pixels as floats.
    """
    mean, std = (
        (255 * np.array(values, np.float64)[:, None, None]).astype(np.float32)
        for values in (preprocessing.mean, preprocessing.std)
    )
    floats = builder.add("Cast", [fitted], to=TensorProto.FLOAT)
    centred = builder.add("Sub", [floats, builder.constant(mean)], _CENTRED)
    builder.add("Div", [centred, builder.constant(std)], output)
    return floats
