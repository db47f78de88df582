"""The log of a comparison: each block is appended to samples.jsonl as soon as it is timed.

A killed process loses the line that it was writing, and nothing else. From the file an interrupted
comparison goes on, or is reported as far as it came. The parent writes between two blocks, while
every worker is idle, and leaves it to the system when the disk gets it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from foldbench.bench.backends import Closing
from foldbench.bench.errors import RunError
from foldbench.bench.measure.ablation import ablation_of
from foldbench.bench.measure.series import Generation, MeasurementSeries, Times, to_timing
from foldbench.bench.records import (
    AsCalled,
    Called,
    Driven,
    Ended,
    Event,
    Failed,
    Line,
    Measurement,
    Opening,
    Row,
    Run,
    ScenarioResult,
    Session,
    Shortened,
    Timed,
    Warmed,
)
from foldbench.bench.store.consistency import find_fault
from foldbench.bench.timing.loop import WarmUp

_LINES: TypeAdapter[Opening | Event] = TypeAdapter(Line)


class SampleLog(Closing):
    """The open file; one call of the operating system for each line."""

    def __init__(self, path: Path, size_bytes: int = 0) -> None:
        """Open `path` to append after its first `size_bytes`; what follows those is cut off."""
        self._path = path
        try:
            self._file = path.open("ab", buffering=0)
            self._file.truncate(size_bytes)
        except OSError as error:
            raise self._refused(error) from error

    def append(self, line: Opening | Event) -> None:
        """Append one line; raise RunError when the operating system refuses."""
        data = line.model_dump_json().encode() + b"\n"
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _refused(self, error: OSError) -> RunError:
        return RunError(
            f"cannot write {self._path}: {error.strerror or error}; what was timed before is kept "
            "in it: free space, and the same command goes on"
        )


@dataclass(frozen=True)
class Samples:
    """What the file of an interrupted comparison holds."""

    opening: Opening
    events: tuple[Event, ...]
    size_bytes: int
    """Of its whole lines; what follows was being written when the process was killed."""

    def has_figures(self) -> bool:
        """Return whether anything was timed."""
        return any(isinstance(event, Timed | Driven) for event in self.events)

    def sessions(self) -> tuple[str, ...]:
        """Return when the comparison went on after an interruption."""
        return tuple(event.created for event in self.events if isinstance(event, Session))


def read_samples(path: Path) -> Samples | None:
    """Return what the file at `path` holds, None when there is none or it has no whole line.

    Raises RunError that names the line that cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from error
    whole, _, _ = data.rpartition(b"\n")
    if not whole:
        return None
    opening, *events = (
        _parse(path, number, text) for number, text in enumerate(whole.split(b"\n"), 1)
    )
    rest = [event for event in events if not isinstance(event, Opening)]
    if not isinstance(opening, Opening) or len(rest) != len(events):
        raise _damaged(path, 1, "is not where a comparison begins")
    for number, wrong in _order_faults(rest):
        raise _damaged(path, number, wrong)
    samples = Samples(opening, tuple(rest), len(whole) + 1)
    contradiction = find_fault(unfinished_record(samples))
    if contradiction is not None:
        raise RunError(
            f"{path} contradicts itself: {contradiction}; it was damaged, or edited by hand: "
            "bench compare --fresh begins anew"
        )
    return samples


def _parse(path: Path, number: int, text: bytes) -> Opening | Event:
    try:
        line = _LINES.validate_json(text)
    except ValidationError as error:
        raise _damaged(path, number, error.errors()[0]["msg"]) from None
    fault = find_fault(line)
    if fault is not None:
        raise _damaged(path, number, fault)
    return line


def _order_faults(events: Iterable[Event]) -> Iterator[tuple[int, str]]:
    """Yield lines about what no line before has told of, by number; the first one is 2."""
    rows: set[str] = set()
    warm: set[tuple[str, MeasurementSeries]] = set()
    for number, event in enumerate(events, 2):
        if isinstance(event, Row):
            rows.add(event.measurement.contender)
            continue
        names = getattr(event, "contenders", None) or (getattr(event, "contender", None),)
        for name in names:
            if name is not None and name not in rows:
                yield number, f"{name} is timed, and no line has its row"
        if isinstance(event, Warmed):
            warm.add((event.contender, _series(event)))
        if isinstance(event, Timed) and (event.contender, _series(event)) not in warm:
            yield number, f"{event.contender} is timed at a batch size that it was not warmed up at"


