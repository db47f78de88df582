"""An interrupted comparison goes on: with the same settings and files on the same machine.

What goes on runs in new processes, and how a process lies in memory is part of what varies. So the
blocks are marked as another session's, rounds go on counting (no round holds blocks of two
sessions), and the record says when it was resumed.
"""

import datetime
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from foldbench.bench.analysis.comparable import ALWAYS_DIFFERENT
from foldbench.bench.errors import RunError
from foldbench.bench.measure.contenders import ContenderSpec, Subject
from foldbench.bench.measure.running import Contender
from foldbench.bench.measure.samples import Found, SampleLog, Samples, read_samples, replay
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Measurement, Opening, Run, Session
from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.store.files import json_sha256

Measure = Callable[[Sequence[Sequence[Contender]]], Sequence[tuple[Measurement, ...]]]
"""Measures the contenders of each network and returns a row for each."""


@dataclass(frozen=True)
class Part:
    """One network of a comparison: where it is recorded, and its rows."""

    run: RunDirectory
    opening: Opening
    specs: Sequence[ContenderSpec]
    baseline: str = "torch/unfolded"


def now() -> str:
    """Return the time, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def describe_opening(
    record: Run,
    subject: Subject,
    specs: Sequence[ContenderSpec],
    threads: int,
    together: Sequence[str] = (),
) -> Opening:
    """Return the first line of the log: the record without rows, and what has to stay the same.

    `together` names the weights of all networks where there are several.
    """
    machine = {k: v for k, v in record.environment.items() if k not in ALWAYS_DIFFERENT}
    settings = {
        "compare": record.config["compare"],
        "evaluate": record.config["evaluate"],
        "ablation": subject.ablation,
        "threads": threads,
    }
    identity = {
        "settings": settings,
        "contenders": [(spec.name, spec.source_sha256) for spec in specs],
        "weights": record.checkpoint.sha256,
        "images": record.evaluation_sha256,
        "machine or versions": machine,
    }
    if together:
        identity["networks"] = list(together)
    return Opening(
        identity={what: json_sha256(value) for what, value in identity.items()},
        record=record,
        ablation=subject.ablation,
    )


def measure_or_resume(
    parts: Sequence[Part], measure: Measure, listener: ProgressListener, fresh: bool = False
) -> list[tuple[tuple[Measurement, ...], tuple[str, ...]]]:
    """Return, for each part, a row for each of its specs, and when the comparison was resumed.

    Resumes an interrupted comparison that was the same one, unless `fresh`. A row that failed in it
    stays failed: what it answered wrong once is not forgotten.
    """
    earlier = _find_all_interrupted(parts, listener, fresh)
    with ExitStack() as stack:
        opened = [
            _open(part, samples, stack, part.run.name if len(parts) > 1 else "")
            for part, samples in zip(parts, earlier, strict=True)
        ]
        try:
            measured = measure([one.remaining for one in opened])
        except KeyboardInterrupt:
            names = " ".join(part.run.name for part in parts)
            listener.note(f"what was timed is kept: bench report {names} shows it")
            raise
    return [
        (one.merge(part.specs, rows), one.sessions)
        for part, one, rows in zip(parts, opened, measured, strict=True)
    ]


@dataclass(frozen=True)
class _Opened:
    """The contenders of one part that are still to be measured, and the rows that are not."""

    remaining: list[Contender]
    failed: dict[str, Measurement]
    sessions: tuple[str, ...]

    def merge(
        self, specs: Sequence[ContenderSpec], rows: Sequence[Measurement]
    ) -> tuple[Measurement, ...]:
        """Return all rows in the order of `specs`."""
        found = self.failed | {row.contender: row for row in rows}
        return tuple(found[spec.name] for spec in specs)


def _open(part: Part, earlier: Samples | None, stack: ExitStack, network: str) -> _Opened:
    """Open the log of one part, with what an interrupted comparison left there."""
    found = replay(earlier.events) if earlier else {}
    sessions = (*earlier.sessions(), now()) if earlier else ()
    log = stack.enter_context(SampleLog(part.run.samples, earlier.size_bytes if earlier else 0))
    log.append(Session(created=sessions[-1]) if sessions else part.opening)
    failed = {n: r.to_measurement() for n, r in found.items() if _has_failed(r)}
    remaining = [
        Contender(spec, log=log.append, baseline=part.baseline, network=network)
        for spec in part.specs
        if spec.name not in failed
    ]
    for contender in remaining:
        if contender.name in found:
            _restore(contender, found[contender.name], len(sessions) + 1)
    return _Opened(remaining, failed, sessions)


def _has_failed(row: Found) -> bool:
    return row.measurement.status == "failed"


def _restore(contender: Contender, row: Found, session: int) -> None:
    """Give the contender what it had before the interruption."""
    result = contender.result
    result.times, result.scenarios = row.times, row.scenarios
    result.as_called = row.as_called
    result.not_resident = row.measurement.not_resident
    contender.session = session


def _find_all_interrupted(
    parts: Sequence[Part], listener: ProgressListener, fresh: bool
) -> list[Samples | None]:
    """Return the interrupted comparison of each part that is resumed: of all of them, or of none.

    One that cannot be is set aside.
    """
    found = [_find_interrupted(part, listener, fresh) for part in parts]
    if all(found) or not any(found):
        return found
    for part, samples in zip(parts, found, strict=True):
        if samples is not None:
            _set_aside(part.run, "another network of the comparison has none", listener)
    return [None] * len(parts)


def _find_interrupted(part: Part, listener: ProgressListener, fresh: bool) -> Samples | None:
    """Return the interrupted comparison that can be resumed; set one aside that cannot."""
    run, opening = part.run, part.opening
    try:
        samples = read_samples(run.samples)
    except RunError:
        _set_aside(run, "it cannot be read", listener)
        return None
    if samples is None or not samples.has_figures():
        return None
    then = samples.opening.identity
    other = [what for what, value in opening.identity.items() if then.get(what) != value]
    if fresh or other:
        _set_aside(run, f"other {', '.join(other)}" if other else "--fresh", listener)
        return None
    listener.note(
        f"resuming the comparison of {run.name} that was begun "
        f"{samples.opening.record.created} and interrupted; --fresh begins anew"
    )
    return samples


def _set_aside(run: RunDirectory, why: str, listener: ProgressListener) -> None:
    aside = run.samples.with_name("samples-old.jsonl")
    run.samples.replace(aside)
    listener.note(f"beginning anew ({why}); the interrupted comparison is kept as {aside}")
