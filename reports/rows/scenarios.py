"""MLPerf Inference scenarios that a run measured in place of rounds."""

from dataclasses import asdict
from typing import Any

from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.records import Run


def scenarios_of(run: Run) -> tuple[str, ...]:
    """Return the scenarios that were measured in place of the rounds, none where rounds were."""
    asked = (run.config.get("compare") or {}).get("loadgen") or {}
    return tuple(asked.get("scenarios") or ())


def summarise_scenarios(run: Run) -> list[dict[str, Any]]:
    """Return every test as JSON types, unrounded."""
    return [
        {"contender": m.contender, **asdict(result)}
        for m in contenders(run)
        for result in m.scenarios
    ]
