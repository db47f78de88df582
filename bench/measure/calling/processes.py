"""Processes of a section's own: each runner is given one, of the network of a row."""

from collections.abc import Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from foldbench.bench.backends import Floats
from foldbench.bench.config.backend_spec import parse_spec
from foldbench.bench.errors import BenchError
from foldbench.bench.measure.running import Contender, StartWorker, failures_of
from foldbench.bench.records import Preprocessing
from foldbench.bench.workers.protocol import Job


class Processes:
    """Starts processes; a failure is the runner's reason."""

    def __init__(self, start_worker: StartWorker) -> None:
        self._start_worker = start_worker

    def job(self, runner: Contender, row: Contender) -> Job:
        """Return what a process is to open for `runner`."""
        raise NotImplementedError

    def answers(self, row: Contender) -> Floats:
        """Return the logits (N, classes) float32 that its network gives; raise BackendError."""
        raise NotImplementedError

    def preprocessing(self, row: Contender) -> Preprocessing:
        """Return how its network's input is made from an image."""
        raise NotImplementedError

    def image_file(self, row: Contender) -> Path | None:
        """Return the file of its network with the preprocessing inside; None where there is none.

        Raises BackendError for one that cannot be used.
        """
        raise NotImplementedError

    def bare(self, runner: Contender, row: Contender) -> None:
        """Start a process that has opened nothing."""
        with failures_of(runner):
            runner.worker = self._start_worker(self.job(runner, row))

    def start(self, runner: Contender, row: Contender) -> None:
        """Start a process and have it open the network."""
        runner.start(self.job(runner, row), self._start_worker)

    def open(self, runner: Contender, row: Contender) -> None:
        """Do so, and have the process know the right answers."""
        self.start(runner, row)
        with failures_of(runner):
            if runner.is_ok:
                runner.require_worker().expect(self.answers(row))


def with_option(
    backend: str, name: str, option: str, value: str = "", without: Set[str] = frozenset()
) -> str | None:
    """Return the spec of a backend with an `option` more.

    None where it is another backend than `name`, or has this option or one of `without`.
    """
    try:
        spec = parse_spec(backend)
    except BenchError:
        return None
    if spec.backend != name or {option, *without} & set(spec.options):
        return None
    return str(replace(spec, options={**spec.options, option: value}))


def runner_of(row: Contender, **changes: Any) -> Contender:
    """Return what runs beside a row and shares nothing with it; `changes` are of its spec."""
    spec = replace(row.spec, **changes)
    return Contender(spec, baseline=row.baseline, network=row.network)
