"""Each epoch of training beside the homework's."""

from dataclasses import dataclass

from foldbench.bench.records import (
    Run,
)
from foldbench.bench.records.published import PublishedRun
from foldbench.reports.rows.homework import reference_for
from foldbench.reports.rows.published import stored_rows


@dataclass(frozen=True)
class HistoryRow:
    """One epoch of training beside the homework's."""

    epoch: int
    loss: float
    homework_loss: float | None
    accuracy: float
    validation_accuracy: float | None
    learning_rate: float
    duration_s: float
    images_per_s: float


def history_rows(run: Run) -> tuple[HistoryRow, ...]:
    """Return one row per epoch trained, with the homework's loss where it may stand beside it."""
    if isinstance(run, PublishedRun):
        return tuple(stored_rows(run, "history", HistoryRow))
    reference = reference_for(run.checkpoint)
    losses = dict(enumerate(reference.losses, start=1)) if reference else {}
    return tuple(
        HistoryRow(
            epoch=epoch.epoch,
            loss=epoch.loss,
            homework_loss=losses.get(epoch.epoch),
            accuracy=epoch.accuracy,
            validation_accuracy=epoch.validation_accuracy,
            learning_rate=epoch.learning_rate,
            duration_s=epoch.duration_s,
            images_per_s=epoch.images_per_s,
        )
        for epoch in run.checkpoint.history
    )
