"""The section about MLPerf Inference scenarios: what LoadGen measured, and by which settings."""

from collections.abc import Iterator, Mapping

from foldbench.bench import units
from foldbench.bench.analysis.advice.scenarios import name_test
from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.records import Measurement, Run, Scenario, ScenarioResult
from foldbench.bench.samples.scenarios import OFFICIAL_DURATION_S
from foldbench.reports.rows.scenarios import scenarios_of
from foldbench.reports.sections.notes import Notes
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in


def describe_method(run: Run) -> str:
    """Return how the scenarios of a run were measured, in one line."""
    results = [result for m in run.measurements for result in m.scenarios]
    versions = " or ".join(sorted({result.loadgen_version for result in results}))
    duration_s = run.config["compare"]["loadgen"]["duration_s"]
    return (
        f"{f'LoadGen {versions}'.strip()} drove one contender after the other, for "
        f"{units.duration(duration_s)} or more in each scenario, after a warm-up; each in a "
        "process of its own, the others idle"
    )


def build_scenarios(column: Column, labelled: Labelled, notes: Notes) -> Iterator[ReportSection]:
    """Yield the sections where scenarios were measured; `column` heads the names of the runs."""
    driven = [(label, run) for label, run in labelled if scenarios_of(run)]
    columns = (
        column,
        left("contender"),
        left("scenario"),
        left("verdict"),
        right("result"),
        right("p50 ms"),
        right("p90 ms"),
        right("p99 ms"),
        right("queries"),
        left("notes"),
    )
    rows = [
        [*cells, notes.of(label, "scenario", subject)]
        for label, run in driven
        for m in contenders(run)
        for subject, cells in _rows(label_in(labelled, label), m)
    ]
    yield ReportSection(
        "MLPerf Inference scenarios (LoadGen)",
        table=tabulated(columns, rows),
        caption=_CAPTION if rows else "",
        pairs=_settings(driven),
    )
    yield _list_invalid(column, labelled)
    yield _list_particulars(column, labelled)


_CAPTION = (
    f"Not an official MLPerf result: that takes {OFFICIAL_DURATION_S} s or more, MLPerf's own "
    "networks, data and rules, and a review. A query lasts from its issue (server: from the time "
    "it was due) to its answer, from preprocessed images in host memory to logits in host memory. "
    "Result: for singlestream what 90 % and for multistream what 99 % of the queries do not "
    "exceed, with 99 % confidence; for offline samples a second; for server answered queries a "
    "second. An INVALID test has none. A percentile is blank where there are fewer queries than "
    "LoadGen's early stopping asks for."
)


def _rows(first: str, m: Measurement) -> Iterator[tuple[str, list[str]]]:
    """Yield each test's name and cells; one row without figures for a contender without tests."""
    if not m.scenarios:
        yield m.contender, [first, m.contender, "", m.status, "", "", "", "", ""]
    for result in m.scenarios:
        again = f" ({result.repeat})" if any(r.repeat > 1 for r in m.scenarios) else ""
        p = result.latencies
        yield (
            name_test(m.contender, result),
            [
                first,
                m.contender,
                result.scenario + again,
                result.validity,
                _result(result),
                units.milliseconds(p.p50_s) if p else "",
                units.milliseconds(p.p90_s) if p else "",
                units.milliseconds(p.p99_s) if p else "",
                units.count(result.query_count),
            ],
        )


def _result(result: ScenarioResult) -> str:
    """Return the figure that MLPerf reports for the scenario, blank unless the test is VALID."""
    if result.validity == "INVALID":
        return ""
    if result.scenario == "offline":
        return f"{units.rate(result.samples_per_s)} samples/s"
    if result.scenario == "server":
        return f"{units.rate(result.completed_qps)} queries/s"
    return units.duration(result.early_stopping_s)


