"""What each run of a report is called: by its network, its own name, or name and protocol."""

from collections.abc import Sequence

from bench.records import Run
from reports.document import Column, left

Labelled = Sequence[tuple[str, Run]]


def label_runs(runs: Sequence[Run]) -> tuple[Column, Labelled]:
    """Return the heading of the runs' names, and each run behind a name of its own.

    Raises ValueError when there are none.
    """
    if not runs:
        raise ValueError("a report needs at least one run")
    models = [run.checkpoint.network for run in runs]
    header = "model" if len(set(models)) == len(models) else "run"
    names = models if header == "model" else _names(runs)
    return left(header), tuple(zip(_unique(names), runs, strict=True))


def _names(runs: Sequence[Run]) -> list[str]:
    """Return the runs' names, with the protocol where one was compared under both."""
    protocols = {
        run.name: {r.evaluation_protocol for r in runs if r.name == run.name} for run in runs
    }
    return [
        f"{run.name}, {run.evaluation_protocol}" if len(protocols[run.name]) > 1 else run.name
        for run in runs
    ]


def _unique(names: Sequence[str]) -> list[str]:
    """Return `names` with the second and later of equal ones numbered."""
    return [
        name if names.index(name) == i else f"{name} ({names[:i].count(name) + 1})"
        for i, name in enumerate(names)
    ]
