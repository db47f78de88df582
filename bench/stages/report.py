"""Report a run: the pages beside a run's records, with everything that its folder holds."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from foldbench.bench.errors import RunError
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Run
from foldbench.bench.store.directory import RunDirectory
from foldbench.reports.figures.figure import EmbeddedImage
from foldbench.reports.render import render

_EARLIER = 20
"""Comparisons that are read to learn what the machine changes between them."""


def store_comparison(run: RunDirectory, record: Run, listener: ProgressListener) -> None:
    """Keep the record of a finished comparison behind those before it, and write its report.

    The lock of the run is held. A comparison in which nothing ran measured nothing: it is kept only
    where the run has none in which something did. Raises RunError when it cannot be written; then
    `listener` is told the figures.
    """
    try:
        if _has_figures(record) or not _has_comparison_with_figures(run):
            run.write_results(record)
            write_report(run, record)
        else:
            listener.note(f"nothing ran: the newest comparison of {run.name} stays the one before")
        run.samples.unlink(missing_ok=True)
    except RunError:
        listener.note(render(record, "terminal"))
        raise


def earlier_comparisons(run: RunDirectory, listener: ProgressListener) -> Iterator[Run]:
    """Yield the newest comparisons of a run that are kept; one that is damaged is said."""
    for kept in reversed(run.comparisons()[-_EARLIER:]):
        try:
            yield run.read_comparison(kept)
        except RunError as error:
            listener.note(f"skipped, its figures are not used: {error}")


def _has_figures(record: Run) -> bool:
    return any(m.accuracy or m.timings or m.scenarios for m in record.measurements)


def _has_comparison_with_figures(run: RunDirectory) -> bool:
    for kept in reversed(run.comparisons()):
        with suppress(RunError):
            if _has_figures(run.read_comparison(kept)):
                return True
    return False


def write_report(run: RunDirectory, record: Run) -> None:
    """Write the report of the comparison `record`, with what is beside it."""
    beside = run.beside(record.name)
    page = render(record, "html", beside, list(pictures_of(run)))
    run.write_report(render(record, "md", beside), page)


def pictures_of(run: RunDirectory) -> Iterator[EmbeddedImage]:
    """Yield what `bench plot` and `bench features` drew of the run's network.

    Its losses a report draws itself.
    """
    path = run.path / "filters.png"
    if path.is_file():
        words = "A grid of small colour pictures, one for each filter of the first layer."
        yield EmbeddedImage(f"First-layer filters of {run.name}", words, path.read_bytes())
    for path in sorted((run.path / "features").glob("*.png"), key=_by_number):
        words = "Maps of one layer's activations side by side, in one scale of grey."
        yield EmbeddedImage(f"Feature maps of {run.name}: {path.stem}", words, path.read_bytes())


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Return what puts layer 5 before layer 12."""
    return [(len(part), part) for part in path.name.split(".")]
