"""The way from image files to classes, with each contender at its end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.errors import BackendError, DataError
from foldbench.bench.measure.calling.processes import Processes, runner_of
from foldbench.bench.measure.calling.turns import Pass, Turn
from foldbench.bench.measure.running import Contender
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import AsCalled, Block, StageBlock, StageSeries
from foldbench.bench.timing.loop import BlockOptions

_KINDS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_MOST_FILES = 64


@dataclass(frozen=True)
class _Way:
    """One contender at the end of the way, and the process that it runs in."""

    row: Contender
    runner: Contender
    inside: bool = False

    @property
    def name(self) -> str:
        """What its turn is called."""
        return f"{self.row.label}{', preprocessing inside' * self.inside}"


def measure_stages(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    processes: Processes,
) -> None:
    """Time the way from file to class with each contender, in turns; note it in them.

    Where its file was also exported with the preprocessing inside, that way is timed, too.
    """
    files = image_files(Path(settings.calling.stages or ""))
    ways = [way for c in contenders for way in _ways(c, processes, listener)]
    rows = {id(way.runner): way.row for way in ways}

    def start(runner: Contender) -> None:
        processes.bare(runner, rows[id(runner)])

    def timer(way: _Way) -> Callable[[], Block]:
        options = BlockOptions(settings.calls, settings.block_s, settings.settle_s)
        preprocessing = None if way.inside else processes.preprocessing(way.row)
        worker = way.runner.require_worker
        return lambda: worker().time_stages(files, preprocessing, options)

    references = {id(way.row): way.name for way in reversed(ways)}
    turns = [Turn(w.name, w.runner, timer(w), references[id(w.row)]) for w in ways]
    taken = Pass("from file to class", settings, listener, start).run(turns)
    size = mean(path.stat().st_size for path in files)
    for contender in contenders:
        series = (
            StageSeries(
                inside=way.inside,
                files=len(files),
                bytes_mean=size,
                blocks=tuple(b for b in taken.blocks[way.name] if isinstance(b, StageBlock)),
                reason=taken.reasons.get(way.name),
            )
            for way in ways
            if way.row is contender
        )
        contender.add_called(AsCalled(stages=tuple(series)))


def _ways(row: Contender, processes: Processes, listener: ProgressListener) -> Iterator[_Way]:
    yield _Way(row, runner_of(row))
    if row.spec.device != "cpu" or row.spec.backend.partition(":")[0] != "ort":
        return
    try:
        path = processes.image_file(row)
    except BackendError as error:
        listener.note(f"from file to class: {error}")
        return
    if path is not None:
        yield _Way(row, runner_of(row, path=path), inside=True)


def image_files(path: Path) -> tuple[Path, ...]:
    """Return the image file at `path`, or the first ones below it by name.

    Raises DataError where there is none.
    """
    if path.is_file():
        return (path,)
    below = sorted(p for p in path.rglob("*") if p.suffix.lower() in _KINDS and p.is_file())
    if not below:
        raise DataError(
            f"{path}: there is no image file; allowed: one, or a folder with "
            f"{', '.join(sorted(_KINDS))}"
        )
    return tuple(below[:_MOST_FILES])
