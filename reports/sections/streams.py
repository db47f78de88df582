"""The sections about load: several calls at once, and larger and larger batches."""

from collections.abc import Iterator

from foldbench.bench import units
from foldbench.bench.analysis.estimates import Ratio
from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.analysis.streams import StreamRow, best_of, stream_rows
from foldbench.bench.analysis.sweep import SweepRow, best_batch, sweep_rows
from foldbench.bench.records import Measurement, StreamSeries
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in
from foldbench.reports.text.names import spoken

_STREAMS = (
    left("contender"),
    right("at once"),
    right("threads each"),
    right("calls/s"),
    right("× the first"),
    right("95 % interval"),
    left("verdict"),
    right("median ms"),
    right("p95 ms"),
)
_CAPTION = (
    "Calls of one process under full load: as many sessions as calls at once, one session with as "
    "many callers, or one with as many streams of its runtime's own. Calls/s of all together, "
    "against the contender's first row. More are not tried where more gave no more."
)


def build_streams(column: Column, labelled: Labelled) -> Iterator[ReportSection]:
    """Yield the sections; they are empty where they were not asked for."""
    loads = [
        [label_in(labelled, label), *_load_cells(row)]
        for label, run in labelled
        for m in contenders(run)
        for row in stream_rows(m)
    ]
    best = _best(labelled)
    yield ReportSection(
        "Calls at once",
        table=tabulated((column, *_STREAMS), loads),
        caption=_CAPTION if loads else "",
        pairs=tuple(best[1:]),
        key="streams",
        lead=": ".join(best[0]) if best else "",
    )
    columns = (
        column,
        left("contender"),
        right("batch"),
        right("median ms"),
        right("images/s"),
        right("× half the batch"),
        right("95 % interval"),
        left("verdict"),
    )
    rows = [
        [label_in(labelled, label), *_batch_cells(row)]
        for label, run in labelled
        for m in contenders(run)
        for row in sweep_rows(m)
    ]
    batches = _best_batches(labelled)
    yield ReportSection(
        "Larger batches",
        table=tabulated(columns, rows),
        caption="Doubled until images/s no longer rise beyond the interval; each size in a process "
        "of its own."
        if rows
        else "",
        pairs=tuple(batches[1:]),
        key="sweep",
        lead=": ".join(batches[0]) if batches else "",
    )


def _load_cells(row: StreamRow) -> list[str]:
    return [
        row.contender,
        _load(row.series),
        units.count(row.series.threads),
        units.rate(row.calls_per_s),
        *_ratio(row.gain),
        row.series.reason or units.verdict(row.verdict),
        units.milliseconds(row.median_s),
        units.milliseconds(row.p95_s),
    ]


def _load(series: StreamSeries) -> str:
    what = series.sharing if series.streams > 1 else series.sharing.removesuffix("s")
    return f"{units.count(series.streams)} {what}"


def _ratio(ratio: Ratio | None) -> tuple[str, str]:
    return units.estimate(ratio.point, ratio.low, ratio.high) if ratio else ("", "")


def _batch_cells(row: SweepRow) -> list[str]:
    return [
        row.contender,
        units.count(row.batch_size),
        units.milliseconds(row.median_s),
        units.rate(row.images_per_s),
        *_ratio(row.gain),
        row.reason or units.verdict(row.verdict),
    ]


def _named(labelled: Labelled, label: str, m: Measurement) -> str:
    return f"{label_in(labelled, label)} {spoken(m.contender)}".strip()


def _best(labelled: Labelled) -> list[tuple[str, str]]:
    """Return a sentence for each contender, the one that gains most by several calls first."""
    found = []
    for label, run in labelled:
        for m in contenders(run):
            row = best_of(m)
            if row is not None and m.as_called:
                compared = any(one.verdict for one in stream_rows(m))
                told = _sentence(row, m.as_called.streams[0], compared)
                gain = row.gain.point if row.gain else 1.0
                found.append((gain, _named(labelled, label, m), told))
    found.sort(key=lambda one: -one[0])
    return [(name, told) for _, name, told in found]


def _sentence(row: StreamRow, first: StreamSeries, compared: bool) -> str:
    alone = f"{_load(first)} of {_threads(first.threads)}"
    if row.gain is None and not compared:
        return "too few clean rounds to hold one load against another: raise --budget."
    if row.gain is None:
        return f"no load gives more calls a second than {alone}, {units.rate(row.calls_per_s)}."
    ratio, span = _ratio(row.gain)
    slower, _ = _ratio(row.slowdown)
    latency = f", at {slower} times its latency" if slower else ""
    return (
        f"most calls a second: {_load(row.series)}, {_threads(row.series.threads)} each, {ratio} "
        f"times ({span}) as many as {alone}{latency}."
    )


def _threads(count: int) -> str:
    return f"{units.count(count)} thread{'s' * (count > 1)}"


def _best_batches(labelled: Labelled) -> list[tuple[str, str]]:
    """Return a sentence for each contender, the one with the most images/s first."""
    found = []
    for label, run in labelled:
        for m in contenders(run):
            row = best_batch(m)
            if row is not None:
                told = _batch_sentence(row, any(one.verdict for one in sweep_rows(m)))
                found.append((row.images_per_s or 0.0, _named(labelled, label, m), told))
    found.sort(key=lambda one: -one[0])
    return [(name, told) for _, name, told in found]


def _batch_sentence(row: SweepRow, compared: bool) -> str:
    if not compared:
        return "too few clean rounds to hold one batch size against another: raise --budget."
    return (
        f"most images a second, {units.rate(row.images_per_s)}, at batch "
        f"{units.count(row.batch_size)}; twice the batch was not shown to give more."
    )
