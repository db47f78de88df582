"""Which runs are meant: by name, by config, the newest, those that were compared."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from foldbench.bench.errors import RunError, UnknownNameError, listed, nearest
from foldbench.bench.store.directory import RunDirectory, list_runs

R = TypeVar("R")


def find_runs(root: Path, names: Sequence[str]) -> tuple[RunDirectory, ...]:
    """Return the runs called `names` (names in `root`, or paths), in that order.

    A configuration's name stands for its newest run.
    """
    return tuple(_find_run(root, name) for name in names)


def newest_runs(root: Path, compared: bool = False) -> tuple[RunDirectory, ...]:
    """Return the newest finished training, or comparison, of each configuration in `root`.

    Raises RunError when there is none.
    """
    wanted = RunDirectory.is_compared if compared else RunDirectory.is_trained
    newest = {run.config_name: run for run in list_runs(root) if wanted(run)}
    if not newest and compared:
        raise RunError(f"no compared run in {root}: measure one with bench compare")
    if not newest:
        raise RunError(f"no trained run in {root}: train one with bench train NAME (bench list)")
    return tuple(newest.values())


def compared_runs(root: Path, configs: Sequence[str] = ()) -> tuple[RunDirectory, ...]:
    """Return every compared run in `root`, of the configurations `configs` where any are named.

    Raises RunError when there is none, UnknownNameError for a configuration without one.
    """
    found = [run for run in list_runs(root) if run.is_compared()]
    known = list(dict.fromkeys(run.config_name for run in found))
    if not known:
        raise RunError(f"no compared run in {root}: measure one with bench compare")
    for name in configs:
        if name not in known:
            raise UnknownNameError(
                f"no compared run of config {name!r} in {root}{nearest(name, known)} "
                f"(configs: {', '.join(known)})"
            )
    return tuple(run for run in found if not configs or run.config_name in configs)


def readable(
    runs: Sequence[RunDirectory], read: Callable[[RunDirectory], R], skip: Callable[[str], None]
) -> tuple[tuple[RunDirectory, R], ...]:
    """Return each run with what `read` gives of it; `skip` is told of each that is damaged.

    Raises RunError when none can be read.
    """
    found: list[tuple[RunDirectory, R]] = []
    faults: list[RunError] = []
    for run in runs:
        try:
            found.append((run, read(run)))
        except RunError as error:
            faults.append(error)
    if faults and not found:
        raise faults[0]
    for fault in faults:
        skip(f"left out: {fault}")
    return tuple(found)


def _find_run(root: Path, name: str) -> RunDirectory:
    for path in (root / name, Path(name)):
        if (path / "run.json").is_file():
            return RunDirectory(path if path.name else path.resolve())
    runs = list_runs(root)
    same = [run for run in runs if run.config_name == name]
    if same:
        return next((run for run in reversed(same) if run.is_trained()), same[-1])
    known = [run.name for run in runs]
    shown = listed(known) if known else "none yet: bench train NAME makes one"
    raise UnknownNameError(f"no run {name!r} in {root}{nearest(name, known)} (runs: {shown})")
