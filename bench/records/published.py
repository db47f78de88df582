"""A published summary, as a run of which the figures are known and the samples are not."""

from typing import Any

from foldbench.bench.records.run import Run


class PublishedRun(Run):
    """A run read from what ``bench report --format json`` wrote.

    Its rows are those of the summary, unrounded; what they were computed from (timed calls,
    predictions, settings) is not in it, and the fields that would hold it are empty.
    """

    summary: dict[str, Any]
    """The run's object in the list ``runs`` of the file."""
