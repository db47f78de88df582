"""Which runs are meant: by name, by config, the newest, those that were compared."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from foldbench.bench.errors import RunError, UnknownNameError, listed, nearest
from foldbench.bench.records import Run
from foldbench.bench.store.comparisons import KeptComparison, split_reference
from foldbench.bench.store.directory import RunDirectory, list_runs
from foldbench.bench.store.parsing import parse_record

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class ComparedRun:
    """One comparison of a run, and how it is named."""

    run: RunDirectory
    kept: KeptComparison
    numbered: bool
    """Whether its number is part of the name, as where the run has several."""

    @property
    def name(self) -> str:
        """The run's name, with the number where that matters: ``my-001@2``."""
        return f"{self.run.name}@{self.kept.number}" if self.numbered else self.run.name

    def record(self) -> Run:
        """Return the record under this name; raise RunError when it is damaged."""
        return self.run.read_comparison(self.kept).model_copy(update={"name": self.name})


def is_record(path: Path) -> bool:
    """Return whether a file is a record that a bundle wrote, whole or not."""
    try:
        with path.open(encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "measurements" in found


def read_record(path: Path) -> Run:
    """Return the record in a file that a bundle wrote, named after the file.

    In it is the name of the run that was bundled, which is the same on every machine. Raises
    RunError where it is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from None
    return named_after(parse_record(Run, text, str(path)), path)


def named_after(record: Run, path: Path) -> Run:
    """Return the record under the name of its file."""
    return record.model_copy(update={"name": path.stem})


def find_comparisons(root: Path, names: Sequence[str]) -> tuple[ComparedRun, ...]:
    """Return the comparisons called `names`, in that order.

    A run's name, or that of a configuration for its newest run, stands for the newest one;
    ``my-001@2`` is its second, ``my-001@-1`` the one before the newest. Raises UnknownNameError,
    RunError for a run that was not compared.
    """
    parts = (find_run(root, name) for name in names)
    return tuple(
        ComparedRun(run, run.comparison(number), len(run.comparisons()) > 1)
        for run, number in parts
    )


def find_run(root: Path, name: str) -> tuple[RunDirectory, int | None]:
    """Return the run that `name` is of, and the number of its comparison where one is named.

    Raises UnknownNameError for an unknown run.
    """
    base, number = (name, None) if _is_run(root, name) else split_reference(name)
    return _find_run(root, base), number


def last_comparisons(root: Path, name: str, count: int) -> tuple[ComparedRun, ComparedRun]:
    """Return the first and the last one of the newest `count` comparisons of a run.

    Raises UnknownNameError for an unknown run, RunError where there are fewer.
    """
    run = _find_run(root, name)
    kept = run.comparisons()
    if len(kept) < count:
        times = {0: "not", 1: "once"}.get(len(kept), f"{len(kept)} times")
        raise RunError(
            f"run {run.name} was compared {times}, and {count} comparisons are needed: "
            f"bench compare {run.name} adds one"
        )
    return ComparedRun(run, kept[-count], True), ComparedRun(run, kept[-1], True)


def all_comparisons(runs: Sequence[RunDirectory]) -> tuple[ComparedRun, ...]:
    """Return every comparison of `runs`, with its number in the name where a run has several."""
    return tuple(
        ComparedRun(run, kept, len(comparisons) > 1)
        for run in runs
        for comparisons in [run.comparisons()]
        for kept in comparisons
    )


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


def compared_runs(root: Path, names: Sequence[str] = ()) -> tuple[RunDirectory, ...]:
    """Return every compared run in `root`, or those of the configurations or runs called `names`.

    Raises RunError when there is none, UnknownNameError for a name without one.
    """
    found = [run for run in list_runs(root) if run.is_compared()]
    known = list(dict.fromkeys(run.config_name for run in found))
    if not known:
        raise RunError(f"no compared run in {root}: measure one with bench compare")
    for name in names:
        if name not in known and name not in [run.name for run in found]:
            raise UnknownNameError(
                f"no compared run of config {name!r} in {root}{nearest(name, known)} "
                f"(configs: {', '.join(known)})"
            )
    return tuple(run for run in found if not names or {run.config_name, run.name} & set(names))


def usable_runs(root: Path, config_name: str, key: str) -> Iterator[RunDirectory]:
    """Yield the runs of a configuration with the same key that can be used, the newest first."""
    for run in reversed(list_runs(root)):
        if run.config_name == config_name and run.has_key(key) and run.is_usable():
            yield run


def readable(
    runs: Sequence[T], read: Callable[[T], R], skip: Callable[[str], None]
) -> tuple[tuple[T, R], ...]:
    """Return each of `runs` with what `read` gives; `skip` is told of each that is damaged.

    Raises RunError when none can be read.
    """
    found: list[tuple[T, R]] = []
    faults: list[RunError] = []
    for run in runs:
        try:
            found.append((run, read(run)))
        except RunError as error:
            faults.append(error)
    if faults and not found:
        raise faults[0]
    for fault in faults:
        skip(f"skipped: {fault}")
    return tuple(found)


def _is_run(root: Path, name: str) -> bool:
    return any((path / "run.json").is_file() for path in (root / name, Path(name)))


def _find_run(root: Path, name: str) -> RunDirectory:
    for path in (root / name, Path(name)):
        if (path / "run.json").is_file():
            return RunDirectory(path if path.name else path.resolve())
    runs = list_runs(root)
    same = [run for run in runs if run.config_name == name]
    if same:
        return next((run for run in reversed(same) if run.is_trained()), same[-1])
    known = [run.name for run in runs]
    base, number = split_reference(name)
    if number is not None and (_is_run(root, base) or base in {r.config_name for r in runs}):
        raise UnknownNameError(
            f"{name} is one comparison of a run; this command takes the whole run: {base}"
        )
    shown = listed(known) if known else "none yet: bench train NAME makes one"
    raise UnknownNameError(f"no run {name!r} in {root}{nearest(name, known)} (runs: {shown})")
