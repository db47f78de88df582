"""Gate: HEAD against BASE in one job, both and BASE once more in the same rounds."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from foldbench.bench.analysis.gate import (
    Check,
    GateResult,
    check_accuracy,
    check_agreement,
    check_latency,
    check_memory,
    check_size,
)
from foldbench.bench.analysis.logits import measure_agreement
from foldbench.bench.config.data import DataSection
from foldbench.bench.config.gate import GateSection
from foldbench.bench.errors import BackendError, ConfigError, DataError
from foldbench.bench.images.classes import match_classes
from foldbench.bench.images.image_set import ImageSet
from foldbench.bench.images.loading import load_data
from foldbench.bench.machine.environment import choose_thread_counts, describe_environment
from foldbench.bench.measure.evaluation import Evaluation, prepare_evaluation, same_labels
from foldbench.bench.measure.gating import Gated, Rival, latency_test, measure_gate, memory_test
from foldbench.bench.measure.running import Contender
from foldbench.bench.measure.series import MeasurementSeries
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Role
from foldbench.bench.stages.gate_sides import Side, find_sides
from foldbench.bench.store.directory import Paths
from foldbench.bench.store.temporary import temporary_folder
from foldbench.bench.workers.protocol import Job

BASE, HEAD = "BASE", "HEAD"
_UNLABELLED_CHANGED = 0.01
"""Allowed share of images with another class, where there are no labels and nothing is said."""


def gate(
    names: tuple[str, str],
    overrides: Sequence[str],
    paths: Paths,
    listener: ProgressListener,
    chosen: tuple[str | None, str | None] = (None, None),
) -> GateResult:
    """Return what is known of the second of two networks against the first.

    Each is a run, the folder of one, an .onnx file or REVISION:CONFIG; `chosen` are backend and
    variant where they are said. Limits and settings are BASE's. Raises BenchError for networks that
    cannot be compared or do not run.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        base, head = find_sides(names, overrides, paths, folder, listener, chosen)
        settings = base.config.gate
        if base.classes != head.classes:
            raise ConfigError(
                f"{base.given} tells {base.classes} classes apart, {head.given} {head.classes}: "
                "they are no versions of one network"
            )
        evaluations = images_of((base, head), paths, listener, stack)
        threads = choose_thread_counts(base.config.compare.thread_counts, "compare.threads")[0]
        gated = Gated(
            base=make_rival(base, evaluations[0], threads, BASE, settings),
            again=make_rival(base, evaluations[0], threads, BASE, settings, "again"),
            head=make_rival(head, evaluations[1], threads, HEAD, settings),
        )
        measure_gate(gated, settings, base.config.compare, listener)
        checks = tuple(_checks(gated, (base, head), evaluations[0], settings))
    return GateResult(
        base=base.given,
        head=head.given,
        checks=checks,
        alpha=settings.alpha,
        beta=settings.beta,
        on_unclear=settings.on_unclear,
        seconds=time.monotonic() - started,
        processes=gated.processes,
        most=gated.most,
        environment=describe_environment(),
        notes=tuple(_notes(gated, settings)),
    )


def make_rival(
    side: Side,
    evaluation: Evaluation,
    threads: int,
    network: str,
    settings: GateSection,
    role: Role = "contender",
) -> Rival:
    """Return one of three: `side` under the name `network`, in the Python that its spec names.

    Raises BackendError for a batch size that it does not run at.
    """
    spec = side.spec
    refused = spec.refuse_batches(*settings.batch_sizes)
    if refused or spec.path is None:
        raise BackendError(f"{side.given}: {refused or 'it has no file to run'}")
    job = Job(
        backend=spec.backend,
        device=spec.device,
        threads=threads,
        variant=spec.variant,
        folder=side.folder,
        path=spec.path,
        images=evaluation.images,
        mean=side.preprocessing.mean,
        std=side.preprocessing.std,
        classes=side.classes,
        batch_size=evaluation.batch_size,
        first_batch_size=settings.batch_sizes[0],
        python=spec.python,
        fixed_batch=spec.fixed_batch,
    )
    played = replace(spec, role=role)
    return Rival(Contender(played, baseline=spec.way, network=network), job)


