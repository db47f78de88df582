"""What each run of a report is called: by its network, its own name, or name and protocol."""

from collections.abc import Callable, Iterable, Sequence

from foldbench.bench.records import Run
from foldbench.reports.text.document import Column, left
from foldbench.reports.text.names import way_name

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


def label_in(labelled: Labelled, label: str, before: str = "", after: str = "") -> str:
    """Return `label` between two texts where there are several runs, else an empty string."""
    return f"{before}{label}{after}" if len(labelled) > 1 else ""


def labelled_rows(
    labelled: Labelled, cells: Callable[[str, Run], Iterable[Sequence[str]]]
) -> list[list[str]]:
    """Return the cells of every run behind a first one that names the run if there are several."""
    return [
        [label_in(labelled, label), *row] for label, run in labelled for row in cells(label, run)
    ]


def told_baselines(labelled: Labelled) -> str:
    """Return what the speed-ups of the runs are against, in words."""
    ways = dict.fromkeys(run.baseline for _, run in labelled)
    return " or ".join(map(way_name, ways))


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
