"""What each run of a report is called: by its network, or its name and what tells it apart."""

from collections.abc import Callable, Iterable, Sequence

from foldbench.bench.records import Run
from foldbench.reports.text.document import Column, left
from foldbench.reports.text.machines import machine_of, machines_of
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


def describe_several(labelled: Labelled) -> str:
    """Return what several runs are: networks, or comparisons of one."""
    if is_of_networks(labelled):
        return f"{len(labelled)} networks"
    return f"{len(labelled)} comparisons of {labelled[0][1].checkpoint.run}"


def is_of_networks(labelled: Labelled) -> bool:
    """Return whether the runs are of several networks."""
    return len({run.checkpoint.sha256 for _, run in labelled}) > 1


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
    """Return the runs' names, with the protocol or machine where those of one name differ in it."""
    names = []
    for run in runs:
        same = [other for other in runs if other.name == run.name]
        is_of_both = len({other.evaluation_protocol for other in same}) > 1
        name = f"{run.name}, {run.evaluation_protocol}" if is_of_both else run.name
        names.append(f"{name}, {machine_of(run)}" if len(machines_of(same)) > 1 else name)
    return names


def _unique(names: Sequence[str]) -> list[str]:
    """Return `names` with the second and later of equal ones numbered."""
    return [
        name if names.index(name) == i else f"{name} ({names[:i].count(name) + 1})"
        for i, name in enumerate(names)
    ]
