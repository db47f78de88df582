"""What is drawn in a report, before it is put in a page."""

import base64
from dataclasses import dataclass

from markupsafe import Markup

from reports.document import Table
from reports.svg_marks import Series


@dataclass(frozen=True)
class Figure:
    """Panels that belong together, a legend and a table; nothing is shown in the panels alone."""

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


@dataclass(frozen=True)
class Photograph:
    """A picture that was made elsewhere, such as the filters of a run's first layer."""

    title: str
    alternative: str
    """What is in it, for those who cannot see it."""
    png: bytes

    @property
    def address(self) -> str:
        """The whole picture as an address, so that nothing has to be loaded."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"
