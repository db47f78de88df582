"""Whether two runs may be compared: which of their conditions differ, and what that spoils.

A latency says something about the software only where machine, threads, precision, library
versions, network and batch sizes are the same; an accuracy where the images are. Other weights or
another foldbench are what a difference is taken for: they are mentioned and spoil nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from foldbench.bench.analysis.speedups import completed, contenders
from foldbench.bench.errors import RunError
from foldbench.bench.records import Checkpoint, Measurement, Run

Metric = Literal["latency", "accuracy"]

_MACHINE = ("cpu", "machine", "cores_usable", "governor", "boost", "smt", "cpu_mhz_max")
_GPU = ("gpu", "gpus", "driver")
"""They count where a row ran on the GPU in either run."""
_GPU_LIBRARIES = ("cuda", "cudnn", "tf32_matmul", "tf32_convolution")
"""What a row that ran on the GPU found loaded, under any library's name."""
_LIBRARIES = ("torch", "onnxruntime", "openvino")
ALWAYS_DIFFERENT = ("load_1min", "cpu_mhz_now", "memory_available_bytes", "gpus_now")
"""Facts of the environment that hold for the moment alone."""
_ABSENT_IS_A_VALUE = ("gpu", "driver", "environment_variables")
"""Facts that are left out of a record where there is none of the kind."""
_SHORT = 12
"""Digits of a hash where hashes are only told apart."""


@dataclass(frozen=True)
class Contrast:
    """One condition that differs between run A and run B, both values as text."""

    what: str
    a: str
    b: str
    spoils: tuple[Metric, ...] = ()
    """Figures that say nothing because of it; none for one that is only mentioned."""


def contrasts(a: Run, b: Run) -> tuple[Contrast, ...]:
    """Return every condition in which the runs differ, the ones that spoil a figure first.

    A fact that only one of the runs recorded is unknown, not different, and is left out; a GPU, a
    driver or thread settings that only one of them had are different.
    """
    found = [*_of_conditions(a, b), *_of_rows(a, b), *_of_environment(a, b), *_mentioned(a, b)]
    return tuple(sorted(found, key=lambda contrast: not contrast.spoils))


def require_two(a: Run, b: Run) -> None:
    """Raise RunError where both are one record: nothing differs, whatever was measured."""
    timed = any(m.timings for m in a.measurements)
    alike = a.model_copy(update={"name": b.name}) == b
    if alike or (timed and a.measurements == b.measurements):
        raise RunError(
            f"{a.name} (A) and {b.name} (B) are the same comparison, of {a.created}: name two "
            "(RUN@1 RUN@2), or measure again with bench compare"
        )


def require_comparable(a: Run, b: Run) -> None:
    """Raise RunError that names each difference, with both values, which spoils a figure."""
    spoiling = [contrast for contrast in contrasts(a, b) if contrast.spoils]
    if spoiling:
        listed = "; ".join(describe(contrast) for contrast in spoiling)
        raise RunError(
            f"{a.name} (A) and {b.name} (B) are not comparable: {listed}: "
            "measure both alike, or give --force to compare them all the same"
        )


def describe(contrast: Contrast) -> str:
    """Return the contrast as text: what differs, the two values, and what that spoils."""
    spoils = f" (spoils {' and '.join(contrast.spoils)})" if contrast.spoils else ""
    return f"{contrast.what}: {contrast.a} in A, {contrast.b} in B{spoils}"


def work_of(m: Measurement) -> tuple[object, ...]:
    """Return what makes the time of a row: the file, and what it runs in."""
    return m.source_sha256, m.runtime, m.threads, m.precision, m.actual_device


def contenders_by_name(run: Run) -> dict[str, Measurement]:
    """Return the rows that are compared, by name, failed ones included."""
    return {m.contender: m for m in contenders(run)}


def _contrast(what: str, a: Any, b: Any, *spoils: Metric) -> Iterator[Contrast]:
    if a != b:
        yield Contrast(what, _text(a), _text(b), spoils)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(part) for part in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_text(part)}" for key, part in value.items()) or "none"
    return "none" if value is None else str(value)


