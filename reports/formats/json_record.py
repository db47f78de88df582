"""A run's derived statistics for programs: unrounded, in base units, with the notes as text."""

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from foldbench.bench import units
from foldbench.bench.analysis.advice.rules import advise
from foldbench.bench.records import Beside, Run
from foldbench.bench.records.published import PublishedRun
from foldbench.reports.rows.accuracy import AccuracyRow, accuracy_rows
from foldbench.reports.rows.export import export_rows
from foldbench.reports.rows.homework import reason_for_blank, told_deviations
from foldbench.reports.rows.latency import LatencyRow, latency_rows
from foldbench.reports.rows.published import BESIDE
from foldbench.reports.rows.roofline import roofline_rows
from foldbench.reports.rows.scenarios import summarise_scenarios
from foldbench.reports.rows.self_checks import self_check_rows
from foldbench.reports.rows.training import history_rows
from foldbench.reports.text.names import name_of


def summary(run: Run, beside: Sequence[Beside] = (), *, with_called: bool = True) -> dict[str, Any]:
    """Return JSON types alone; a number that does not exist (or is not finite) is None.

    Of what was measured as it is called, it holds the record in five significant digits, and of
    `beside` the records; none of the former unless `with_called`.
    """
    if isinstance(run, PublishedRun):
        return run.summary if with_called else run.summary | {"as_called": {}}
    checkpoint = run.checkpoint
    return _finite(
        {
            "schema_version": run.schema_version,
            "run": run.name,
            "created": run.created,
            "command": list(run.command),
            "config": checkpoint.config_name,
            "model": checkpoint.model,
            "network": checkpoint.network,
            "parameters": checkpoint.parameter_count,
            "trained_on": checkpoint.device,
            "checkpoint_sha256": checkpoint.sha256,
            "data": checkpoint.data.title,
            "data_sha256": checkpoint.data.sha256,
            "evaluation_protocol": run.evaluation_protocol,
            "evaluation_sha256": run.evaluation_sha256,
            "rounds": run.rounds,
            "budget_s": run.budget_s,
            "foreign_load_cores": run.foreign_load_cores,
            "agreement_reference": run.reference,
            "accuracy": [_named(row) for row in accuracy_rows(run)],
            "latency": [_named(row) for row in latency_rows(run)],
            "matmul_share": [asdict(row) for row in roofline_rows(run)],
            "self_checks": [asdict(row) for row in self_check_rows(run)],
            "scenarios": summarise_scenarios(run),
            "as_called": {
                m.contender: _shortened(m.as_called.model_dump(mode="json", exclude_defaults=True))
                for m in run.measurements
                if with_called and m.as_called is not None
            },
            **{key: _stored(run, beside, kind) for key, kind in BESIDE.items()},
            "artifacts": [asdict(row) for row in export_rows(run)],
            "history": [asdict(row) for row in history_rows(run)],
            "homework_deviations": list(told_deviations(run)),
            "homework_blank_reason": reason_for_blank(checkpoint),
            "warnings": [{**asdict(a), "numbers": dict(a.numbers)} for a in advise(run)],
            "environment": dict(run.environment),
        }
    )


def _stored(run: Run, beside: Sequence[Beside], kind: type[Beside]) -> dict[str, Any] | None:
    """Return what is stored of a kind beside the run's comparisons; None where nothing is."""
    found = (one for one in beside if isinstance(one, kind) and one.name == run.name)
    return next((one.model_dump(mode="json") for one in found), None)


def _named(row: AccuracyRow | LatencyRow) -> dict[str, Any]:
    """Return a row with the contender's name behind its id."""
    fields = asdict(row)
    return {"contender": fields.pop("contender"), "name": name_of(row.contender), **fields}


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_shortened(part) for part in value]
    return units.shortened(value) if isinstance(value, float) else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not isfinite(value) else value
