"""An interrupted comparison goes on: with the same settings and files on the same machine.

What goes on runs in new processes, and how a process lies in memory is part of what varies. So the
blocks are marked as another session's, rounds go on counting (no round holds blocks of two
sessions), and the record says when it was resumed.
"""

import datetime
from collections.abc import Callable, Sequence

from foldbench.bench.analysis.comparable import ALWAYS_DIFFERENT
from foldbench.bench.errors import RunError
from foldbench.bench.measure.contenders import ContenderSpec, Subject
from foldbench.bench.measure.running import Contender
from foldbench.bench.measure.samples import Found, SampleLog, Samples, read_samples, replay
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Measurement, Opening, Run, Session
from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.store.files import json_sha256

Measure = Callable[[Sequence[Contender]], tuple[Measurement, ...]]
"""Measures contenders and returns a row for each."""


def now() -> str:
    """Return the time, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def describe_opening(
    record: Run, subject: Subject, specs: Sequence[ContenderSpec], threads: int
) -> Opening:
    """Return the first line of the log: the record without rows, and what has to stay the same."""
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
    return Opening(
        identity={what: json_sha256(value) for what, value in identity.items()},
        record=record,
        ablation=subject.ablation,
    )


def measure_or_go_on(
    run: RunDirectory,
    opening: Opening,
    specs: Sequence[ContenderSpec],
    measure: Measure,
    listener: ProgressListener,
    fresh: bool = False,
) -> tuple[tuple[Measurement, ...], tuple[str, ...]]:
    """Return a row for each of `specs`, and when the comparison was resumed.

    Goes on with an interrupted comparison that was the same one, unless `fresh`. A row that failed
    in it stays failed: what it answered wrong once is not forgotten.
    """
    earlier = _find_interrupted(run, opening, listener, fresh)
    found = replay(earlier.events) if earlier else {}
    sessions = (*earlier.sessions(), now()) if earlier else ()
    with SampleLog(run.samples, earlier.size_bytes if earlier else 0) as log:
        log.append(Session(created=sessions[-1]) if sessions else opening)
        failed = {n: r.to_measurement() for n, r in found.items() if _has_failed(r)}
        remaining = [Contender(spec, log=log.append) for spec in specs if spec.name not in failed]
        for contender in remaining:
            if contender.name in found:
                _restore(contender, found[contender.name], len(sessions) + 1)
        try:
            rows = failed | {row.contender: row for row in measure(remaining)}
        except KeyboardInterrupt:
            listener.note(f"what was timed is kept: bench report {run.name} shows it")
            raise
    return tuple(rows[spec.name] for spec in specs), sessions


def _has_failed(row: Found) -> bool:
    return row.measurement.status == "failed"


def _restore(contender: Contender, row: Found, session: int) -> None:
    """Give the contender what it had before the interruption."""
    result = contender.result
    result.times, result.scenarios = row.times, row.scenarios
    result.not_resident = row.measurement.not_resident
    contender.session = session


def _find_interrupted(
    run: RunDirectory, opening: Opening, listener: ProgressListener, fresh: bool
) -> Samples | None:
    """Return the interrupted comparison that goes on; set one aside that cannot."""
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
        f"going on with the comparison of {run.name} that was begun "
        f"{samples.opening.record.created} and interrupted; --fresh begins anew"
    )
    return samples


def _set_aside(run: RunDirectory, why: str, listener: ProgressListener) -> None:
    aside = run.samples.with_name("samples-old.jsonl")
    run.samples.replace(aside)
    listener.note(f"beginning anew ({why}); the interrupted comparison is kept as {aside}")
