"""Capacity: how many images a second a run's contenders serve within a bound of latency."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import isfinite
from pathlib import Path

from foldbench.bench.analysis.capacity import arrivals_needed
from foldbench.bench.errors import DataError
from foldbench.bench.measure.capacity import LOADGEN_PERCENTILE, CapacityOptions, find_capacity
from foldbench.bench.measure.comparison import describe_job
from foldbench.bench.measure.contenders import Subject, devices_of, list_contenders
from foldbench.bench.measure.evaluation import prepare_evaluation
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Capacity
from foldbench.bench.stages.measured import load_measured
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.timing.scenarios import has_loadgen
from foldbench.bench.workers.client import WorkerClient


def measure_capacity(
    run: RunDirectory,
    overrides: Sequence[str],
    options: CapacityOptions,
    paths: Paths,
    listener: ProgressListener,
) -> Capacity:
    """Find the capacity of the contenders that the run's configuration names; store the record."""
    measured = load_measured(run, overrides, paths, listener)
    checkpoint, config, threads = measured.checkpoint, measured.config, measured.threads
    can_ask = options.at == LOADGEN_PERCENTILE and not options.recorded_s and has_loadgen()
    options = replace(options, seed=config.compare.seed, loadgen=can_ask)
    with run.locked(), prepare_evaluation(config.evaluate, measured.test) as (evaluation, _):
        subject = Subject(run.path, checkpoint, run.artifacts())
        devices = devices_of(config.compare.devices)
        found = find_capacity(
            run.name,
            list_contenders(subject, config.compare.backends, devices),
            lambda contender: describe_job(subject, contender, evaluation, threads),
            options,
            threads,
            listener,
            WorkerClient,
        )
        run.write_capacity(found)
    return found


def read_arrivals(path: Path, at: float) -> tuple[float, ...]:
    """Return the times of a file with one number of seconds on each line, in order.

    Raises DataError for what is no such file, or has too few for the percentile `at`.
    """
    try:
        lines = path.read_text(encoding="utf-8").split()
        times_s = tuple(float(line) for line in lines)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as arrivals: {error}; allowed: a time in seconds on each line"
        ) from None
    if not all(map(isfinite, times_s)) or any(b < a for a, b in pairwise(times_s)):
        raise DataError(f"{path}: its times go back or are no numbers; allowed: times in order")
    needed = arrivals_needed(at)
    if len(times_s) < needed or times_s[0] == times_s[-1]:
        raise DataError(
            f"{path}: found {len(times_s)} arrivals; the percentile takes {needed} or more, not "
            "all at once"
        )
    return times_s
