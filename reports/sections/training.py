"""The section about training: each epoch beside the homework's."""

from foldbench.bench import units
from foldbench.bench.records import Run
from foldbench.reports.rows.training import HistoryRow, history_rows
from foldbench.reports.text.document import ReportSection, right, tabulated


def build_training(title: str, run: Run) -> ReportSection:
    """Return the section with this title; it is empty for a run without training."""
    columns = (
        right("epoch"),
        right("loss"),
        right("homework loss"),
        right("ours − homework"),
        right("training accuracy %"),
        right("validation accuracy %"),
        right("learning rate"),
        right("seconds"),
        right("images/s"),
    )
    return ReportSection(
        title,
        table=tabulated(columns, [_history_cells(row) for row in history_rows(run)]),
        caption="Mean training loss of each epoch; training accuracy is of augmented images, "
        "counted while the weights change.",
        detail=True,
        key="training",
    )


def _history_cells(row: HistoryRow) -> list[str]:
    difference = None if row.homework_loss is None else row.loss - row.homework_loss
    return [
        units.count(row.epoch),
        units.loss(row.loss),
        units.loss(row.homework_loss),
        units.loss_difference(difference),
        units.percent(row.accuracy),
        units.percent(row.validation_accuracy),
        units.learning_rate(row.learning_rate),
        units.seconds(row.duration_s),
        units.rate(row.images_per_s),
    ]
