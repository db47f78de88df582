"""What somebody's .onnx file is: its input, its outputs, its opset, its weights, what it says.

Weights in files beside the model are not read. What foldbench cannot run as a classifier of images
is refused here, with what was found and what to do.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Literal

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from foldbench.bench.errors import ExportError, listed, nearest
from foldbench.exporters.onnx_metadata import Described, end_of_message, read_description
from foldbench.exporters.onnx_store import (
    external_files,
    nodes_of,
    read_onnx,
    tensors_of,
)

LEAST_OPSET = 7
"""From which on operators broadcast as they do now, and onnxruntime promises to run them."""
_STANDARD = ("", "ai.onnx")
_EXCHANGED = ("float32", "float16", "float64")
"""What images and logits may be in: numpy has no bfloat16 to exchange."""
_FLOATS = (*_EXCHANGED, "bfloat16")
_CHANNELS = (1, 3, 4)
_IMAGE_RANK = 4
_SILENT = 4
_QUANTIZED = ("DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")

Precision = Literal["float32", "float16", "int8", "float64"]
_PRECISIONS: dict[str, Precision] = {
    "float32": "float32",
    "float64": "float64",
    "float16": "float16",
    "bfloat16": "float16",
}
Dim = int | str | None
"""A size: fixed, named, or neither."""


@dataclass(frozen=True)
class OnnxValue:
    """An input or an output of a graph."""

    name: str
    dtype: str
    """As numpy calls it, such as ``float32``; ``sequence`` and the like for what is no tensor."""
    shape: tuple[Dim, ...] | None
    """None where not even the number of dimensions is known."""

    def __str__(self) -> str:
        sizes = "?" if self.shape is None else ", ".join(str(d or "?") for d in self.shape)
        return f"{self.name} {self.dtype} ({sizes})"


@dataclass(frozen=True)
class OnnxFacts:
    """What an .onnx file says, and which of its outputs are the logits."""

    path: Path
    size_bytes: int
    """Of the file and of those beside it that hold its weights."""
    external: tuple[Path, ...]
    """Files beside it that hold weights."""
    producer: str
    """What wrote it; empty where it does not say."""
    ir_version: int
    opset: int
    """Of ONNX's own operators."""
    domains: Mapping[str, int]
    """Other sets of operators that it uses, and their versions."""
    input: OnnxValue
    outputs: tuple[OnnxValue, ...]
    logits: OnnxValue
    """The output that was chosen; (N, classes), or (N, classes, 1, 1)."""
    channels_last: bool
    """Whether images go in as (N, H, W, C)."""
    fixed_batch: int | None
    """The only batch size that the input declares; None where that is open."""
    ends_in_softmax: bool
    parameter_count: int
    precision: Precision
    """What most of its weights are in."""
    batchnorm_nodes: int
    functions: int
    described: Described
    """Preprocessing and classes, where its metadata has them."""

    @property
    def input_shape(self) -> tuple[int | None, int | None, int | None]:
        """(C, H, W) of an image; None for what the file leaves open."""
        shape = (self.input.shape or (None,) * _IMAGE_RANK)[1:]
        sizes = [size if isinstance(size, int) else None for size in shape]
        if self.channels_last:
            sizes = [sizes[2], *sizes[:2]]
        return sizes[0], sizes[1], sizes[2]

    @property
    def classes(self) -> int | None:
        """The number of classes; None where the file leaves it open."""
        size = self.logits.shape[1] if self.logits.shape else None
        return size if isinstance(size, int) else None


def inspect_onnx(path: Path, output: str | None = None) -> OnnxFacts:
    """Return what the .onnx file at `path` says; `output` names the logits where it has several.

    Raises ExportError for a file that is none, is cut off, or cannot be run as a classifier.
    """
    refuse_other_files(path)
    model = read_onnx(path)
    if not model.graph.node:
        raise ExportError(f"{path}: the model has no graph (no operators): export it again")
    opset = _opset(path, model)
    inputs = _inputs(model)
    if len(inputs) != 1:
        has = f"takes {len(inputs)} inputs ({listed(map(str, inputs))})" if inputs else "takes none"
        raise ExportError(
            f"{path}: the network {has}, and foldbench gives it one: images (N, C, H, W): export "
            "it with the others as constants"
        )
    image, channels_last = _check_input(path, inputs[0])
    outputs = tuple(map(_value, _inferred(model).graph.output))
    logits = _choose(path, outputs, output)
    external = external_files(model, path)
    batch = image.shape[0] if image.shape else None
    return OnnxFacts(
        path=path,
        size_bytes=sum(file.stat().st_size for file in (path, *external)),
        external=external,
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        ir_version=model.ir_version,
        opset=opset,
        domains={o.domain: o.version for o in model.opset_import if o.domain not in _STANDARD},
        input=image,
        outputs=outputs,
        logits=logits,
        channels_last=channels_last,
        fixed_batch=batch if isinstance(batch, int) else None,
        ends_in_softmax=_ends_in_softmax(model, logits.name),
        parameter_count=_count_parameters(model),
        precision=read_precision(model),
        batchnorm_nodes=count_nodes(model, "BatchNormalization"),
        functions=len(model.functions),
        described=read_description(path, {p.key: p.value for p in model.metadata_props}),
    )


