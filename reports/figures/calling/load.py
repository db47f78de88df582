"""What a network gives under load: several calls at once, larger batches, rates of arrivals."""

from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from foldbench.bench import units
from foldbench.bench.analysis.capacity import RateRow, rate_rows
from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.analysis.streams import StreamRow, stream_rows
from foldbench.bench.analysis.sweep import sweep_rows
from foldbench.bench.records import Beside, Measurement
from foldbench.reports.figures.calling.curves import Axes, Bound, Curve, curve_panel
from foldbench.reports.figures.figure import ReportFigure
from foldbench.reports.figures.marks import SeriesStyle
from foldbench.reports.rows.capacity import capacities_of
from foldbench.reports.text.labels import Labelled, label_in
from foldbench.reports.text.names import name_of

Styles = Mapping[str, SeriesStyle]


def stream_figure(labelled: Labelled, series: Styles) -> ReportFigure | None:
    """Return a panel for each run: latency against calls/s, joined from fewer calls to more."""
    panels: list[Markup] = []
    shown: list[str] = []
    for label, run in labelled:
        curves = [curve for m in contenders(run) for curve in _loads(m, series)]
        if not curves:
            continue
        shown += [m.contender for m in contenders(run) if stream_rows(m)]
        heading = f"{label_in(labelled, label, after=': ')}Latency against calls a second"
        axes = Axes("calls/s, logarithmic scale", "ms a call")
        panels.append(curve_panel(f"streams-{len(panels)}", heading, curves, axes))
    return _figure(
        "streams",
        "Latency and throughput of several calls at once",
        panels,
        "A point is one load, the number beside it its calls at once: the median of a call against "
        "the calls/s of all together. Lines join loads of one kind (sessions, callers, streams) "
        "with the same number of threads. To the right is more throughput, upwards is longer "
        "latency.",
        _legend(shown, series),
    )


def sweep_figure(labelled: Labelled, series: Styles) -> ReportFigure | None:
    """Return a panel for each run: images/s against the batch size."""
    panels: list[Markup] = []
    shown: list[str] = []
    for label, run in labelled:
        rows = {m.contender: sweep_rows(m) for m in contenders(run)}
        sizes = sorted({row.batch_size for of_one in rows.values() for row in of_one})
        curves = []
        for name, of_one in rows.items():
            found = [(row.batch_size, row.images_per_s) for row in of_one if row.images_per_s]
            if found:
                told = ", ".join(f"batch {units.count(n)} {units.rate(v)}" for n, v in found)
                points = tuple((sizes.index(n), v) for n, v in found)
                curves.append(Curve(f"{name_of(name)}: {told} images/s", series[name], points))
                shown.append(name)
        if curves:
            heading = f"{label_in(labelled, label, after=': ')}Images a second by batch size"
            axes = Axes("batch size", "images/s", tuple(map(units.count, sizes)))
            panels.append(curve_panel(f"sweep-{len(panels)}", heading, curves, axes))
    return _figure(
        "sweep",
        "Images a second by batch size",
        panels,
        "Each batch size is timed in turns with half of it; a line ends where twice the batch gave "
        "no more.",
        _legend(shown, series),
    )


def capacity_figure(
    labelled: Labelled, beside: Sequence[Beside], series: Styles
) -> ReportFigure | None:
    """Return a panel for each contender: percentiles of latency against the rate of arrivals."""
    panels: list[Markup] = []
    for label, capacity in capacities_of(labelled, beside):
        for row in capacity.contenders:
            rates = rate_rows(row.tests, capacity.at, capacity.within_s)
            style = series.get(row.contender, SeriesStyle(0, 0))
            curves = list(_percentiles(rates, style))
            if not curves:
                continue
            bounds = [Bound(1e3 * capacity.within_s, f"{units.duration(capacity.within_s)} bound")]
            if row.holds_per_s:
                held = f"holds {units.rate(row.holds_per_s)}/s"
                bounds.append(Bound(row.holds_per_s, held, is_upright=True))
            heading = f"{label_in(labelled, label, after=': ')}{name_of(row.contender)}"
            axes = Axes("images due a second, logarithmic scale", "ms from when it was due")
            panels.append(curve_panel(f"capacity-{len(panels)}", heading, curves, axes, bounds))
    return _figure(
        "capacity",
        "Latency by rate of arrivals",
        panels,
        "Percentiles of latency at each rate that was tested, all of its tests together.",
    )


def _loads(m: Measurement, series: Styles) -> Iterator[Curve]:
    """Yield a curve for each number of threads and way of sharing, from one call at once on."""
    rows = [row for row in stream_rows(m) if row.calls_per_s and row.median_s]
    first = {row.series.threads: row for row in rows if row.series.streams == 1}
    groups: dict[tuple[str, int], list[StreamRow]] = {}
    for row in rows:
        key = row.series.sharing, row.series.threads
        shared = key[0] != "sessions" and key not in groups and key[1] in first
        groups.setdefault(key, [first[key[1]]] if shared else []).append(row)
    for (sharing, threads), mine in groups.items():
        told = ", ".join(
            f"{units.count(row.series.streams)} at once {units.rate(row.calls_per_s)} calls/s "
            f"{units.milliseconds(row.median_s)} ms"
            for row in mine
        )
        points = tuple((row.calls_per_s or 0.0, 1e3 * (row.median_s or 0.0)) for row in mine)
        what = f"{name_of(m.contender)}, {sharing} of {units.count(threads)} threads"
        labels = tuple(units.count(row.series.streams) for row in mine)
        yield Curve(f"{what}: {told}", series[m.contender], points, labels=labels)


def _percentiles(rates: Sequence[RateRow], style: SeriesStyle) -> Iterator[Curve]:
    for i, name in enumerate(("p50", "p95", "p99")):
        found = [(row.rate_per_s, getattr(row, f"{name}_s")) for row in rates]
        found = [(rate, value_s) for rate, value_s in found if value_s]
        if found:
            told = ", ".join(f"{units.rate(r)}/s {units.milliseconds(s)} ms" for r, s in found)
            points = tuple((rate, 1e3 * value_s) for rate, value_s in found)
            yield Curve(f"{name}: {told}", SeriesStyle(style.hue, i), points, name)


def _legend(shown: Sequence[str], series: Styles) -> tuple[tuple[SeriesStyle, str], ...]:
    return tuple((series[name], name_of(name)) for name in dict.fromkeys(shown))


def _figure(
    identity: str,
    title: str,
    panels: Sequence[Markup],
    caption: str,
    legend: tuple[tuple[SeriesStyle, str], ...] = (),
) -> ReportFigure | None:
    if not panels:
        return None
    return ReportFigure(identity, title, tuple(panels), caption, table=None, legend=legend)