def _of_conditions(a: Run, b: Run) -> Iterator[Contrast]:
    """Yield what differs in network, images and batch sizes."""
    of_a, of_b = a.checkpoint, b.checkpoint
    yield from _contrast("model", _names(of_a), _names(of_b), "latency", "accuracy")
    shapes = of_a.preprocessing.input_shape, of_b.preprocessing.input_shape
    yield from _contrast("input shape", *shapes, "latency", "accuracy")
    hashes = a.evaluation_sha256[:_SHORT], b.evaluation_sha256[:_SHORT]
    yield from _contrast("evaluation images (sha256)", *hashes, "accuracy")
    protocols = a.evaluation_protocol, b.evaluation_protocol
    yield from _contrast("evaluation protocol", *protocols, "accuracy")
    sizes = _batch_sizes(a), _batch_sizes(b)
    if all(sizes):
        yield from _contrast("batch sizes", *sizes, "latency")


def _names(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the model, and which of its networks it is where it has several."""
    return tuple(dict.fromkeys((checkpoint.model, checkpoint.network)))


def _batch_sizes(run: Run) -> tuple[int, ...]:
    timings = (timing for m in completed(run) for timing in m.timings)
    return tuple(sorted({timing.batch_size for timing in timings}))


def _of_rows(a: Run, b: Run) -> Iterator[Contrast]:
    """Yield what differs between rows of the same name that ran in both."""
    yield from _of_field("threads", a, b, lambda m: m.threads)
    yield from _of_field("precision", a, b, lambda m: m.precision)
    yield from _of_field("device", a, b, lambda m: m.actual_device)
    for name in _GPU_LIBRARIES:
        yield from _of_field(name, a, b, partial(_on_gpu, name))


def _on_gpu(name: str, m: Measurement) -> str | None:
    """Return what the libraries of a row that ran on a GPU say of `name`, None where nothing."""
    if not m.actual_device or not m.actual_device.startswith("cuda"):
        return None
    facts = [library for library in (m.libraries or {}).values() if isinstance(library, Mapping)]
    return ", ".join(_text(library[name]) for library in facts if name in library) or None


def _of_field(
    what: str, a: Run, b: Run, field: Callable[[Measurement], str | int | None]
) -> Iterator[Contrast]:
    of_a, of_b = contenders_by_name(a), contenders_by_name(b)
    both = [n for n in of_a if n in of_b and {of_a[n].status, of_b[n].status} == {"ok"}]
    pairs = {name: (field(of_a[name]), field(of_b[name])) for name in both}
    for pair in dict.fromkeys(pairs.values()):
        if None not in pair:
            names = [name for name, other in pairs.items() if other == pair]
            where = "" if len(names) == len(both) else f" of {', '.join(names)}"
            yield from _contrast(f"{what}{where}", *pair, "latency")


def _of_environment(a: Run, b: Run) -> Iterator[Contrast]:
    spoiling = _spoiling_keys(a, b)
    keys = dict.fromkeys([*spoiling, *a.environment, *b.environment])
    for key in keys:
        of_a, of_b = _fact(a, key), _fact(b, key)
        unknown = None in (of_a, of_b) and key not in _ABSENT_IS_A_VALUE
        if unknown or key in ALWAYS_DIFFERENT:
            continue
        yield from _contrast(key, of_a, of_b, *(("latency",) if key in spoiling else ()))


def _fact(run: Run, key: str) -> Any:
    """Return a fact of the environment; of GPUs without what tells two of one kind apart."""
    value = run.environment.get(key)
    if key != "gpus" or not isinstance(value, list):
        return value
    return [{name: part for name, part in gpu.items() if name != "uuid"} for gpu in value]


def _spoiling_keys(a: Run, b: Run) -> Sequence[str]:
    devices = {m.actual_device for run in (a, b) for m in run.measurements if m.status == "ok"}
    on_gpu = any(device and device.startswith("cuda") for device in devices)
    return (*_MACHINE, *(_GPU if on_gpu else ()), *_LIBRARIES)


def _mentioned(a: Run, b: Run) -> Iterator[Contrast]:
    """Yield what two runs may differ in: the weights, and how long was measured."""
    of_a, of_b = a.checkpoint, b.checkpoint
    yield from _contrast("checkpoint (sha256)", of_a.sha256[:_SHORT], of_b.sha256[:_SHORT])
    yield from _contrast("model arguments", of_a.model_args, of_b.model_args)
    yield from _contrast("parameters", of_a.parameter_count, of_b.parameter_count)
    yield from _contrast("training seed", of_a.seed, of_b.seed)
    settings = a.config.get("compare") or {}, b.config.get("compare") or {}
    for key in dict.fromkeys([*settings[0], *settings[1]]):
        if key != "batch_sizes":
            yield from _contrast(f"compare.{key}", settings[0].get(key), settings[1].get(key))
