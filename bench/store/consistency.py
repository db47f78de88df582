"""Whether a stored record agrees with itself: one that was edited or damaged says something else.

Types are checked by the record; this is about what the numbers can be, and about what is stored
twice: counts beside the arrays that they count, hashes beside what they are of.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from math import isfinite
from pathlib import PurePath, PureWindowsPath
from typing import Any

from foldbench.bench.records import (
    Accuracy,
    Agreement,
    Artifact,
    Block,
    Checkpoint,
    Closeness,
    Epoch,
    FoldReport,
    Measurement,
    Opening,
    Parity,
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


def outside(path: str) -> Iterator[str]:
    """Yield what is wrong with a path that should lie in the run's folder."""
    parts = {*PurePath(path).parts, *PureWindowsPath(path).parts}
    is_absolute = PurePath(path).is_absolute() or PureWindowsPath(path).anchor
    if not path or is_absolute or ".." in parts:
        yield f"{path!r} is no file of the run's folder"


def _of_agreement(agreement: Agreement) -> Iterator[str]:
    if not 0 <= agreement.top1_equal <= agreement.images or not agreement.images:
        yield f"{agreement.top1_equal} of {agreement.images} images have the same class"


def _of_closeness(closeness: Closeness) -> Iterator[str]:
    counts = (closeness.correct_before, closeness.correct_after, closeness.top1_equal)
    if closeness.images <= 0 or not all(0 <= count <= closeness.images for count in counts):
        yield f"counts {', '.join(map(str, counts))} of {closeness.images} images"


def _of_fold(fold: FoldReport) -> Iterator[str]:
    if fold.batchnorms_after > fold.batchnorms_before:
        yield f"{fold.batchnorms_after} of {fold.batchnorms_before} BatchNorms are left"


def _of_parity(parity: Parity) -> Iterator[str]:
    if parity.passed and not all(case.passed for case in parity.cases):
        yield "has passed, and one of its cases has not"


def _of_parity_case(case: ParityCase) -> Iterator[str]:
    if case.passed and (case.error is None or not case.error <= case.tolerance):
        yield f"has passed with an error of {case.error}, and {case.tolerance} is allowed"


def _of_artifact(artifact: Artifact) -> Iterator[str]:
    yield from outside(artifact.path)
    if not artifact.size_bytes:
        yield "has a size of 0 bytes"


def _of_opening(opening: Opening) -> Iterator[str]:
    """The hash of a whole record's parts, as measure/resume.py works them out."""
    record = opening.record
    parts = {"weights": record.checkpoint.sha256, "images": record.evaluation_sha256}
    for what, value in parts.items():
        if opening.identity.get(what) != json_sha256(value):
            yield f"its {what} are not those that identity.{what} is of"


def _of_checkpoint(checkpoint: Checkpoint) -> Iterator[str]:
    yield from outside(checkpoint.weights)
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
    Agreement: _of_agreement,
    Artifact: _of_artifact,
    Closeness: _of_closeness,
    FoldReport: _of_fold,
    Parity: _of_parity,
    ParityCase: _of_parity_case,
    Opening: _of_opening,
    Block: _of_block,
    Timing: _of_timing,
    Measurement: _of_measurement,
    Checkpoint: _of_checkpoint,
    Run: _of_run,
}
