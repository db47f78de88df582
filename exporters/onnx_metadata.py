"""What the metadata of an .onnx file says of its images and classes, whoever wrote it.

Known are foldbench's own entries, those of Ultralytics (``names``, ``task``), those that Azure
Custom Vision and the ONNX model zoo use (``Image.NominalPixelRange``), and entries that are called
``mean``, ``std``, ``classes``, ``labels``, ``class_names`` or ``id2label`` and hold JSON or a
literal of Python.
"""

import ast
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from foldbench.bench.errors import ExportError, one_line
from foldbench.bench.records import Preprocessing

OURS = "foldbench."
_CLASSES = ("classes", "class_names", "labels", "names", "id2label")
_MEANS, _STDS = ("mean", "image_mean"), ("std", "image_std")
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_MODEL_FIELDS = (*range(1, 9), 14, 20, 25, 26)
"""Of ModelProto in onnx.proto."""


@dataclass(frozen=True)
class Described:
    """How images go in and what comes out, as far as a file says it."""

    preprocessing: Preprocessing | None = None
    """In full, as foldbench writes it."""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    """Of pixels between 0 and 1, by channel."""
    classes: tuple[str, ...] | None = None
    said_by: tuple[str, ...] = ()
    """The entries that this is from."""


def read_description(path: Path, entries: Mapping[str, str]) -> Described:
    """Return what `entries`, the metadata of the file at `path`, say.

    Raises ExportError where an entry of foldbench's own cannot be read.
    """
    plain = {key.removeprefix(OURS).lower(): key for key in entries}
    ours = entries.get(f"{OURS}preprocessing")
    preprocessing = None
    if ours is not None:
        try:
            preprocessing = Preprocessing.model_validate_json(ours)
        except ValueError as error:
            raise ExportError(
                f"{path}: its entry {OURS}preprocessing cannot be read: {one_line(error)}"
            ) from error
    used = [f"{OURS}preprocessing"] if preprocessing else []
    mean = std = None
    if preprocessing is None:
        mean, std, keys = _normalisation(entries, plain)
        used += keys
    else:
        mean, std = preprocessing.mean, preprocessing.std
    classes, key = _classes(entries, plain)
    return Described(preprocessing, mean, std, classes, (*used, *([key] if key else [])))


def _normalisation(
    entries: Mapping[str, str], plain: Mapping[str, str]
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None, list[str]]:
    mean_key = next((plain[name] for name in _MEANS if name in plain), None)
    std_key = next((plain[name] for name in _STDS if name in plain), None)
    if mean_key and std_key:
        mean, std = _numbers(entries[mean_key]), _numbers(entries[std_key])
        if mean and std and len(mean) == len(std) and all(value > 0 for value in std):
            return *_to_unit(mean, std), [mean_key, std_key]
    if entries.get("task") == "classify" and "names" in entries:  # Ultralytics divides by 255 alone
        return (0.0,), (1.0,), ["task"]
    return *_PIXEL_RANGES.get(entries.get("Image.NominalPixelRange", ""), (None, None)), []


_PIXEL_RANGES: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "Normalized_0_1": ((0.0,), (1.0,)),
    "Normalized_1_1": ((0.5,), (0.5,)),
    "NominalRange_0_255": ((0.0,), (1 / 255,)),
}
"""Mean and standard deviation that have the effect of what Windows ML calls the range."""


def _to_unit(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return both for pixels between 0 and 1; some are for pixels up to 255."""
    if max(map(abs, mean)) <= 1 and max(std) <= 1:
        return mean, std
    return tuple(value / 255 for value in mean), tuple(value / 255 for value in std)


def _numbers(text: str) -> tuple[float, ...] | None:
    value = _literal(text)
    if value is None:
        value = _literal(f"[{text}]")
    if isinstance(value, int | float):
        value = [value]
    if not isinstance(value, list | tuple) or not all(isinstance(v, int | float) for v in value):
        return None
    return tuple(float(v) for v in value) or None


def _classes(
    entries: Mapping[str, str], plain: Mapping[str, str]
) -> tuple[tuple[str, ...] | None, str | None]:
    for key in (plain[name] for name in _CLASSES if name in plain):
        names = _names(entries[key])
        if names:
            return names, key
    return None, None


def _names(text: str) -> tuple[str, ...] | None:
    """Return the names in a list, or in a mapping from numbers 0 to n - 1."""
    value = _literal(text)
    if value is None and "\n" in text.strip():
        value = text.strip().splitlines()
    if isinstance(value, dict):
        try:
            numbered = {int(key): name for key, name in value.items()}
        except (TypeError, ValueError):
            return None
        if sorted(numbered) != list(range(len(numbered))):
            return None
        value = [numbered[number] for number in range(len(numbered))]
    if not isinstance(value, list | tuple) or not all(isinstance(v, str | int) for v in value):
        return None
    return tuple(map(str, value))


def _literal(text: str) -> Any:
    """Return the value of JSON or of a literal of Python; None for what is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def end_of_message(stream: BinaryIO) -> int | None:
    """Return where the fields of the model that `stream` is at the beginning of say it ends.

    More than the file has where it is cut off; None where it is no model at all.
    """
    while True:
        tag = _varint(stream)
        if tag is None:
            return stream.tell()
        field, kind = tag >> 3, tag & 7
        if field not in _MODEL_FIELDS or kind not in (_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES):
            return None
        length = _varint(stream) if kind in (_VARINT, _LENGTH) else None
        if kind in (_VARINT, _LENGTH) and length is None:
            return None
        skipped = {_VARINT: 0, _EIGHT_BYTES: 8, _FOUR_BYTES: 4, _LENGTH: length or 0}[kind]
        end = stream.seek(skipped, io.SEEK_CUR)
        if end > 2**40:
            return None


def _varint(stream: BinaryIO) -> int | None:
    """Return the next number in base 128; None at the end of the file, or for a longer one."""
    number = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            return None
        number |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return number
    return None
