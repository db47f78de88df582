"""A picture of a report before it is put in a page: panels, a legend, the numbers in a table."""

from dataclasses import dataclass

from markupsafe import Markup

from reports.document import Table
from reports.svg_marks import Series


@dataclass(frozen=True)
class Figure:
    """Panels that belong together; nothing is shown in them alone."""

    identity: str
    """Unique in the page; anchors are made of it."""
    title: str
    panels: tuple[Markup, ...]
    caption: str
    table: Table | None
    """What the panels show, in figures."""
    legend: tuple[tuple[Series, str], ...] = ()
    raw: tuple[tuple[str, str], ...] = ()
    """Identity and name of the embedded data that it was drawn from; none where the table is all
    of it."""