def _damaged(path: Path, number: int, why: str) -> RunError:
    return RunError(
        f"{path}: line {number}: {why}; it was damaged or written by another version: "
        "bench compare --fresh begins anew"
    )


@dataclass
class Found:
    """What is known of one row."""

    measurement: Measurement
    """Without what was timed."""
    times: Times = field(default_factory=Times)
    scenarios: list[ScenarioResult] = field(default_factory=list)
    as_called: AsCalled | None = None

    def take(self, event: Driven | Called) -> None:
        """Note what was found beside the rounds."""
        if isinstance(event, Driven):
            self.scenarios.append(event.result)
        else:
            self.as_called = (self.as_called or AsCalled()).with_found(event.found)

    def to_measurement(self) -> Measurement:
        """Return the whole row."""
        timings = tuple(to_timing(self.times, series) for series in self.times.blocks)
        timed = {"timings": timings, "tunings": tuple(self.times.tunings)}
        further = {"scenarios": tuple(self.scenarios), "as_called": self.as_called}
        return self.measurement.model_copy(update={**timed, **further})


def replay(events: Iterable[Event]) -> dict[str, Found]:
    """Return the rows by name, as they were when the last of `events` had happened."""
    rows: dict[str, Found] = {}
    for event in events:
        _take(event, rows)
    return rows


def _take(event: Event, rows: dict[str, Found]) -> None:
    match event:
        case Row(measurement=measurement):
            rows.setdefault(measurement.contender, Found(measurement)).measurement = measurement
        case Warmed():
            warm_up = WarmUp(
                event.first_call_s,
                event.calls,
                event.converged,
                event.call_s,
                event.turn_s,
                event.tuning,
            )
            rows[event.contender].times.begin(_series(event), warm_up)
        case Shortened():
            for name in event.contenders:
                rows[name].times.shortages[_series(event)] = event.shortage
        case Timed():
            rows[event.contender].times.add(_series(event), event.block, event.settle_calls)
        case Ended():
            for name in event.contenders:
                generation = Generation(event.repeat, event.process)
                rows[name].times.end(_series(event), generation, event.stopped)
        case Driven() | Called():
            rows[event.contender].take(event)
        case Failed():
            _fail(event, rows[event.contender])


def _series(event: Warmed | Shortened | Timed | Ended) -> MeasurementSeries:
    return MeasurementSeries(event.batch_size, event.boundary)


def _fail(event: Failed, row: Found) -> None:
    if event.boundary == "device":
        changed = {"not_resident": event.reason}
        row.times.drop_unfinished("device")
    else:
        changed = {"status": "failed", "reason": event.reason}
    row.measurement = row.measurement.model_copy(update=changed)


def unfinished_record(samples: Samples) -> Run:
    """Return the record of an interrupted comparison, as far as it came."""
    rows = replay(samples.events).values()
    last = max((row.times.last_generation() for row in rows), default=Generation())
    for row in rows:
        for series in row.times.blocks if row.measurement.status == "ok" else ():
            if (series, last) not in row.times.ended:
                row.times.stopped[series] = "interrupted"
    measurements = tuple(_without_promise(row.to_measurement()) for row in rows)
    record = samples.opening.record
    steps = ablation_of(measurements, record.artifacts) if samples.opening.ablation else ()
    return record.model_copy(
        update={
            "measurements": measurements,
            "ladder": steps,
            "resumed": samples.sessions(),
            "interrupted": True,
        }
    )


def _without_promise(measurement: Measurement) -> Measurement:
    """Return a row that never came to run as one that was skipped."""
    if measurement.status != "ok" or measurement.actual_device is not None:
        return measurement
    reason = "the comparison was interrupted before it ran"
    return measurement.model_copy(update={"status": "skipped", "reason": reason})
