"""Files that are for one kind of machine alone, and how a file says that it is one.

A graph that onnxruntime has optimised for a processor holds weights in that processor's layout and
operators of that version of onnxruntime; one with custom operators needs them compiled
for that processor. A file says so in its metadata, so that it is run as it is to be and nowhere
else.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from foldbench.bench.errors import BackendError
from foldbench.bench.machine.cpu import cpu_name, describe_cpu

HOST = "foldbench.host"
"""Metadata key: the processor and the onnxruntime that the file is for."""
OPTIMIZATION = "foldbench.graph_optimization"
DISABLED = "disabled"
"""Metadata key and its value for a graph that has to be run as it is."""
PRECISION = "foldbench.precision"
"""Metadata key: what it computes in, where that is not float32."""
OPERATORS = "foldbench.operators"
"""Metadata key of a graph with operators of `bench.host_files.custom_operators`: the text of their
bodies (`bench.compiler.body`), one a line."""
_EARLIER = ("own", "")
"""What it was before all operators were generated."""
ON_BLOCKS = "_nchwc"
"""What ends the name of a value on channels in blocks; onnxruntime ends the names of nodes so."""
FIXED_BATCH = "foldbench.fixed_batch"
"""Metadata key: the only batch size that the file runs at; absent where any does."""

_METADATA_FIELD = 14  # of ModelProto in onnx.proto
_KEY_FIELD, _VALUE_FIELD = 1, 2  # of StringStringEntryProto
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True)
class HowToRun:
    """What an .onnx file needs of the runtime."""

    host: bool = False
    """Made for this machine's CPU alone."""
    optimised: bool = False
    """To be run without any further graph optimisation."""
    operators: tuple[str, ...] | None = None
    """To be run with `bench.host_files.custom_operators`, of these bodies; None: without."""


def host_facts(onnxruntime_version: str) -> dict[str, str]:
    """Return the metadata of a file that is for this machine and this onnxruntime."""
    return {HOST: _describe(onnxruntime_version)}


def custom_operator_facts(bodies: Iterable[str]) -> dict[str, str]:
    """Return the metadata of a file with operators of `bodies`."""
    return {OPERATORS: "\n".join(sorted(set(bodies)))}


def bodies_in(facts: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the bodies of the custom operators that metadata tells of, None where it has none."""
    return tuple(facts[OPERATORS].splitlines()) if OPERATORS in facts else None


def how_to_run(file: Path | bytes, onnxruntime_version: str) -> HowToRun:
    """Return what the .onnx `file` says of how it is to be run.

    One that cannot be read says nothing, and the runtime will have its words about it. Raises
    BackendError when it was made for another processor or another onnxruntime, or by an earlier
    foldbench with operators of that one.
    """
    try:
        with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream:
            facts = read_metadata(stream)
    except OSError:
        return HowToRun()
    made_for, here = facts.get(HOST), _describe(onnxruntime_version)
    if made_for not in (None, here):
        raise BackendError(
            f"the file was made for {made_for}, and this is {here}: "
            "export it here (bench export --target host), or use the one for any CPU"
        )
    if facts.get(OPERATORS) in _EARLIER:
        raise BackendError(
            "the file has operators of an earlier foldbench: export it again (bench export "
            "--target host)"
        )
    optimised = facts.get(OPTIMIZATION) == DISABLED
    return HowToRun(made_for is not None, optimised, bodies_in(facts))


def read_metadata(stream: BinaryIO) -> Mapping[str, str]:
    """Return the model's own metadata in an .onnx file, without reading its graph.

    A file that is no ONNX model has none.
    """
    facts: dict[str, str] = {}
    try:
        for field, content in _fields(stream, (_METADATA_FIELD,)):
            if field == _METADATA_FIELD:
                entry = dict(_fields(io.BytesIO(content), (_KEY_FIELD, _VALUE_FIELD)))
                key, value = entry.get(_KEY_FIELD, b""), entry.get(_VALUE_FIELD, b"")
                facts[key.decode("utf-8")] = value.decode("utf-8")
    except (ValueError, EOFError):
        return {}
    return facts


def _describe(onnxruntime_version: str) -> str:
    """Return what code made for one processor depends on: its model, its vectors, the runtime."""
    about = describe_cpu()
    kind = [about["cpu_id"] or "", " ".join(about["cpu_features"] or ())]
    known = "; ".join(part for part in kind if part)
    return f"{cpu_name()}{f' ({known})' if known else ''}, onnxruntime {onnxruntime_version}"


_LARGEST_BYTES = 2**40
"""Of a field: the files beside a model may be large, but none has a terabyte."""


def _fields(stream: BinaryIO, wanted: tuple[int, ...]) -> Iterator[tuple[int, bytes]]:
    """Yield the length-delimited fields `wanted` of a protobuf message; skip all others.

    https://protobuf.dev/programming-guides/encoding. Raises ValueError or EOFError when it is none.
    """
    while (tag := _read_varint(stream)) is not None:
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _read_varint(stream)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            stream.seek(8 if kind == _EIGHT_BYTES else 4, io.SEEK_CUR)
        elif kind == _LENGTH:
            size = _read_varint(stream) or 0
            if size > _LARGEST_BYTES:
                raise ValueError(f"no protobuf message: a field of {size} bytes")
            if field in wanted:
                yield field, stream.read(size)
            else:
                stream.seek(size, io.SEEK_CUR)
        else:
            raise ValueError(f"no protobuf message: wire type {kind}")


def _read_varint(stream: BinaryIO) -> int | None:
    """Return the next number in base 128, None at the end of the stream."""
    number, shift = 0, 0
    while byte := stream.read(1):
        number |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return number
        shift += 7
        if shift > 63:
            raise ValueError("no protobuf message: a number of more than 64 bits")
    if shift:
        raise EOFError
    return None