def images_of(
    sides: tuple[Side, Side], paths: Paths, listener: ProgressListener, stack: ExitStack
) -> tuple[Evaluation, Evaluation]:
    """Return the test images as each side is given them: the same ones, in its own size.

    A file that stands beside a run is given the run's images, unless the command names others.
    """
    loaded: dict[str, ImageSet] = {}
    made: dict[tuple[str, tuple[str, ...]], Evaluation] = {}
    found: list[tuple[Evaluation, ImageSet]] = []
    for side, other in (sides, sides[::-1]):
        data = _data_of(side, other)
        key = data.model_dump_json(exclude={"mean", "std"})
        if key not in loaded:
            loaded[key] = load_data(data, paths.cache, listener, needs_train=False)
        classes = side.class_names or other.class_names or _numbered(loaded[key], side.classes)
        ids = side.class_ids or other.class_ids
        images = match_classes(classes, loaded[key], listener, ids)
        if (key, classes) not in made:
            settings = side.config.evaluate.model_copy(
                update={"protocol": "clean", "mirror": False}
            )
            made[key, classes], _ = stack.enter_context(prepare_evaluation(settings, images.test))
        found.append((made[key, classes], images))
    (base, of_base), (head, of_head) = found
    named = [(i.info.name, i.info.test_files_sha256) for i in (of_base, of_head)]
    if not same_labels(base, head) or named[0] != named[1]:
        raise DataError(
            f"{sides[0].given} and {sides[1].given} are tested on different images "
            f"({of_base.info.title}; {of_head.info.title}): give both the same with --data"
        )
    return base, head


def _data_of(side: Side, other: Side) -> DataSection:
    data = side.config.data
    if side.is_run or not other.is_run or data.path is not None:
        return data
    size = {key: getattr(data, key) for key in ("image_size", "channels")}
    return other.config.data.model_copy(update=size)


def _numbered(images: ImageSet, count: int) -> tuple[str, ...]:
    """Return the names of the images' classes, or numbers where there are others."""
    if len(images.info.classes) == count:
        return images.info.classes
    return tuple(str(number) for number in range(count))


def _checks(
    gated: Gated, sides: tuple[Side, Side], evaluation: Evaluation, settings: GateSection
) -> Iterator[Check]:
    test = latency_test(settings, gated.most)
    for size in settings.batch_sizes:
        yield check_latency(size, gated.generations(size), medians_of(gated, size), test)
    logits = [rival.contender.result.logits for rival in (gated.base, gated.head)]
    base, head = logits
    if base is not None and head is not None:
        labels = evaluation.labels
        scored = labels is not None and not any(side.random_weights for side in sides)
        if labels is not None and scored:
            yield check_accuracy(
                labels,
                base.argmax(1),
                head.argmax(1),
                settings.max_drop_points / 100,
                (settings.alpha, settings.beta),
            )
        allowed = settings.max_changed
        if allowed is not None or not scored:
            allowed = _UNLABELLED_CHANGED if allowed is None else allowed
            yield check_agreement(measure_agreement(base, head), allowed)
    sizes = [side.spec.size_bytes for side in sides]
    if sizes[0] and sizes[1]:
        yield check_size(sizes[0], sizes[1], settings.max_larger)
    if gated.memory[0]:
        yield check_memory(*gated.memory, memory_test(settings, gated))


def medians_of(gated: Gated, batch_size: int) -> tuple[float | None, float | None]:
    """Return the median over blocks of BASE's and HEAD's median call, seconds."""
    found = []
    for rivals in ((gated.base, gated.again), (gated.head,)):
        blocks = [
            float(np.median(block.samples_s))
            for rival in rivals
            for block in rival.contender.result.times.blocks.get(MeasurementSeries(batch_size), ())
        ]
        found.append(float(np.median(blocks)) if blocks else None)
    return found[0], found[1]


def _notes(gated: Gated, settings: GateSection) -> Iterator[str]:
    for size in settings.batch_sizes:
        found = gated.generations(size)
        if found.disturbed:
            yield (
                f"batch {size}: other programs disturbed all rounds of {found.disturbed} of "
                f"{len(found.changes)} processes; they count all the same"
            )
