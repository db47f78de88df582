"""Which machine a run was measured on: figures of different machines never share one ratio."""

from collections.abc import Sequence
from dataclasses import dataclass

from foldbench.bench import units
from foldbench.bench.records import FLOAT64, Run


@dataclass(frozen=True)
class Machine:
    """A machine, and what was measured on it."""

    title: str
    """The labels of its runs, and what it is."""
    runs: tuple[tuple[str, Run], ...]
    """Each behind its label."""


def machine_of(run: Run) -> str:
    """Return the machine's label; runs with the same label may share a picture."""
    environment = run.environment
    cores = environment.get("cores_usable")
    parts = [
        environment.get("cpu"),
        f"{units.plain(cores)} usable cores" if cores else None,
        environment.get("machine"),
        environment.get("gpu"),
    ]
    return ", ".join(units.plain(part) for part in parts if part) or "a machine not recorded"


def machines_of(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return every machine among `runs` once, in their order."""
    return tuple(dict.fromkeys(machine_of(run) for run in runs))


def by_machine(labelled: Sequence[tuple[str, Run]]) -> tuple[Machine, ...]:
    """Return the runs by machine, in their order.

    The record of a bundle has a machine of its own: another one may be just like it.
    """
    groups: dict[tuple[str, str], list[tuple[str, Run]]] = {}
    for label, run in labelled:
        own = label if run.reference == FLOAT64 else ""
        groups.setdefault((machine_of(run), own), []).append((label, run))
    return tuple(
        Machine(f"{', '.join(label for label, _ in runs)}: {machine}", tuple(runs))
        for (machine, _), runs in groups.items()
    )
