"""Reading and writing .onnx files, with weights inside or in files beside them.

A protobuf message holds less than 2 GiB, so that a larger network has its weights in another file.
Such a file is named by the model, and may lie in the model's folder alone: no name that is absolute
or leads out of it is followed.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
    numpy_helper,
)

from foldbench.bench.errors import ExportError, one_line, root_cause
from foldbench.bench.store.files import replacing, write_with

IN_ONE_FILE_BYTES = 2**31 - 2**20
"""Above this size the weights lie in a file beside the model: protobuf ends at 2 GiB."""
LEAST_IR_VERSION = 4
"""Of the file format, from which on an initializer need not be an input too."""
_SMALLEST_EXTERNAL = 1024
"""Bytes of a tensor below which it stays in the model, where shape inference can read it."""
_ALIGNED = 4096
"""Where tensors begin in the file beside the model, so that runtimes can map it into memory."""
_CHUNK = 2**24
_NAME_DIGITS = 16
_NUMBERS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def nodes_of(model: ModelProto) -> Iterator[NodeProto]:
    """Yield every node: of the graph, of the graphs within it, and of functions."""
    for node in (*model.graph.node, *(n for f in model.functions for n in f.node)):
        yield from _nested(node)


def _nested(node: NodeProto) -> Iterator[NodeProto]:
    yield node
    for graph in subgraphs_of(node):
        for inner in graph.node:
            yield from _nested(inner)


def subgraphs_of(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs that an If, Loop or Scan holds."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def tensors_of(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor that the model holds: initializers, and attributes of nodes."""
    yield from _initializers(model.graph)
    for node in nodes_of(model):
        for graph in subgraphs_of(node):
            yield from _initializers(graph)
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors


def _initializers(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices


def is_external(tensor: TensorProto) -> bool:
    """Return whether the numbers of `tensor` lie in a file beside the model."""
    return tensor.data_location == TensorProto.EXTERNAL


def external_bytes(tensor: TensorProto) -> int:
    """Return how many bytes the numbers of an external `tensor` have."""
    length = _location(tensor).get("length")
    if length is not None:
        return int(length)
    return prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _location(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def external_files(model: ModelProto, path: Path) -> tuple[Path, ...]:
    """Return the files beside the model at `path` that hold its weights, each once.

    Raises ExportError for one outside the model's folder, missing or too short.
    """
    found: dict[str, Path] = {}
    for tensor in filter(is_external, tensors_of(model)):
        location = _location(tensor)
        name = location.get("location", "")
        if name not in found:
            found[name] = _inside(path, name)
        try:
            end = int(location.get("offset", 0)) + external_bytes(tensor)
        except (ValueError, KeyError, TypeError) as error:
            raise ExportError(
                f"{path}: the place of the weights {tensor.name!r} in {name} cannot be read: "
                f"{one_line(error)}"
            ) from error
        size = found[name].stat().st_size
        if end > size:
            raise ExportError(
                f"{path}: {name} has {size} bytes, and the weights {tensor.name!r} end at {end}: "
                "it is truncated or belongs to another file: copy both again"
            )
    return tuple(found.values())


def _inside(path: Path, name: str) -> Path:
    """Return the file `name` beside the model at `path`; ExportError unless it lies there."""
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    absolute = PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).anchor)
    folder = path.parent.resolve()
    file = (folder / name).resolve()
    if not name or absolute or ".." in parts or not file.is_relative_to(folder):
        raise ExportError(
            f"{path}: its weights are said to be in {name or 'a file without a name'}, which is "
            "not in the folder of the model: put them beside it (onnx.save with "
            "save_as_external_data=True)"
        )
    if not file.is_file():
        raise ExportError(f"{path}: its weights are in {name}, which is missing: put it beside it")
    return file


