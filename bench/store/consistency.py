"""Whether a stored record agrees with itself: one that was edited or damaged says something else.

Types are checked by the record; this is about what the numbers can be, and about what is stored
twice: counts beside the arrays that they count, hashes beside what they are of.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from math import isfinite
from typing import Any

from foldbench.bench.records import (
    Accuracy,
    Agreement,
    Block,
    Checkpoint,
    Closeness,
    Epoch,
    Measurement,
    ParityCase,
    Record,
    Run,
    Timing,
)
from foldbench.bench.store.files import json_sha256

_MAY_DIVERGE = (Agreement, Closeness, Epoch, ParityCase)
"""Records of what a network computed, which may be no number."""

_ENVIRONMENT: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("cpu", "machine", "os", "python", "gpu", "foldbench", "torch"), str),
    **dict.fromkeys(("cores_usable", "memory_bytes", "load_1min"), (int, float)),
    **dict.fromkeys(("cpu_mhz_min", "cpu_mhz_max"), (int, float)),
    "environment_variables": dict,
    "gpus": list,
}
"""Types of what reports calculate with, where it is there."""


def find_fault(record: Record) -> str | None:
    """Return in what `record` contradicts itself, and where; None when it does not."""
    return next(_faults(record, ""), None)


def _faults(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, tuple):
        for index, part in enumerate(value):
            yield from _faults(part, f"{where}[{index}]")
    elif isinstance(value, Record) or is_dataclass(value):
        if not isinstance(value, _MAY_DIVERGE):
            for name, part in vars(value).items():
                yield from _faults(part, f"{where}.{name}".lstrip("."))
        for kind, check in _CHECKS.items():
            if isinstance(value, kind):
                yield from (f"{where or 'the file'}: {fault}" for fault in check(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number_faults(value, where)


def _number_faults(value: float, where: str) -> Iterator[str]:
    name = where.rpartition(".")[2].partition("[")[0]
    if not isfinite(value):
        yield f"{where}: is {value}, which is no finite number"
    elif value < 0 and (isinstance(value, int) or name.endswith(("_s", "_ratio"))):
        yield f"{where}: is {value}, less than 0"
    elif value == 0 and name == "samples_s":
        yield f"{where}: is 0, but no call takes no time"


def _of_accuracy(accuracy: Accuracy) -> Iterator[str]:
    correct = 0 if accuracy.correct is None else accuracy.correct
    if not 0 <= correct <= accuracy.total or not accuracy.total:
        yield f"{correct} of {accuracy.total} images are correct"
    if accuracy.top1 and len(accuracy.top1) != accuracy.total:
        yield f"has answers to {len(accuracy.top1)} of {accuracy.total} images"


def _of_block(block: Block) -> Iterator[str]:
    if not block.samples_s:
        yield "has no timed calls"


def _of_timing(timing: Timing) -> Iterator[str]:
    if not timing.blocks:
        yield "has no blocks"
    if not timing.batch_size:
        yield "has a batch size of 0"


def _of_measurement(m: Measurement) -> Iterator[str]:
    if m.status == "ok" and m.reason is not None:
        yield "is ok, and has a reason why it is not"


def _of_checkpoint(checkpoint: Checkpoint) -> Iterator[str]:
    if json_sha256(checkpoint.config) != checkpoint.config_sha256:
        yield "config is not the one that config_sha256 is of"
    data, used = checkpoint.config.get("data"), checkpoint.preprocessing
    if not isinstance(data, dict):
        return
    size = data.get("image_size")
    said = {"mean": used.mean, "std": used.std}
    differ = [key for key, value in said.items() if tuple(data.get(key, value)) != value]
    sides = tuple(size) if isinstance(size, list) else (size, size)
    if size is not None and used.input_shape[1:] != sides:
        differ.append("input_shape")
    if differ:
        yield f"preprocessing.{differ[0]} is not what config.data says"


def _of_run(run: Run) -> Iterator[str]:
    for name, kind in _ENVIRONMENT.items():
        value = run.environment.get(name)
        if value is not None and not isinstance(value, kind):
            yield f"environment.{name}: is of type {type(value).__name__}"
    classes = len(run.data.classes)
    if run.labels is not None and any(label >= classes for label in run.labels):
        yield f"labels: one is beyond the {classes} classes"
    for m in run.measurements:
        if run.labels is not None and m.accuracy and m.accuracy.top1:
            yield from _counted(run.labels, m.accuracy, m.contender)


def _counted(labels: tuple[int, ...], accuracy: Accuracy, contender: str) -> Iterator[str]:
    if len(labels) != accuracy.total:
        yield f"labels: there are {len(labels)} for {accuracy.total} images of {contender}"
        return
    right = sum(a == b for a, b in zip(labels, accuracy.top1, strict=True))
    if right != accuracy.correct:
        yield f"{contender}: correct is {accuracy.correct}, but {right} of its answers are right"


_CHECKS: dict[type, Callable[[Any], Iterator[str]]] = {
    Accuracy: _of_accuracy,
    Block: _of_block,
    Timing: _of_timing,
    Measurement: _of_measurement,
    Checkpoint: _of_checkpoint,
    Run: _of_run,
}