def count_nodes(model: ModelProto, *op_types: str) -> int:
    """Return how many nodes of the model, its inner graphs and functions are of `op_types`."""
    found = Counter(node.op_type for node in nodes_of(model) if node.domain in _STANDARD)
    return sum(found[op_type] for op_type in op_types)


_OTHER_FILES = (
    (b"PK\x03\x04", "a zip archive (what torch.save writes, say): give the .onnx file"),
    (b"version https://git-lfs", "a pointer of Git LFS: git lfs pull brings the file itself"),
    (b"<", "a web page or XML: download the file itself"),
    (b"{", "a JSON file: give the .onnx file"),
)


def refuse_other_files(path: Path) -> None:
    """Raise ExportError unless `path` is a file whose protobuf fields are all there."""
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise ExportError(f"{path} {what}: give an .onnx file")
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(64)
    if not head:
        raise ExportError(f"{path} is empty (0 bytes): copy or export it again")
    for magic, what in _OTHER_FILES:
        if head.startswith(magic):
            raise ExportError(f"{path} is no ONNX file but {what}")
    if head[4:8] == b"ORTM":
        raise ExportError(f"{path} is in onnxruntime's own format (.ort): give the .onnx file")
    if size >= 2**31:
        raise ExportError(
            f"{path} has {size} bytes, and protobuf ends at 2 GiB: save the weights in a file "
            "beside it (onnx.save with save_as_external_data=True)"
        )
    _refuse_truncated(path, size)


def _refuse_truncated(path: Path, size: int) -> None:
    """Raise ExportError where a field at the top ends after the file does."""
    with path.open("rb") as stream:
        end = end_of_message(stream)
    if end is not None and end > size:
        raise ExportError(
            f"{path} is truncated: it has {size} bytes, and its contents end at {end}: "
            "copy or download it again"
        )


def _opset(path: Path, model: ModelProto) -> int:
    """Return the version of ONNX's own operators; ExportError unless onnxruntime takes it."""
    opset = max((o.version for o in model.opset_import if o.domain in _STANDARD), default=0)
    newest = newest_opset()
    if opset < LEAST_OPSET:
        raise ExportError(
            f"{path}: it is in opset {opset or 'unknown'}, and {LEAST_OPSET} to {newest} can be "
            "run: convert it (onnx.version_converter.convert_version)"
        )
    if opset > newest:
        raise ExportError(
            f"{path}: it is in opset {opset}, and this onnxruntime takes up to {newest}: "
            f"export it with opset {newest} or older, or install a newer onnxruntime"
        )
    return opset


@cache
def newest_opset() -> int:
    """Return the newest version of ONNX's own operators that onnxruntime opens."""
    known = range(onnx.defs.onnx_opset_version(), LEAST_OPSET, -1)
    return next((opset for opset in known if _opens(opset, ir_version=8)), LEAST_OPSET)


@cache
def newest_ir_version() -> int:
    """Return the newest version of the file format that onnxruntime opens."""
    known = range(int(onnx.IR_VERSION), 3, -1)
    return next((version for version in known if _opens(LEAST_OPSET, version)), 3)


def _opens(opset: int, ir_version: int) -> bool:
    """Return whether onnxruntime opens a network of one operator in these versions."""
    import onnxruntime

    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "", sides[:1], sides[1:])
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _SILENT
    try:
        onnxruntime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
    except Exception:  # onnxruntime raises kinds of its own, and says no
        return False
    return True


def _inputs(model: ModelProto) -> list[OnnxValue]:
    """Return the inputs that have to be given: without those that initializers give a value."""
    given = {tensor.name for tensor in model.graph.initializer}
    given |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    return [_value(value) for value in model.graph.input if value.name not in given]


