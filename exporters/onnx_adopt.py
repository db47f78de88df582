"""Somebody's .onnx file in the form in which foldbench runs it: (N, C, H, W) in, logits out.

The input is called ``input``, the output ``logits``, and other outputs are gone; the nodes stay as
they are. Where the file takes or gives another form (float16, channels last, (N, classes, 1, 1)), a
node in front or behind changes that, and a note says so. A batch that is fixed is opened where the
network then still gives the same answers; if not, it runs at that batch size alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from foldbench.bench.errors import ExportError
from foldbench.bench.host_files.marks import FIXED_BATCH
from foldbench.bench.store.files import file_sha256
from foldbench.exporters.onnx_batch import BATCH, INPUT, LOGITS, Shape, Trial, open_batch
from foldbench.exporters.onnx_file import OnnxFacts, inspect_onnx, newest_ir_version
from foldbench.exporters.onnx_store import (
    LEAST_IR_VERSION,
    opened_onnx,
    subgraphs_of,
    write_onnx,
)

_INNER_INPUT, _INNER_LOGITS = "given_input", "given_logits"


@dataclass(frozen=True)
class Adopted:
    """A file that foldbench runs, and what it was before."""

    path: Path
    files: tuple[Path, ...]
    """`path`, and the file beside it that holds its weights, where they do not fit into one."""
    sha256: str
    """Of `path`."""
    size_bytes: int
    """Of `files`."""
    given: Mapping[str, str]
    """Names of the files as they were given, and the sha256 of each; the model comes first."""
    facts: OnnxFacts
    """Of the file as it was given."""
    input_shape: Shape
    """(C, H, W)."""
    classes: int
    fixed_batch: int | None
    """The only batch size it runs at; None where any does."""
    batch_reason: str | None
    """Why the batch could not be opened."""
    notes: tuple[str, ...]
    """What was changed, one sentence each."""

    @property
    def given_sha256(self) -> str:
        """Return the sha256 of the model file as it was given."""
        return next(iter(self.given.values()))


def adopt_onnx(
    path: Path,
    target_folder: Path,
    *,
    name: str,
    output: str | None = None,
    input_shape: Shape | None = None,
) -> Adopted:
    """Write the file at `path` into `target_folder` as ``NAME.onnx``, as foldbench runs it.

    `output` names the logits where there are several; `input_shape` is (C, H, W) for a file that
    leaves it open. Raises what `inspect_onnx` raises, and ExportError where onnxruntime cannot run
    the file or `input_shape` contradicts it.
    """
    facts = inspect_onnx(path, output)
    shape = _image_shape(facts, input_shape)
    written = target_folder / f"{name}.onnx"
    with opened_onnx(path) as model:
        notes = list(_lower_version(model))
        tried = Trial(model, facts, shape)
        notes += _normalise(model, facts, shape)
        made, fixed, reason = open_batch(model, facts, tried, notes)
        _declare_output(made, fixed, tried.classes)
        if fixed is not None:
            made.metadata_props.add(key=FIXED_BATCH, value=str(fixed))
        files = write_onnx(made, written)
    return Adopted(
        path=written,
        files=files,
        sha256=file_sha256(written),
        size_bytes=sum(file.stat().st_size for file in files),
        given={file.name: file_sha256(file) for file in (path, *facts.external)},
        facts=facts,
        input_shape=shape,
        classes=tried.classes,
        fixed_batch=fixed,
        batch_reason=reason,
        notes=tuple(notes),
    )


def _image_shape(facts: OnnxFacts, asked: Shape | None) -> Shape:
    """Return (C, H, W): what the file says, and `asked` for what it leaves open."""
    said = facts.input_shape
    if asked is None:
        if None in said:
            raise ExportError(
                f"{facts.path}: its input {facts.input} leaves the size of images open: "
                "give it with --input CxHxW, such as --input 3x224x224"
            )
        return said[0] or 0, said[1] or 0, said[2] or 0
    if any(size not in (None, wanted) for size, wanted in zip(said, asked, strict=True)):
        raise ExportError(
            f"{facts.path}: its input is {facts.input}, and {'x'.join(map(str, asked))} (CxHxW) is "
            "asked for: leave --input out"
        )
    return asked


def _lower_version(model: ModelProto) -> Iterator[str]:
    """Have the file's format be one that onnxruntime opens; yield what was changed."""
    if model.ir_version < LEAST_IR_VERSION:
        model.ir_version = LEAST_IR_VERSION
    if model.ir_version > newest_ir_version():
        yield f"IR version {model.ir_version} written as {newest_ir_version()}, for onnxruntime"
        model.ir_version = newest_ir_version()


