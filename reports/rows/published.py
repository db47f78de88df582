"""Published summaries read back: a file of ``bench report --format json`` as runs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

from foldbench.bench.errors import BenchError, RunError, one_line
from foldbench.bench.records import (
    SCHEMA_VERSION,
    Accuracy,
    Agreement,
    AsCalled,
    Beside,
    Capacity,
    Checkpoint,
    DataInfo,
    Epoch,
    Measurement,
    Preprocessing,
    Profile,
)
from foldbench.bench.records.published import PublishedRun

Row = TypeVar("Row")
BESIDE: Mapping[str, type[Beside]] = {"capacity": Capacity, "profile": Profile}
"""Keys of a summary that hold what is stored of a run beside its comparisons."""


def read_published(path: Path) -> tuple[PublishedRun, ...]:
    """Return the runs of a published summary.

    Raises RunError where the file cannot be read or is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        runs = found["runs"]
        version = {run["schema_version"] for run in runs}
        if version != {SCHEMA_VERSION}:
            raise RunError(
                f"{path} has the form {version} of a summary, and this version of foldbench reads "
                f"{SCHEMA_VERSION}: use the version that wrote it"
            )
        return tuple(_run(run) for run in runs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, BenchError):
            raise
        raise RunError(
            f"{path} is no summary of runs ({type(error).__name__}: {one_line(error)}); bench "
            f"report RUN --format json --output {path.name} writes one"
        ) from error


def beside_of(run: PublishedRun) -> tuple[Beside, ...]:
    """Return what the summary holds of the run beside its comparison."""
    return tuple(
        kind.model_validate(run.summary[key])
        for key, kind in BESIDE.items()
        if run.summary.get(key) is not None
    )


def stored_rows(run: PublishedRun, key: str, row: type[Row]) -> Iterator[Row]:
    """Yield the rows of a table of the summary as `row`, without fields that it does not have."""
    known = {field.name for field in fields(cast(type[Any], row))}
    for one in run.summary.get(key, ()):
        values = {name: value for name, value in one.items() if name in known}
        yield row(**{name: _frozen(value) for name, value in values.items()})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _run(summary: Mapping[str, Any]) -> PublishedRun:
    checkpoint = _checkpoint(summary)
    return PublishedRun(
        name=summary["run"],
        created=summary["created"],
        config={},
        environment=summary["environment"],
        command=tuple(summary["command"]),
        checkpoint=checkpoint,
        artifacts=(),
        data=checkpoint.data,
        evaluation_protocol=summary["evaluation_protocol"],
        evaluation_sha256=summary["evaluation_sha256"],
        rounds=summary["rounds"],
        budget_s=summary["budget_s"],
        foreign_load_cores=summary["foreign_load_cores"],
        reference=summary["agreement_reference"],
        baseline=_baseline(summary),
        measurements=tuple(_measurement(row, summary) for row in summary["accuracy"]),
        summary=dict(summary),
    )


def _checkpoint(summary: Mapping[str, Any]) -> Checkpoint:
    """Return what the summary says of the network; what it does not say is blank."""
    sha256, history = summary["checkpoint_sha256"], summary["history"]
    known = set(Epoch.model_fields)
    random = any(row.get("random_weights", False) for row in summary["accuracy"])
    return Checkpoint(
        run=summary["run"],
        config_name=summary.get("config") or summary["run"].rpartition("-")[0],
        config={},
        config_sha256=sha256,
        model=summary["model"],
        model_args={"arch": summary["network"]} if "network" in summary else {},
        parameter_count=summary.get("parameters", 0),
        weights="",
        sha256=sha256,
        size_bytes=0,
        preprocessing=Preprocessing(input_shape=(0, 0, 0), mean=(), std=()),
        classes=(),
        data=_data(summary),
        seed=0,
        device=summary.get("trained_on", ""),
        history=tuple(
            Epoch(**{name: value for name, value in epoch.items() if name in known})
            for epoch in history
        ),
        environment={},
        random_weights=random,
    )


def _data(summary: Mapping[str, Any]) -> DataInfo:
    images = [row.get("agreement_images") or row["total"] or 0 for row in summary["accuracy"]]
    return DataInfo(
        name="",
        title=summary["data"],
        path=None,
        sha256=summary["data_sha256"],
        train_count=0,
        test_count=max(images, default=0),
        classes=(),
        original=False,
        decode_s=0.0,
        from_cache=False,
        labelled=any(row["accuracy"] is not None for row in summary["accuracy"]),
    )


def _baseline(summary: Mapping[str, Any]) -> str:
    references = [row["speedup_reference"] for row in summary["latency"]]
    first = next(filter(None, references), "torch/unfolded/cpu")
    return str(first).rpartition("/")[0]


def _measurement(row: Mapping[str, Any], summary: Mapping[str, Any]) -> Measurement:
    backend, variant, _ = row["contender"].split("/", 2)
    called = summary.get("as_called", {}).get(row["contender"])
    return Measurement(
        contender=row["contender"],
        backend=backend,
        variant=variant,
        requested_device=row["requested_device"],
        actual_device=row["actual_device"],
        runtime=row["runtime"],
        status=row["status"],
        reason=row["reason"],
        size_bytes=row["size_bytes"],
        precision=row["precision"],
        threads=row["threads"],
        open_s=row["open_s"],
        accuracy=_accuracy(row, summary["evaluation_protocol"]),
        as_called=called and AsCalled.model_validate(called),
    )


def _accuracy(row: Mapping[str, Any], protocol: str) -> Accuracy | None:
    images = row.get("agreement_images")
    if row["correct"] is None and images is None:
        return None
    agreement = None
    if images is not None:
        agreement = Agreement(
            images=images,
            top1_equal=row["agreement_top1_equal"],
            max_abs_difference=row["max_abs_difference"],
            max_rel_difference=row["max_rel_difference"],
        )
    return Accuracy.model_validate(
        {
            "protocol": protocol,
            "correct": row["correct"],
            "total": row["total"] or images,
            "top1": (),
            "agreement": agreement,
        }
    )
