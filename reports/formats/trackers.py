"""A gate's figures in the forms of two trackers, which keep them from job to job.

Of latency both have the ratio to BASE, which survives another machine, beside HEAD's own time.
"""

from collections.abc import Iterator
from typing import Any

from foldbench.bench import units
from foldbench.bench.analysis.gate import Check, GateResult

_NANOSECONDS = 1e9


def github_action_benchmark(result: GateResult) -> list[dict[str, Any]]:
    """Return the entries of its tool ``customSmallerIsBetter``."""
    entries: list[dict[str, Any]] = []
    for check in result.checks:
        if check.what == "latency" and check.head is not None:
            entries.append(_entry(check.name, "ms", 1e3 * check.head, None, check))
        if check.what in ("latency", "peak memory") and check.change is not None:
            entries.append(
                _entry(f"{check.name} / BASE", "ratio", 1 + check.change, _range(check), check)
            )
        if check.what in ("file size", "peak memory") and check.head is not None:
            entries.append(_entry(check.name, "bytes", check.head, None, check))
        if check.what == "accuracy" and check.head is not None:
            entries.append(_entry("wrong answers", "%", 100 * (1 - check.head), None, check))
        if check.what == "agreement" and check.change is not None:
            entries.append(_entry("changed answers", "%", 100 * check.change, None, check))
    return entries


def _entry(name: str, unit: str, value: float, spread: str | None, check: Check) -> dict[str, Any]:
    entry = {"name": name, "unit": unit, "value": value, "extra": f"HEAD is {check.outcome}"}
    return entry | ({"range": spread} if spread else {})


def _range(check: Check) -> str | None:
    if check.low is None or check.high is None:
        return None
    return f"{units.ratio(1 + check.low)} to {units.ratio(1 + check.high)}"


def bencher(result: GateResult) -> dict[str, dict[str, dict[str, float]]]:
    """Return Bencher Metric Format: benchmark, measure, value with its bounds where it has some.

    ``latency`` is in nanoseconds and ``file-size`` in bytes, as Bencher has them.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for check in result.checks:
        for measure, metric in _metrics(check):
            name = f"batch {check.batch_size}" if check.batch_size else "network"
            found.setdefault(name, {})[measure] = metric
    return found


def _metrics(check: Check) -> Iterator[tuple[str, dict[str, float]]]:
    if check.what == "latency" and check.head is not None:
        yield "latency", {"value": _NANOSECONDS * check.head}
    if check.what == "latency" and check.change is not None:
        yield "latency-ratio", _with_bounds(check)
    if check.what == "accuracy" and check.head is not None:
        yield "accuracy", {"value": 100 * check.head}
    if check.what == "agreement" and check.change is not None:
        yield "changed-answers", {"value": 100 * check.change}
    if check.what == "file size" and check.head is not None:
        yield "file-size", {"value": check.head}
    if check.what == "peak memory" and check.head is not None:
        yield "peak-memory", {"value": check.head}


def _with_bounds(check: Check) -> dict[str, float]:
    metric = {"value": 1 + (check.change or 0.0)}
    if check.low is not None and check.high is not None:
        metric |= {"lower_value": 1 + check.low, "upper_value": 1 + check.high}
    return metric
