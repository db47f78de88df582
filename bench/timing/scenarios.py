"""MLPerf Inference scenarios: what LoadGen is asked for, and what its log says came of it.

LoadGen is MLCommons' own load generator (https://github.com/mlcommons/inference, folder loadgen),
an optional package.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from typing import Any

from foldbench.bench import units
from foldbench.bench.errors import BackendError, MissingPackageError, one_line
from foldbench.bench.samples.scenarios import (
    MAX_DURATION_FACTOR,
    Latencies,
    Scenario,
    ScenarioResult,
    ScenarioSettings,
)
from foldbench.bench.samples.timing import Interference

MULTISTREAM_SAMPLES = 8
"""Samples of one multistream query, as MLPerf has it."""
TARGET_PERCENTILES: Mapping[Scenario, float] = {
    "singlestream": 0.9,
    "multistream": 0.99,
    "server": 0.99,
}
"""Which percentile counts, as LoadGen has it by default; offline counts samples."""
MOST_QUERIES = 10_000_000
"""LoadGen makes all queries beforehand, of some 320 bytes each."""

GRACE_S = 120.0
"""For start and warm-up, on top of twice the time after which queries are given up."""
_ENTRY = re.compile(r'^:::MLLOG (\{"key": "(\w[^"]*)".*\})$', re.MULTILINE)


@dataclass(frozen=True)
class ScenarioOptions:
    """One scenario for one contender."""

    scenario: Scenario
    duration_s: float
    """Least duration of the test."""
    batch_size: int
    """Largest batch to which samples are put together; of no meaning to the two streams."""
    warm_up_s: float
    """Untimed calls before the test, seconds."""
    seed: int
    """Of which images are drawn, and of the times of arrival."""
    qps: float | None = None
    """Server alone: arrivals per second."""
    latency_bound_s: float | None = None
    """Server alone: what its percentile must not exceed."""

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Return the batch sizes that may occur, in order.

        Those of server are powers of two and the largest: few enough to be warmed up, since many
        runtimes prepare anew for each size that they meet.
        """
        if self.scenario == "server":
            powers = (2**k for k in range(self.batch_size.bit_length()))
            return tuple(sorted({*powers, self.batch_size}))
        fixed = {"singlestream": 1, "multistream": MULTISTREAM_SAMPLES}
        return (fixed.get(self.scenario, self.batch_size),)

    @property
    def min_query_count(self) -> int:
        """Return the least number of queries: what early stopping needs at the percentile."""
        percentile = TARGET_PERCENTILES.get(self.scenario)
        return queries_needed(percentile) if percentile else 1

    @property
    def limit_s(self) -> float:
        """Return the seconds after which LoadGen sends no more queries, done or not."""
        return MAX_DURATION_FACTOR * self.duration_s

    @property
    def give_up_s(self) -> float:
        """Return the seconds after which queries that still wait are given back uncomputed."""
        return self.limit_s + self.duration_s

    @property
    def timeout_s(self) -> float:
        """Return the seconds after which whatever hangs is killed, warm-up included."""
        return 2 * self.give_up_s + GRACE_S


@dataclass(frozen=True)
class Driven:
    """What is known of a test besides LoadGen's log."""

    log: str
    log_sha256: str
    sample_count: int
    """Samples that were computed."""
    unanswered_count: int
    """Samples that were given back uncomputed when the time was over."""
    call_count: int
    duration_s: float
    interference: Interference
    foreign_load_cores: float | None


def require_loadgen() -> None:
    """Raise MissingPackageError with what to install when LoadGen cannot be imported."""
    try:
        import_module("mlperf_loadgen")
    except ImportError as error:
        raise MissingPackageError(
            "MLPerf scenarios need MLCommons' LoadGen, the package 'mlcommons-loadgen', which "
            f"cannot be imported ({one_line(error)}): pip install 'foldbench[loadgen]'"
        ) from None


def has_loadgen() -> bool:
    """Return whether LoadGen is installed."""
    return find_spec("mlperf_loadgen") is not None


@cache
def queries_needed(percentile: float) -> int:
    """Return how many queries early stopping needs before it says anything of a percentile.

    The least n of which, with 99 % confidence, two or more lie above the percentile:
    ``p**n + n (1 - p) p**(n - 1) <= 0.01``. 64 for 0.9, 662 for 0.99.
    Source: MLPerf Inference Rules, early stopping criterion; LoadGen, early_stopping.cc.
    """
    p = percentile
    return next(n for n in count(2) if p**n + n * (1 - p) * p ** (n - 1) <= 0.01)


