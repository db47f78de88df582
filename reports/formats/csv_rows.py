"""A report for spreadsheets and data frames: CSV, one row per contender and batch size."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite

from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.records import Run
from foldbench.reports.rows.accuracy import accuracy_rows
from foldbench.reports.rows.latency import latency_rows
from foldbench.reports.text.escaping import visible
from foldbench.reports.text.machines import machine_of
from foldbench.reports.text.names import name_of

COLUMNS: Mapping[str, str] = {
    "run": "name of the run",
    "created": "when it was compared, ISO 8601",
    "config": "configuration that it was trained from",
    "model": "network",
    "parameters": "of the network, a count",
    "data": "whose test split was scored",
    "machine": "on which it was measured",
    "contender": "backend, variant and device; unique in the run",
    "contender_name": "the same in words",
    "backend": "what ran the network",
    "variant": "which form of the network",
    "requested_device": "where it should run",
    "actual_device": "where it ran, as the runtime says; blank when it did not",
    "runtime": "library, version and settings",
    "precision": "of the computation",
    "threads": "as read back from the runtime",
    "batch_size": "images in a call; blank when nothing was timed",
    "boundary": "host: transfers to and from a GPU included; device: without them",
    "status": "ok, failed or skipped",
    "reason": "why it did not run",
    "correct": "test images that it got right",
    "images": "test images",
    "accuracy_ratio": "share of 1 that is right (top-1)",
    "accuracy_low_ratio": "lower end of its 95 % interval (Wilson)",
    "accuracy_high_ratio": "upper end",
    "homework_accuracy_ratio": "what the homework reports; blank where it may not stand beside it",
    "same_class": "test images with the class that unfolded torch on the CPU gives",
    "max_abs_difference": "largest difference of a logit from that one's",
    "median_s": "median of the clean rounds' medians, seconds a call",
    "p95_s": "95 % quantile of the clean rounds' calls; blank below 200 calls",
    "images_per_s": "batch size divided by the median",
    "speedup_reference": "the contender that the speed-up is against",
    "speedup_ratio": "times as fast as the reference",
    "speedup_low_ratio": "lower end of its 95 % interval (Student's t between processes; below 3 a "
    "bootstrap over rounds)",
    "speedup_high_ratio": "upper end",
    "speedup_floor_ratio": "of the 5 % quantiles, where too few rounds were clean for a speed-up",
    "noise_floor_ratio": "the A/A difference: the reference against itself",
    "verdict": "faster, slower or no difference resolved; blank without an interval",
    "speedup_p_value": "of a ratio of 1, adjusted by Holm's method for the comparison's rows",
    "speedup_rounds": "clean rounds that the interval is from",
    "speedup_processes": "processes of each contender that made them",
    "calls": "all that were timed",
    "rounds": "all that were made",
    "clean_rounds": "those in which neither it nor the reference was disturbed",
    "size_bytes": "of the file that holds just this network",
    "open_s": "loading the file and building the session",
    "peak_memory_bytes": "largest resident set of its process",
    "checkpoint_sha256": "of the weights",
    "source_sha256": "of the file that was run",
    "evaluation_sha256": "of the test images and labels",
}
"""Every column and what it holds; seconds, bytes and shares of 1, unrounded, blanks for None."""

CellValue = str | float | int | None


def render_csv(runs: Sequence[Run]) -> str:
    """Return the header and the rows, lines ending in a newline.

    Raises ValueError when there are no runs.
    """
    if not runs:
        raise ValueError("a report needs at least one run")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in runs:
        for row in rows_of(run):
            writer.writerow([_cell(row.get(column)) for column in COLUMNS])
    return text.getvalue()


def rows_of(run: Run) -> Iterator[dict[str, CellValue]]:
    """Yield a row per contender, batch size and boundary, its columns by name as in COLUMNS."""
    measured = {m.contender: m for m in contenders(run)}
    scored = {row.contender: row for row in accuracy_rows(run)}
    for row in latency_rows(run):
        m, share = measured[row.contender], scored[row.contender]
        yield {
            **_of_run(run),
            "contender": m.contender,
            "contender_name": name_of(m.contender),
            "backend": m.backend,
            "variant": m.variant,
            "requested_device": m.requested_device,
            "actual_device": m.actual_device,
            "runtime": m.runtime,
            "precision": m.precision,
            "threads": m.threads,
            "batch_size": row.batch_size,
            "boundary": row.boundary if row.batch_size is not None else None,
            "status": m.status,
            "reason": m.reason,
            "correct": share.correct,
            "images": share.total,
            "accuracy_ratio": share.accuracy,
            "accuracy_low_ratio": share.low,
            "accuracy_high_ratio": share.high,
            "homework_accuracy_ratio": share.homework_accuracy,
            "same_class": share.agreement_top1_equal,
            "max_abs_difference": share.max_abs_difference,
            "median_s": row.median_s,
            "p95_s": row.p95_s,
            "images_per_s": row.images_per_s,
            "speedup_reference": row.speedup_reference,
            "speedup_ratio": row.speedup_ratio,
            "speedup_low_ratio": row.speedup_low,
            "speedup_high_ratio": row.speedup_high,
            "speedup_floor_ratio": row.speedup_floor_ratio,
            "noise_floor_ratio": row.noise_floor,
            "verdict": row.verdict,
            "speedup_p_value": row.p_value,
            "speedup_rounds": row.interval_rounds,
            "speedup_processes": row.interval_processes,
            "calls": row.calls,
            "rounds": row.rounds,
            "clean_rounds": row.clean_rounds,
            "size_bytes": m.size_bytes,
            "open_s": m.open_s,
            "peak_memory_bytes": m.peak_memory_bytes,
            "source_sha256": m.source_sha256,
        }


def _of_run(run: Run) -> dict[str, CellValue]:
    return {
        "run": run.name,
        "created": run.created,
        "config": run.checkpoint.config_name,
        "model": run.checkpoint.network,
        "parameters": run.checkpoint.parameter_count,
        "data": run.data.title,
        "machine": machine_of(run),
        "checkpoint_sha256": run.checkpoint.sha256,
        "evaluation_sha256": run.evaluation_sha256,
    }


def _cell(value: CellValue) -> str:
    """Return a value as text; one that a spreadsheet would take for a formula gets a quote before.

    Control and invisible characters become escapes: such files are shown on terminals too.
    Source: OWASP, CSV injection.
    """
    if value is None or (isinstance(value, float) and not isfinite(value)):
        return ""
    if isinstance(value, str):
        quote = "'" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else ""
        return quote + visible(value)
    return repr(value)
