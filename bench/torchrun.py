"""Whether torchrun started this process, and which one of how many it is."""

import os

from foldbench.bench.errors import BenchError


def is_started_by_torchrun() -> bool:
    """Return whether torchrun started this process, alone or with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """Return this process's number among all that torchrun started; 0 without it."""
    return _from_torchrun("RANK", 0)


def world_size() -> int:
    """Return how many processes torchrun started; 1 without it."""
    return _from_torchrun("WORLD_SIZE", 1)


def local_rank() -> int:
    """Return this process's number among those on this machine; 0 without torchrun."""
    return _from_torchrun("LOCAL_RANK", 0)


def local_world_size() -> int:
    """Return how many processes torchrun started on this machine; 1 without it."""
    return _from_torchrun("LOCAL_WORLD_SIZE", 1)


def require_one_process(what: str) -> None:
    """Raise BenchError when torchrun started several processes, for `what` is done by one."""
    if world_size() > 1:
        raise BenchError(
            f"torchrun started {world_size()} processes, but {what} is done by one: start it "
            "without torchrun (several processes can share the training of a network: bench train)"
        )


def _from_torchrun(name: str, alone: int) -> int:
    if not is_started_by_torchrun():
        return alone
    text = os.environ.get(name, "")
    if not text.isdecimal():
        raise BenchError(
            f"TORCHELASTIC_RUN_ID is set as if torchrun had started this, but {name} is "
            f"{text or 'not set'!r}: start it with torchrun, or unset TORCHELASTIC_RUN_ID"
        )
    return int(text)