def _normalise(model: ModelProto, facts: OnnxFacts, shape: Shape) -> Iterator[str]:
    """Give input and output their names and forms; yield what was changed besides names."""
    graph = model.graph
    before, behind = _before(facts), _behind(facts)
    inner_input = _INNER_INPUT if before else INPUT
    inner_logits = _INNER_LOGITS if behind else LOGITS
    rename(model, {facts.input.name: inner_input, facts.logits.name: inner_logits})
    nodes = [
        *_chain(before, INPUT, inner_input),
        *graph.node,
        *_chain(behind, inner_logits, LOGITS),
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    open_sizes = [None] * 3 if facts.input.shape is None else facts.input_shape
    sizes = [
        name if size is None and facts.input.shape is not None else wanted
        for size, wanted, name in zip(
            open_sizes, shape, ("channels", "height", "width"), strict=True
        )
    ]
    batch = facts.fixed_batch or BATCH
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [batch, *sizes]))
    graph.output.append(helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [batch, None]))
    if facts.input.dtype != "float32":
        yield f"its input is {facts.input.dtype}: a Cast in front takes float32"
    if facts.channels_last:
        yield "its input is (N, H, W, C): a Transpose in front takes (N, C, H, W)"
    if facts.logits.dtype != "float32":
        yield f"its logits are {facts.logits.dtype}: a Cast behind gives float32"
    if ("Flatten", {"axis": 1}) in behind:
        yield "its logits are (N, classes, 1, 1): a Flatten behind gives (N, classes)"
    others = [value.name for value in facts.outputs if value.name != facts.logits.name]
    if others:
        yield f"the logits are its output {facts.logits.name}; not used: {', '.join(others)}"


_Operator = tuple[str, dict[str, Any]]


def _before(facts: OnnxFacts) -> list[_Operator]:
    found: list[_Operator] = []
    if facts.channels_last:
        found.append(("Transpose", {"perm": [0, 2, 3, 1]}))
    if facts.input.dtype != "float32":
        to = helper.np_dtype_to_tensor_dtype(np.dtype(facts.input.dtype))
        found.append(("Cast", {"to": to}))
    return found


def _behind(facts: OnnxFacts) -> list[_Operator]:
    found: list[_Operator] = []
    if facts.logits.shape is not None and len(facts.logits.shape) > 2:
        found.append(("Flatten", {"axis": 1}))
    if facts.logits.dtype != "float32":
        found.append(("Cast", {"to": TensorProto.FLOAT}))
    return found


def _chain(operators: Sequence[_Operator], first: str, last: str) -> Iterator[NodeProto]:
    """Yield one node after the other, from the value `first` to the value `last`."""
    for number, (op_type, attributes) in enumerate(operators, 1):
        result = last if number == len(operators) else f"{last}_{number}"
        name = f"foldbench/{result}"
        yield helper.make_node(op_type, [first], [result], name=name, **attributes)
        first = result


def rename(model: ModelProto, names: Mapping[str, str]) -> None:
    """Rename values of the graph; what has one of the new names already gets another one."""
    taken = set(_values(model.graph))
    chosen = dict(names)
    for wanted in names.values():
        if wanted in taken and wanted not in names:
            number = 1
            while f"{wanted}_{number}" in taken:
                number += 1
            chosen[wanted] = f"{wanted}_{number}"
            taken.add(chosen[wanted])
    _rename_in(model.graph, chosen)


def _values(graph: GraphProto) -> Iterator[str]:
    yield from (value.name for value in (*graph.input, *graph.output, *graph.initializer))
    for node in graph.node:
        yield from node.output
        for inner in subgraphs_of(node):
            yield from _values(inner)


def _rename_in(graph: GraphProto, names: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)
    for node in graph.node:
        for values in (node.input, node.output):
            for place, value in enumerate(values):
                values[place] = names.get(value, value)
        for inner in subgraphs_of(node):
            _rename_in(inner, names)


def _declare_output(model: ModelProto, fixed: int | None, classes: int) -> None:
    (output,) = model.graph.output
    shape = [fixed or BATCH, classes]
    output.CopyFrom(helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, shape))
