"""Small networks as ONNX graphs, in the forms in which other people's files come.

Imported as ``graphs``, like ``builders``.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE, CHANNELS, CLASSES = 8, 4, 5


def classifier(
    *,
    batch: int | str | None = "batch",
    size: int | str = SIZE,
    names: tuple[str, str] = ("images", "scores"),
    opset: int = 20,
    ir_version: int = 8,
    dtype: int = TensorProto.FLOAT,
    head: str = "flatten",
    more: Sequence[onnx.NodeProto] = (),
    outputs: Sequence[onnx.ValueInfoProto] = (),
    softmax: bool = False,
    initializers_as_inputs: bool = False,
) -> onnx.ModelProto:
    """Convolution, BatchNormalization, Relu, mean over the image and a linear layer.

    `head` says how (N, 4, 1, 1) becomes (N, 4): flatten, reshape (to the batch size, baked in),
    computed (from the shape of the input) or pixels (the linear layer is a convolution, which
    gives (N, 5, 1, 1)).
    """
    image, scores = names
    random = np.random.default_rng(7)
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    rows = batch if isinstance(batch, int) else 1
    weights = {
        "w": random.standard_normal((CHANNELS, 3, 3, 3)),
        "scale": random.uniform(0.5, 2, CHANNELS),
        "shift": random.standard_normal(CHANNELS),
        "mean": random.standard_normal(CHANNELS),
        "variance": random.uniform(0.5, 2, CHANNELS),
        "fc": random.standard_normal((CHANNELS, CLASSES)),
        "bias": random.standard_normal(CLASSES),
    }
    stored = {name: array.astype(kind) for name, array in weights.items()}
    last = "before_softmax" if softmax else scores
    nodes = [
        helper.make_node("Conv", [image, "w"], ["c"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node(
            "BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"], name="bn"
        ),
        helper.make_node("Relu", ["n"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
    ]
    if head == "pixels":
        stored["fc"] = np.ascontiguousarray(stored["fc"].T).reshape(CLASSES, CHANNELS, 1, 1)
        nodes.append(helper.make_node("Conv", ["p", "fc", "bias"], [last], name="fc"))
    else:
        if head == "flatten":
            nodes.append(helper.make_node("Flatten", ["p"], ["f"], name="flatten"))
        elif head == "reshape":
            stored["target"] = np.array([rows, CHANNELS], np.int64)
            nodes.append(helper.make_node("Reshape", ["p", "target"], ["f"], name="reshape"))
        else:
            stored |= {"first": np.array(0, np.int64), "rest": np.array([-1], np.int64)}
            stored["axes"] = np.array([0], np.int64)
            nodes += [
                helper.make_node("Shape", [image], ["s"]),
                helper.make_node("Gather", ["s", "first"], ["n0"], axis=0),
                helper.make_node("Unsqueeze", ["n0", "axes"], ["n1"]),
                helper.make_node("Concat", ["n1", "rest"], ["target"], axis=0),
                helper.make_node("Reshape", ["p", "target"], ["f"], name="reshape"),
            ]
        nodes.append(helper.make_node("Gemm", ["f", "fc", "bias"], [last], name="fc"))
    if softmax:
        nodes.append(helper.make_node("Softmax", [last], [scores], axis=1, name="softmax"))
    ends = [CLASSES, 1, 1] if head == "pixels" else [CLASSES]
    inputs = [helper.make_tensor_value_info(image, dtype, [batch, 3, size, size])]
    constants = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    if initializers_as_inputs:
        inputs += [helper.make_tensor_value_info(c.name, c.data_type, c.dims) for c in constants]
    graph = helper.make_graph(
        [*nodes, *more],
        "classifier",
        inputs,
        [helper.make_tensor_value_info(scores, dtype, [batch, *ends]), *outputs],
        constants,
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir_version,
        producer_name="somebody",
    )


def stuck(batch: int | str, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A network that adds something for each image of a batch of two."""
    offsets = np.arange(10).reshape(2, 5).astype(helper.tensor_dtype_to_np_dtype(dtype))
    model = classifier(
        batch=batch,
        dtype=dtype,
        names=("x", "y"),
        more=[helper.make_node("Add", ["y", "offsets"], ["z"])],
        outputs=[helper.make_tensor_value_info("z", dtype, [batch, 5])],
    )
    model.graph.initializer.append(numpy_helper.from_array(offsets, "offsets"))
    return model
