"""The way from image files to classes, with each contender at its end."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.errors import DataError
from foldbench.bench.measure.calling.processes import Processes, runner_of
from foldbench.bench.measure.calling.turns import Pass, Turn
from foldbench.bench.measure.running import Contender
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import AsCalled, Block, StageBlock, StageSeries
from foldbench.bench.timing.loop import BlockOptions

_KINDS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_MOST_FILES = 64


def measure_stages(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    processes: Processes,
) -> None:
    """Time the way from file to class with each contender, in turns; note it in them."""
    files = image_files(Path(settings.calling.stages or ""))
    runners = {id(c): runner_of(c) for c in contenders}
    rows = {id(runners[id(c)]): c for c in contenders}

    def start(runner: Contender) -> None:
        processes.start(runner, rows[id(runner)])

    def timer(row: Contender) -> Callable[[], Block]:
        options = BlockOptions(settings.calls, settings.block_s, settings.settle_s)
        preprocessing = processes.preprocessing(row)
        worker = runners[id(row)].require_worker
        return lambda: worker().time_stages(files, preprocessing, options)

    turns = [Turn(c.label, runners[id(c)], timer(c)) for c in contenders]
    taken = Pass("from file to class", settings, listener, start).run(turns)
    size = mean(path.stat().st_size for path in files)
    for contender in contenders:
        blocks = taken.blocks[contender.label]
        series = StageSeries(
            files=len(files),
            bytes_mean=size,
            blocks=tuple(b for b in blocks if isinstance(b, StageBlock)),
            reason=taken.reasons.get(contender.label),
        )
        contender.add_called(AsCalled(stages=series))


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
