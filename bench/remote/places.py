"""Bundles on several machines at once: each machine gives a record, or the reason why not."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from foldbench.bench.errors import BenchError
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Run

Say = Callable[[str], None]
PROGRAM = Path(__file__).with_name("there.py")
"""What takes a bundle on the other machine: it is sent there, and imported nowhere."""


class Place(Protocol):
    """A machine that can run a bundle."""

    name: str
    """As the user knows it."""

    def measure(self, bundle: Path, say: Say) -> str:
        """Return the text of the record that the bundle wrote there.

        Raises BenchError that says why there is none. `say` gets its progress, line by line.
        """
        ...

    def stop(self) -> None:
        """Have `measure`, which another thread is in, end soon, and leave nothing there."""
        ...


@dataclass(frozen=True)
class Elsewhere:
    """What came of one machine: a stored record, or a reason."""

    place: str
    path: Path | None = None
    record: Run | None = None
    """Named after its file."""
    reason: str | None = None


def measure_at(
    places: Sequence[Place], bundle: Path, listener: ProgressListener
) -> Iterator[tuple[Place, str | BenchError]]:
    """Yield each place with the text of its record, or with what went wrong, as they end.

    Where this is left early, all of them are stopped.
    """
    with ThreadPoolExecutor(max(1, len(places))) as pool:
        futures = {
            pool.submit(place.measure, bundle, _saying(place.name, listener)): place
            for place in places
        }
        try:
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BenchError as error:
                    yield futures[future], error
        finally:
            for place in places:
                place.stop()


def _saying(name: str, listener: ProgressListener) -> Say:
    return lambda text: listener.note(f"{name}: {text}")
