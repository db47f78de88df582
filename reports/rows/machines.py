"""Which machine a run was measured on: figures of different machines never share one ratio."""

from collections.abc import Sequence

from foldbench.bench import units
from foldbench.bench.records import Run


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
