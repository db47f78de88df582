"""What is drawn in a report, before it is put in a page."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foldbench.bench import units
from foldbench.reports.figures.marks import SeriesStyle
from foldbench.reports.rows.latency import LatencyRow
from foldbench.reports.text.document import Table
from foldbench.reports.text.labels import Labelled, label_in


@dataclass(frozen=True)
class ReportFigure:
    """Panels that belong together, a legend and a table; nothing is shown in the panels alone."""

    identity: str
    """Unique in the page; anchors are made of it."""
    title: str
    panels: tuple[Markup, ...]
    caption: str
    table: Table | None
    """What the panels show, in figures."""
    legend: tuple[tuple[SeriesStyle, str], ...] = ()
    raw: tuple[tuple[str, str], ...] = ()
    """Identity and name of the embedded data that it was drawn from; none where the table is all
    of it."""


def panel_heading(labelled: Labelled, label: str, batch_size: int | None, where: str = "") -> str:
    """Return what a panel is about, such as ``Batch 64`` or ``mish_cnn, batch 64``."""
    batch = label_in(labelled, label, after=", batch") or "Batch"
    return f"{batch} {units.count(batch_size)}{where}"


def latency_panels(
    labelled: Labelled, label: str, rows: Sequence[LatencyRow]
) -> Iterator[tuple[str, list[LatencyRow]]]:
    """Yield the heading and the rows of each batch size and boundary of one run."""
    for size, boundary in dict.fromkeys((row.batch_size, row.boundary) for row in rows):
        here = [row for row in rows if (row.batch_size, row.boundary) == (size, boundary)]
        where = ", device-resident" if boundary == "device" else ""
        yield panel_heading(labelled, label, size, where), here


@dataclass(frozen=True)
class EmbeddedImage:
    """A picture that was made elsewhere, such as the filters of a run's first layer."""

    title: str
    alternative: str
    """What is in it, for those who cannot see it."""
    png: bytes

    @property
    def address(self) -> str:
        """The whole picture as an address, so that nothing has to be loaded."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


STATISTICS = "raw-statistics"


def samples_id(position: int) -> str:
    """Return the identity of the samples of the run at `position` in the report."""
    return f"raw-samples-{position}"


def classes_id(position: int) -> str:
    """Return the identity of the classes given in the run at `position` in the report."""
    return f"raw-classes-{position}"