def to_result(options: ScenarioOptions, driven: Driven, checked_outputs: int) -> ScenarioResult:
    """Return the record of one test; raise BackendError when LoadGen's log holds no result."""
    log = _Log(driven.log)
    reasons = _reasons(options, driven, log)
    figures = {} if driven.unanswered_count else _figures(options.scenario, log)
    return ScenarioResult(
        scenario=options.scenario,
        validity="INVALID" if reasons else "VALID",
        reasons=reasons,
        settings=_settings(options.scenario, log),
        loadgen_version=str(log["loadgen_version"]),
        log_sha256=driven.log_sha256,
        batch_sizes=options.batch_sizes,
        query_count=log["result_query_count"],
        sample_count=driven.sample_count,
        call_count=driven.call_count,
        checked_outputs=checked_outputs,
        duration_s=driven.duration_s,
        foreign_load_cores=driven.foreign_load_cores,
        **vars(driven.interference),
        **figures,
    )


class _Log:
    """The entries of an mlperf_log_detail.txt; the last one of a key counts."""

    def __init__(self, text: str) -> None:
        self._entries = {key: entry for entry, key in _ENTRY.findall(text)}
        parsed = (
            json.loads(entry) for entry, _ in _ENTRY.findall(text) if '"is_error": true' in entry
        )
        self.errors = tuple(dict.fromkeys(str(entry["value"]) for entry in parsed))

    def __getitem__(self, key: str) -> Any:
        try:
            return json.loads(self._entries[key])["value"]
        except KeyError:
            raise BackendError(f"LoadGen's log says nothing of {key}: it did not end") from None
        except ValueError:
            raise BackendError(f"LoadGen's log has no number as {key}") from None

    def seconds(self, key: str) -> float:
        """Return what is logged in nanoseconds or milliseconds, as the key's end says."""
        return self[key] / (1e9 if key.endswith("_ns") else 1e3)


def _reasons(options: ScenarioOptions, driven: Driven, log: _Log) -> tuple[str, ...]:
    """Return why the test is INVALID, in LoadGen's words where they are its reasons."""
    reasons = []
    if driven.unanswered_count:
        reasons.append(
            f"given up after {units.plain(options.give_up_s)} s: "
            f"{units.count(driven.unanswered_count)} of "
            f"{units.count(driven.unanswered_count + driven.sample_count)} samples were not "
            "computed by then"
        )
    if log["result_validity"] != "VALID":
        messages = [log["result_invalid_reason"], *log.errors]
        if not log["early_stopping_met"]:
            messages.append("Early stopping: " + log["early_stopping_result"].replace(" * ", " "))
        reasons += [" ".join(text.split()) for text in messages if text.strip()]
        reasons = reasons or ["LoadGen gave no reason"]
    return tuple(reasons)


def _settings(scenario: Scenario, log: _Log) -> ScenarioSettings:
    bound_s = log.seconds("effective_target_latency_ns")
    return ScenarioSettings(
        target_qps=log["effective_target_qps"],
        target_percentile=log["effective_target_latency_percentile"],
        latency_bound_s=bound_s if scenario == "server" else None,
        samples_per_query=log["effective_samples_per_query"],
        min_duration_s=log.seconds("effective_min_duration_ms"),
        max_duration_s=log.seconds("effective_max_duration_ms"),
        min_query_count=log["effective_min_query_count"],
        loaded_samples=log["effective_performance_sample_count"],
        qsl_seed=log["effective_qsl_rng_seed"],
        sample_seed=log["effective_sample_index_rng_seed"],
        schedule_seed=log["effective_schedule_rng_seed"],
    )


def _figures(scenario: Scenario, log: _Log) -> dict[str, Any]:
    if scenario == "offline":
        return {"samples_per_s": log["result_samples_per_second"]}
    figures: dict[str, Any] = {"latencies": _latencies(scenario, log)}
    if scenario == "server":
        return figures | {
            "scheduled_qps": log["result_scheduled_samples_per_sec"],
            "completed_qps": log["result_completed_samples_per_sec"],
            "over_latency_count": log["result_overlatency_query_count"],
        }
    short = "ss" if scenario == "singlestream" else "ms"
    estimate_ns = log[f"early_stopping_latency_{short}"]  # 0 where it cannot be given
    return figures | {"early_stopping_s": estimate_ns / 1e9 if estimate_ns else None}


def _latencies(scenario: Scenario, log: _Log) -> Latencies:
    of = "per_query_latency" if scenario == "multistream" else "latency"
    queries = log["result_query_count"]

    def at(share: float) -> float | None:
        if queries < queries_needed(share):
            return None
        return log.seconds(f"result_{100 * share:.2f}_percentile_{of}_ns")

    return Latencies(
        p50_s=at(0.5),
        p90_s=at(0.9),
        p95_s=at(0.95),
        p97_s=at(0.97),
        p99_s=at(0.99),
        p99_9_s=at(0.999),
    )
