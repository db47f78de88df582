"""What was done to come to a comparison, a line for each stage."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from foldbench.bench import units
from foldbench.bench.analysis.speedups import completed, contenders
from foldbench.bench.records import PLAIN, Run
from foldbench.reports.rows.export import ExportRow, export_rows
from foldbench.reports.rows.latency import LatencyRow
from foldbench.reports.rows.scenarios import scenarios_of

_THOUSANDS, _MILLIONS = 10_000, 1_000_000
"""From where on parameters are told in these."""


@dataclass(frozen=True)
class Stage:
    """One stage: what it made, and how long it took."""

    name: str
    text: str
    seconds: float | None = None
    """None where that was not recorded."""


def stages_of(run: Run, rows: Sequence[LatencyRow], took_s: float | None) -> tuple[Stage, ...]:
    """Return the stages of a run; `rows` are its latencies, `took_s` what the comparison took."""
    found = (_training(run), _export(run), Stage("compare", _comparison(run, rows), took_s))
    return tuple(stage for stage in found if stage is not None)


def _training(run: Run) -> Stage | None:
    checkpoint = run.checkpoint
    if checkpoint.random_weights:
        return Stage("network", "random weights: its answers mean nothing")
    if not checkpoint.history:
        origin = checkpoint.source.weights if checkpoint.source else None
        return Stage("network", f"weights of {origin.title}") if origin else None
    last = checkpoint.history[-1]
    epochs = len(checkpoint.history)
    text = f"{units.count(epochs)} {'epoch' if epochs == 1 else 'epochs'}"
    text += f" on {checkpoint.device}" if checkpoint.device else ""
    if last.validation_accuracy is not None:
        text += f", validation {units.percent(last.validation_accuracy)} %"
    return Stage("train", text, sum(epoch.duration_s for epoch in checkpoint.history))


def _export(run: Run) -> Stage | None:
    rows = export_rows(run)
    if not rows:
        return None
    return Stage("export", export_text(run), sum(row.export_s for row in rows))


def parameters_of(run: Run) -> str:
    """Return how large the network is, such as ``3.51 M parameters``; blank where unknown."""
    number = run.checkpoint.parameter_count
    if not number:
        return ""
    if number < _THOUSANDS:
        return f"{units.count(number)} parameters"
    if number < _MILLIONS:
        return f"{units.mega(number * 1000)} k parameters"
    return f"{units.mega(number)} M parameters"


def export_text(run: Run) -> str:
    """Return what exporting made, such as ``8 BatchNorms folded, opset 20, 13.4 MiB``."""
    rows = [row for row in export_rows(run) if not _is_step(row)]
    if not rows:
        return ""
    exact = [row for row in rows if row.precision == "float32"]
    folded = (row for row in exact if row.folded_by or row.batchnorms_after == 0)
    return ", ".join(_made(next(folded, rows[0]), len(rows)))


def _is_step(row: ExportRow) -> bool:
    """Return whether a file is one on the way to what is shipped, made to be compared alone."""
    return row.variant == PLAIN or row.variant.partition("+")[0] == "bare" or "+" in row.variant


def _made(row: ExportRow, files: int) -> Iterator[str]:
    folded = row.batchnorms_before - row.batchnorms_after
    if folded:
        yield f"{units.count(folded)} BatchNorm{'s' * (folded > 1)} folded"
    if files > 1:
        yield f"{units.count(files)} files"
    yield f"opset {row.opset}"
    yield units.size(row.size_bytes)
    if row.parity_error is not None and row.parity_tolerance is not None:
        error, limit = map(units.short_error, (row.parity_error, row.parity_tolerance))
        yield f"parity {error} (limit {limit})"


def _comparison(run: Run, rows: Sequence[LatencyRow]) -> str:
    done = len(completed(run))
    text = f"{units.count(done)} contender{'s' * (done != 1)}"
    lost = len(contenders(run)) - done
    if lost:
        text += f" ({units.count(lost)} more did not run)"
    if scenarios_of(run):
        return f"{text}, LoadGen's {', '.join(scenarios_of(run))}"
    timed = [row for row in rows if row.batch_size is not None and row.boundary == "host"]
    sizes = sorted({row.batch_size for row in timed if row.batch_size is not None})
    if not sizes:
        return text
    text += f" x {len(sizes)} batch size{'s' * (len(sizes) > 1)}"
    made = clean = 0
    for size in sizes:
        here = [row for row in timed if row.batch_size == size]
        made += max(row.rounds or 0 for row in here)
        clean += min(row.clean_rounds or 0 for row in here)
    return f"{text}, {units.count(clean)} of {units.count(made)} rounds undisturbed"
