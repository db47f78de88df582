"""The report beside a run's records, with everything that its folder holds."""

from collections.abc import Iterator
from pathlib import Path

from bench.records import Run
from bench.runs import RunDirectory
from reports.figures import Photograph
from reports.render import render


def write_report(run: RunDirectory, record: Run) -> None:
    """Write the report of the comparison `record`, where the time goes and pictures included."""
    profile = run.profile()
    profiles = [profile] if profile else []
    page = render(record, "html", profiles, list(pictures_of(run)))
    run.write_report(render(record, "md", profiles), page)


def pictures_of(run: RunDirectory) -> Iterator[Photograph]:
    """Yield what `bench plot` and `bench features` drew of the run's network.

    Its losses a report draws itself.
    """
    path = run.path / "filters.png"
    if path.is_file():
        words = "A grid of small colour pictures, one for each filter of the first layer."
        yield Photograph(f"First-layer filters of {run.name}", words, path.read_bytes())
    for path in sorted((run.path / "features").glob("*.png"), key=_by_number):
        words = "Maps of one layer's activations side by side, in one scale of grey."
        yield Photograph(f"Feature maps of {run.name}: {path.stem}", words, path.read_bytes())


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Return what puts layer 5 before layer 12."""
    return [(len(part), part) for part in path.name.split(".")]