_WAYS: Mapping[Scenario, str] = {
    "singlestream": "one image after another",
    "multistream": "{samples} images as one batch, one batch after another",
    "offline": "all images in one query, as many as should fill the time, in batches of {batch}",
    "server": "{qps} images a second on average, at random times (Poisson), in batches of what has "
    "queued ({sizes}); {percent} % have to be answered within {bound}",
}


def _settings(driven: Labelled) -> tuple[tuple[str, str], ...]:
    """Return each scenario with what LoadGen went by; several lines where runs differ."""
    return tuple(
        dict.fromkeys((result.scenario, _describe(result)) for _, _, result in _tests(driven))
    )


def _describe(result: ScenarioResult) -> str:
    settings = result.settings
    way = _WAYS[result.scenario].format(
        samples=settings.samples_per_query,
        batch=units.count(result.batch_sizes[-1]),
        sizes=", ".join(map(units.count, result.batch_sizes)),
        qps=units.plain(settings.target_qps),
        percent=units.plain(100 * settings.target_percentile),
        bound=units.duration(settings.latency_bound_s),
    )
    least = f"{units.duration(settings.min_duration_s)} or more"
    if result.scenario != "offline":
        least += f" and {units.count(settings.min_query_count)} queries or more"
    seeds = dict.fromkeys((settings.qsl_seed, settings.sample_seed, settings.schedule_seed))
    return (
        f"{way}; {least}; {units.count(settings.loaded_samples)} test images in memory, seeds "
        f"{', '.join(map(str, seeds))}"
    )


def _list_invalid(column: Column, labelled: Labelled) -> ReportSection:
    columns = (column, left("contender"), left("scenario"), left("reasons"))
    rows = [
        [
            label_in(labelled, label),
            m.contender,
            result.scenario,
            "; ".join(reason.rstrip(".") for reason in result.reasons),
        ]
        for label, m, result in _tests(labelled)
        if result.validity == "INVALID"
    ]
    return ReportSection("INVALID tests", table=tabulated(columns, rows))


def _list_particulars(column: Column, labelled: Labelled) -> ReportSection:
    columns = (
        column,
        left("contender"),
        left("scenario"),
        right("seconds"),
        right("samples"),
        right("calls"),
        right("outputs checked"),
        right("p95 ms"),
        right("p97 ms"),
        right("p99.9 ms"),
        right("over the bound"),
        right("due queries/s"),
        right("waited for a CPU"),
        right("cores of others"),
        left("sha256 of LoadGen's log"),
    )
    rows = [
        [label_in(labelled, label), m.contender, result.scenario, *_particular_cells(result)]
        for label, m, result in _tests(labelled)
    ]
    return ReportSection(
        "Scenario particulars",
        table=tabulated(columns, rows),
        caption="Samples: images that were computed; calls: of the network, for that. Outputs "
        "checked: of those calls, compared with the accuracy pass after the test. Waited: time "
        "that threads had no CPU, as a share of the duration, summed over threads. Cores of "
        "others: how many other programs kept busy meanwhile."
        if rows
        else "",
        detail=True,
    )


def _particular_cells(result: ScenarioResult) -> list[str]:
    p = result.latencies
    return [
        units.seconds(result.duration_s),
        units.count(result.sample_count),
        units.count(result.call_count),
        units.count(result.checked_outputs),
        units.milliseconds(p.p95_s) if p else "",
        units.milliseconds(p.p97_s) if p else "",
        units.milliseconds(p.p99_9_s) if p else "",
        units.count(result.over_latency_count),
        units.rate(result.scheduled_qps),
        units.by_name("_ratio", result.run_delay_ratio) if result.run_delay_ratio else "",
        units.seconds(result.foreign_load_cores),
        result.log_sha256,
    ]


def _tests(labelled: Labelled) -> Iterator[tuple[str, Measurement, ScenarioResult]]:
    for label, run in labelled:
        for m in contenders(run):
            for result in m.scenarios:
                yield label, m, result
