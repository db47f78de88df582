"""Networks that live in the memory of a user's Python program: their pickles, by name.

They come through the pipe from the process that holds them, and are never read from a disk. Each
process that is started is sent all that its parent holds.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from foldbench.bench.errors import ConfigError

_held: dict[str, bytes] = {}


def hold(objects: dict[str, bytes]) -> None:
    """Keep pickles, by name, in this process and for those that it starts."""
    _held.update(objects)


@contextmanager
def holding(objects: dict[str, bytes]) -> Iterator[None]:
    """Keep pickles for a while."""
    before = dict(_held)
    _held.update(objects)
    try:
        yield
    finally:
        _held.clear()
        _held.update(before)


def held() -> dict[str, bytes]:
    """Return all that is kept here."""
    return dict(_held)


def pickle_of(name: str) -> bytes:
    """Return what is kept as `name`; raise ConfigError where nothing is."""
    if name not in _held:
        raise ConfigError(
            f"memory:{name} was a network in the memory of a program that has ended: run that "
            "program again (foldbench.compare, foldbench.export)"
        )
    return _held[name]