def read_onnx(path: Path) -> ModelProto:
    """Return the model at `path`; weights in files beside it stay there.

    Raises ExportError when the file cannot be read or names weights outside its folder.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises a kind of its own
        raise ExportError(f"{path} is no ONNX file: {one_line(root_cause(error))}") from error
    external_files(model, path)
    return model


_WEIGHTS_BESIDE: ContextVar[Path | None] = ContextVar("weights_beside", default=None)


@contextmanager
def opened_onnx(path: Path) -> Iterator[ModelProto]:
    """Yield the model at `path` with its weights, as far as a protobuf message can hold them.

    The large weights of a model above IN_ONE_FILE_BYTES stay in the file beside it. Whatever reads
    weights within the context looks for them there: `weights_folder` says where. Raises what
    `read_onnx` raises.
    """
    model = read_onnx(path)
    if total_bytes(model) <= IN_ONE_FILE_BYTES:
        load_weights(model, path)
        yield model
        return
    bring_in_small(model, path)
    token = _WEIGHTS_BESIDE.set(path)
    try:
        yield model
    finally:
        _WEIGHTS_BESIDE.reset(token)


def weights_folder() -> Path | None:
    """Return the folder of weights that are not in the model at hand; None where all are."""
    beside = _WEIGHTS_BESIDE.get()
    return beside.resolve().parent if beside else None


def is_slim(model: ModelProto) -> bool:
    """Return whether some weights of `model` lie in a file beside it."""
    return any(map(is_external, tensors_of(model)))


def load_weights(model: ModelProto, path: Path) -> None:
    """Bring the weights of the model at `path` that lie in files beside it into `model`."""
    try:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent.resolve()))
    except Exception as error:  # onnx raises kinds of its own for what it refuses
        raise ExportError(f"{path}: its weights cannot be read: {one_line(error)}") from error


def total_bytes(model: ModelProto) -> int:
    """Return the bytes of `model` and of its weights in other files."""
    return model.ByteSize() + sum(external_bytes(t) for t in tensors_of(model) if is_external(t))


def write_onnx(model: ModelProto, path: Path) -> tuple[Path, ...]:
    """Write `model` to `path` atomically and return the files that it consists of.

    Up to IN_ONE_FILE_BYTES all is one file. Above, the weights lie in another one, called after its
    content, that is there before `path` names it; one that `path` named before is removed.
    """
    before = _data_files(path)
    beside = _WEIGHTS_BESIDE.get()
    if total_bytes(model) <= IN_ONE_FILE_BYTES:
        whole = model
        if beside is not None and is_slim(model):
            whole = copy_of(model)
            load_weights(whole, beside)
        write_with(path, lambda temporary: onnx.save(whole, temporary))
        files: tuple[Path, ...] = (path,)
    else:
        slim = copy_of(model)
        data = _write_weights(slim, path, beside)
        try:
            write_with(path, lambda temporary: onnx.save(slim, temporary))
        except BaseException:
            if data not in before:
                data.unlink(missing_ok=True)
            raise
        files = (path, data)
    for stale in before - set(files):
        stale.unlink(missing_ok=True)
    return files


def copy_of(model: ModelProto) -> ModelProto:
    """Return a copy of `model`."""
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _data_files(path: Path) -> set[Path]:
    """Return the files of weights beside `path` that foldbench wrote for it."""
    name = re.compile(rf"{re.escape(path.stem)}\.[0-9a-f]{{{_NAME_DIGITS}}}\.data")
    found = path.parent.iterdir() if path.parent.is_dir() else ()
    return {file for file in found if name.fullmatch(file.name)}


def _write_weights(model: ModelProto, path: Path, beside: Path | None) -> Path:
    """Move the large tensors of `model` to a file beside `path`; return it."""
    bring_in_small(model, beside)
    large = [tensor for tensor in tensors_of(model) if _is_large(tensor)]
    digest = hashlib.sha256()
    for tensor in large:
        for chunk in _chunks(tensor, beside):
            digest.update(chunk)
    data = path.parent / f"{path.stem}.{digest.hexdigest()[:_NAME_DIGITS]}.data"
    with replacing(data) as temporary, temporary.open("wb") as stream:
        for tensor in large:
            stream.write(b"\0" * (-stream.tell() % _ALIGNED))
            offset = stream.tell()
            for chunk in _chunks(tensor, beside):
                stream.write(chunk)
            _point(tensor, data.name, offset, stream.tell() - offset)
    return data


def bring_in_small(model: ModelProto, beside: Path | None) -> None:
    """Put small tensors into `model` that lie in a file beside `beside`.

    Runtimes look at shapes, which are such tensors, before they read weights.
    """
    for tensor in tensors_of(model):
        if is_external(tensor) and external_bytes(tensor) < _SMALLEST_EXTERNAL:
            numbers = b"".join(_chunks(tensor, beside))
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
            tensor.raw_data = numbers


def _is_large(tensor: TensorProto) -> bool:
    if is_external(tensor):
        return True
    if tensor.data_type == TensorProto.STRING:
        return False
    return (len(tensor.raw_data) or tensor.ByteSize()) >= _SMALLEST_EXTERNAL


def _chunks(tensor: TensorProto, beside: Path | None) -> Iterator[bytes]:
    """Yield the numbers of `tensor` as ONNX stores them, in parts."""
    if not is_external(tensor):
        yield tensor.raw_data or numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
        return
    if beside is None:
        raise ValueError(f"the weights {tensor.name!r} lie beside a file that is not known")
    location = _location(tensor)
    with _inside(beside, location["location"]).open("rb") as stream:
        stream.seek(int(location.get("offset", 0)))
        left = external_bytes(tensor)
        while left and (chunk := stream.read(min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk


def _point(tensor: TensorProto, name: str, offset: int, length: int) -> None:
    """Let `tensor` say that its numbers are in the file `name`."""
    for field in _NUMBERS:
        tensor.ClearField(field)
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", name), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
