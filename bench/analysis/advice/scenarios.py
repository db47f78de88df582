"""Warnings about MLPerf scenarios: tests that LoadGen finds INVALID, and what ran beside them."""

from collections.abc import Iterator, Mapping
from math import ceil

from foldbench.bench import units
from foldbench.bench.analysis.advice.rule import FOREIGN_LIMIT_CORES, Advice, Number, Rule
from foldbench.bench.analysis.clean import DIRTY_RUN_DELAY
from foldbench.bench.analysis.speedups import completed
from foldbench.bench.records import Measurement, Run, ScenarioResult
from foldbench.bench.samples.scenarios import MAX_DURATION_FACTOR


def _tests(run: Run) -> Iterator[tuple[Measurement, ScenarioResult]]:
    for measurement in completed(run):
        for result in measurement.scenarios:
            yield measurement, result


def name_test(contender: str, result: ScenarioResult) -> str:
    """Return what a test is called in warnings, such as ``ort/folded/cpu in server``."""
    return f"{contender} in {result.scenario}"


def _find_invalid(run: Run, kind: str) -> Iterator[Advice]:
    for m, result in _tests(run):
        if result.validity == "INVALID":
            numbers: dict[str, Number] = {
                "reason": result.reasons[0].rstrip("."),
                "remedy": _remedy(result),
            }
            yield Advice(kind, name_test(m.contender, result), None, 0.0, numbers)


def _remedy(result: ScenarioResult) -> str:
    settings = result.settings
    bound_s = settings.latency_bound_s
    if bound_s is not None and result.over_latency_count != 0:
        return (
            f"Let fewer images arrive, --qps below {units.plain(settings.target_qps)}, or allow "
            "more than "
            f"{units.plain(bound_s)} s: --set "
            f"compare.loadgen.latency_bound_s={units.plain(2 * bound_s)}"
        )
    if result.query_count < settings.min_query_count:
        needed_s = settings.min_query_count / max(result.query_count, 1) * result.duration_s
        return f"Give it more time: --duration {ceil(1.2 * needed_s / MAX_DURATION_FACTOR)}s"
    return "Measure again when nothing else runs: its speed changed between warm-up and test"


def _find_loaded(run: Run, kind: str) -> Iterator[Advice]:
    for m, result in _tests(run):
        # Server's own threads compete for the CPUs with the one that sends the queries.
        delay = 0.0 if result.scenario == "server" else result.run_delay_ratio or 0.0
        foreign = result.foreign_load_cores or 0.0
        if foreign > FOREIGN_LIMIT_CORES or delay >= DIRTY_RUN_DELAY:
            numbers: dict[str, Number] = {
                "cores": foreign,
                "limit_cores": FOREIGN_LIMIT_CORES,
                "delay_ratio": result.run_delay_ratio or 0.0,
                "limit_ratio": DIRTY_RUN_DELAY,
            }
            severity = max(foreign / FOREIGN_LIMIT_CORES, delay / DIRTY_RUN_DELAY)
            yield Advice(kind, name_test(m.contender, result), None, severity, numbers)


SCENARIO_RULES: Mapping[str, Rule] = {
    "scenario_invalid": Rule(
        "scenario",
        _find_invalid,
        "{where}: INVALID. {reason}. {remedy}.",
    ),
    "scenario_loaded": Rule(
        "scenario",
        _find_loaded,
        "{where}: a loaded machine. Other programs kept {cores} cores busy during the test (limit "
        "{limit_cores}), and its threads waited for a CPU for {delay_ratio} of the time, summed "
        "over threads (limit {limit_ratio}, server aside). LoadGen leaves nothing out of its "
        "figures: close other programs, then measure again.",
    ),
}
