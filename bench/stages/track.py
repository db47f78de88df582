"""Track compared runs in MLflow, where many teams keep what they measured.

One MLflow run for each record: the configuration as parameters, accuracy, latency and speed-ups as
metrics, the training loss epoch by epoch, the record and the reports as artifacts. They go where
MLFLOW_TRACKING_URI says, or to a local database beside the runs.
"""

import os
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldbench.bench.errors import MissingPackageError, RunError, one_line
from foldbench.bench.records import Profile, Run
from foldbench.bench.stages.report import pictures_of
from foldbench.bench.store.directory import RunDirectory
from foldbench.reports.render import render
from foldbench.reports.rows.accuracy import accuracy_rows
from foldbench.reports.rows.latency import latency_rows
from foldbench.reports.text.machines import machine_of

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_FOREIGN = re.compile(r"[^\w\-. :/]")
"""What MLflow takes in no name of a metric or parameter."""
_LONGEST = 500
"""Letters of a parameter's value that every version of MLflow stores."""
_BATCH = 100
"""Parameters that MLflow takes at once."""


def require_mlflow() -> None:
    """Raise MissingPackageError when MLflow, or what it keeps a database with, is missing."""
    try:
        for name in ("mlflow.tracking", "sqlalchemy"):
            import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"--tracker mlflow needs {error.name}, which is not installed: "
            "pip install 'foldbench[mlflow]'"
        ) from error


def log_run(record: Run, folder: Path, store: Path) -> str:
    """Log a comparison with its reports; return the address of the tracker.

    Profile and pictures in `folder`, the run's, go along. Without MLFLOW_TRACKING_URI it goes to
    ``mlflow.db`` in `store`, artifacts beside it. Raises MissingPackageError without MLflow,
    RunError when MLflow does not take it.
    """
    require_mlflow()
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    address = os.environ.get("MLFLOW_TRACKING_URI")
    artifacts = None if address else (store.resolve() / "mlflow-artifacts").as_uri()
    address = address or f"sqlite:///{store.resolve() / 'mlflow.db'}"
    try:
        _log(MlflowClient(tracking_uri=address), artifacts, record, folder)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise RunError(
            f"MLflow at {address} did not take run {record.name}: {one_line(error)}; the run "
            "itself is stored: log it later with bench report --tracker mlflow"
        ) from error
    return address


def _log(client: "MlflowClient", artifacts: str | None, record: Run, folder: Path) -> None:
    from mlflow.entities import Metric, Param, RunStatus

    name = record.checkpoint.config_name
    found = client.get_experiment_by_name(name)
    experiment = found.experiment_id if found else client.create_experiment(name, artifacts)
    started = client.create_run(experiment, run_name=record.name, tags=dict(_tags(record)))
    identity = started.info.run_id
    parameters = [Param(key, value) for key, value in _parameters(record)]
    for first in range(0, len(parameters), _BATCH):
        client.log_batch(identity, params=parameters[first : first + _BATCH])
    metrics = [Metric(key, value, 0, step) for key, value, step in _metrics(record)]
    for first in range(0, len(metrics), _BATCH):
        client.log_batch(identity, metrics=metrics[first : first + _BATCH])
    for file, text in _files(record, RunDirectory(folder)):
        client.log_text(identity, text, file)
    client.set_terminated(identity, RunStatus.to_string(RunStatus.FINISHED))


def _files(record: Run, run: RunDirectory) -> Iterator[tuple[str, str]]:
    """Yield what is stored of a comparison, of this one even where the run has a newer one."""
    beside = run.beside(record.name)
    yield "results.json", record.model_dump_json()
    for one in beside:
        name = "profile.json" if isinstance(one, Profile) else "capacity.json"
        yield name, one.model_dump_json(indent=1)
    yield "report.md", render([record], "md", beside)
    yield "report.html", render([record], "html", beside, list(pictures_of(run)))


def _tags(record: Run) -> Iterator[tuple[str, str]]:
    yield "foldbench.version", str(record.environment.get("foldbench", ""))
    yield "foldbench.created", record.created
    yield "foldbench.machine", machine_of(record)
    yield "foldbench.model", record.checkpoint.network
    yield "foldbench.data", record.data.title
    yield "foldbench.checkpoint_sha256", record.checkpoint.sha256
    yield "foldbench.evaluation_sha256", record.evaluation_sha256


def _parameters(record: Run) -> Iterator[tuple[str, str]]:
    """Yield each field of the configuration by its path, such as ``train.epochs``."""
    for key, value in _flat(record.config):
        yield _name(key), str(value)[:_LONGEST]


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, part in value.items():
        if isinstance(part, Mapping) and part:
            yield from _flat(part, f"{before}{key}.")
        else:
            yield f"{before}{key}", part


def _metrics(record: Run) -> Iterator[tuple[str, float, int]]:
    """Yield name, value and step; the names hold contender and batch size, the steps are epochs."""
    for epoch in record.checkpoint.history:
        yield "train/loss", epoch.loss, epoch.epoch
        yield "train/accuracy", epoch.accuracy, epoch.epoch
    for scored in accuracy_rows(record):
        if scored.accuracy is not None:
            yield _name(f"accuracy/{scored.contender}"), scored.accuracy, 0
    for row in latency_rows(record):
        where = f"{row.contender}/batch {row.batch_size}"
        where += " device" if row.boundary == "device" else ""
        numbers = {
            "median_s": row.median_s,
            "p95_s": row.p95_s,
            "images_per_s": row.images_per_s,
            "speedup_ratio": row.speedup_ratio,
            "speedup_low_ratio": row.speedup_low,
            "speedup_high_ratio": row.speedup_high,
        }
        for key, value in numbers.items():
            if value is not None:
                yield _name(f"{key}/{where}"), value, 0


def _name(text: str) -> str:
    return _FOREIGN.sub("_", text)