def _value(info: ValueInfoProto) -> OnnxValue:
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        return OnnxValue(info.name, (kind or "unknown").removesuffix("_type"), None)
    tensor = info.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(_dim(dim) for dim in tensor.shape.dim)
    return OnnxValue(info.name, dtype_name(tensor.elem_type), shape)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return int(dim.dim_value)
    return dim.dim_param or None


def dtype_name(elem_type: int) -> str:
    """Return what numpy calls a type of ONNX; ``unknown`` for one that it does not know."""
    try:
        return helper.tensor_dtype_to_np_dtype(elem_type).name
    except (KeyError, ValueError, TypeError):
        return "unknown"


def _check_input(path: Path, value: OnnxValue) -> tuple[OnnxValue, bool]:
    """Return the input and whether its channels are last; ExportError unless it takes images."""
    if value.dtype not in _EXCHANGED:
        raise ExportError(
            f"{path}: its input is {value}, and foldbench gives preprocessed images in float32: "
            "export the network without its preprocessing"
        )
    if value.shape is None:
        return value, False
    if len(value.shape) != _IMAGE_RANK:
        raise ExportError(
            f"{path}: its input is {value}, and foldbench gives images (N, C, H, W): export it "
            "with the reshaping inside"
        )
    _, first, _, last = value.shape
    return value, last in _CHANNELS and first not in _CHANNELS


def _inferred(model: ModelProto) -> ModelProto:
    """Return `model`, with the shapes of its outputs inferred where it does not tell them."""
    if all(value.type.tensor_type.HasField("shape") for value in model.graph.output):
        return model
    try:
        return onnx.shape_inference.infer_shapes(model)
    except Exception:  # it raises kinds of its own; what is unknown stays unknown
        return model


def _choose(path: Path, outputs: tuple[OnnxValue, ...], asked: str | None) -> OnnxValue:
    """Return the output that holds the logits."""
    names = listed(map(str, outputs))
    if asked is not None:
        found = next((value for value in outputs if value.name == asked), None)
        if found is None:
            hint = nearest(asked, [value.name for value in outputs])
            raise ExportError(f"{path}: no output {asked!r} (outputs: {names}){hint}")
        if not _may_be_logits(found):
            raise ExportError(
                f"{path}: the output {found} is none of numbers (N, classes) (outputs: {names})"
            )
        return found
    possible = [value for value in outputs if _may_be_logits(value)]
    if not possible:
        raise ExportError(f"{path}: no output is of the form (N, classes) (outputs: {names})")
    if len(possible) > 1:
        raise ExportError(
            f"{path}: {len(possible)} outputs may be the logits: "
            f"{listed(map(str, possible))}: name one with --output {possible[0].name}"
        )
    return possible[0]


def _may_be_logits(value: OnnxValue) -> bool:
    shape = value.shape
    if value.dtype not in _EXCHANGED:
        return False
    return shape is None or len(shape) == 2 or (len(shape) == _IMAGE_RANK and shape[2:] == (1, 1))


def _ends_in_softmax(model: ModelProto, name: str) -> bool:
    """Return whether the output `name` is made by a Softmax, seen through what changes nothing."""
    makers = {output: node for node in model.graph.node for output in node.output}
    node = makers.get(name)
    while node is not None and node.op_type in ("Identity", "Cast", "Flatten", "Squeeze"):
        node = makers.get(node.input[0])
    return node is not None and node.op_type == "Softmax"


def _count_parameters(model: ModelProto) -> int:
    """Return how many numbers the weights have; statistics of BatchNorm are none."""
    nodes = list(nodes_of(model))
    statistics = {n for node in nodes for n in _statistics(node)}
    return sum(
        prod(tensor.dims)
        for tensor in tensors_of(model)
        if _is_weight(tensor) and tensor.name not in statistics
    )


def _statistics(node: NodeProto) -> Iterable[str]:
    return node.input[3:5] if node.op_type == "BatchNormalization" else ()


def _is_weight(tensor: TensorProto) -> bool:
    kind, rank = dtype_name(tensor.data_type), len(tensor.dims)
    return (kind in _FLOATS and rank > 0) or (kind in ("int8", "uint8") and rank > 1)


def read_precision(model: ModelProto) -> Precision:
    """Return what most of the weights are in; bfloat16 counts as float16."""
    if count_nodes(model, *_QUANTIZED):
        return "int8"
    sizes: Counter[str] = Counter()
    for tensor in tensors_of(model):
        sizes[dtype_name(tensor.data_type)] += prod(tensor.dims)
    return _PRECISIONS[max(_PRECISIONS, key=lambda kind: sizes[kind])]
