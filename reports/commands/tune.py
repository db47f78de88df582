"""A search as text: what was tried, what it came to, and the homework's own tuning beside it."""

from collections.abc import Iterator, Sequence

from foldbench.bench import units
from foldbench.bench.records import Hyperparameters, Search, SearchTrial
from foldbench.reports.rows.homework import Reference, TuningRow, references
from foldbench.reports.text.document import Document, ReportSection, left, right, tabulated

_CHOICE = (right("learning rate"), right("batch size"), right("epochs"))


def build_search(search: Search, top: int) -> Document:
    """Return the trials of a search, the `top` best of them where there are more."""
    reference = references().get(str(search.config["model"]["name"]))
    if search.preset == "homework" and reference is not None:
        sections = [_beside_homework(search, reference)]
    else:
        sections = [_ranked(search, top)]
        if reference is not None:
            sections.append(_homework_alone(reference))
    return Document(
        f"Search of {search.config_name} on {units.count(search.images)} images of "
        f"{search.data_title}",
        tuple(
            s for s in (*sections, _result(search), _failures(search.trials)) if s.table or s.pairs
        ),
    )


def _cells(choice: Hyperparameters | TuningRow) -> list[str]:
    return [
        units.learning_rate(choice.learning_rate),
        units.count(choice.batch_size),
        units.count(choice.epochs),
    ]


def _beside_homework(search: Search, reference: Reference) -> ReportSection:
    """Return the homework's rows in its order, with ours beside them."""
    ours = {trial.choice: trial for trial in search.trials if trial.status != "running"}
    rows = []
    for row in reference.tuning:
        trial = ours.get(
            Hyperparameters(
                learning_rate=row.learning_rate, batch_size=row.batch_size, epochs=row.epochs
            )
        )
        loss = trial.loss() if trial else None
        rows.append(
            [
                *_cells(row),
                units.loss(row.loss),
                units.loss(loss),
                units.loss_difference(None if loss is None else loss - row.loss),
                units.percent(trial.accuracy()) if trial else "",
                "output of a cell" if row.printed else "table",
            ]
        )
    columns = (
        *_CHOICE,
        right("homework loss"),
        right("our loss"),
        right("ours − homework"),
        right("our validation %"),
        left("where it stands"),
    )
    return ReportSection(
        "The homework's rows",
        table=tabulated(columns, rows),
        caption="Mean training loss of the last epoch on "
        f"{units.count(search.images)} random training images (mean of batch means, images "
        "flipped and cropped), which is what the homework chose by. It drew its images without a "
        "seed, so they are others than ours. Validation: accuracy on "
        f"{units.count(search.validation_images)} other training images, as they are; the "
        "homework had none.",
    )


def _ranked(search: Search, top: int) -> ReportSection:
    done = [t for t in search.trials if t.status in ("finished", "pruned") and t.validation]
    ranked = sorted(done, key=lambda t: (t.status != "finished", -(t.accuracy() or 0.0)))
    rows = [
        [
            units.count(trial.number),
            *_cells(trial.choice),
            units.percent(trial.accuracy()),
            units.loss(trial.loss()),
            "" if trial.status == "finished" else f"fell behind after {len(trial.losses)}",
        ]
        for trial in ranked[:top]
    ]
    columns = (right("trial"), *_CHOICE, right("validation %"), right("loss"), left("ended"))
    pruned = sum(trial.status == "pruned" for trial in done)
    return ReportSection(
        f"Best {len(rows)} of {len(search.trials)} trials",
        table=tabulated(columns, rows),
        caption=f"Validation: accuracy on {units.count(search.validation_images)} training images "
        "that no trial was trained on, as they are; the test split was not touched. Loss: mean "
        f"training loss of the last epoch. {pruned} trials fell behind the median of the others "
        "and were ended early.",
    )


def _homework_alone(reference: Reference) -> ReportSection:
    rows = [
        [*_cells(row), units.loss(row.loss), "output of a cell" if row.printed else "table"]
        for row in reference.tuning
    ]
    return ReportSection(
        f"The homework's tuning of {reference.title}",
        table=tabulated((*_CHOICE, right("loss"), left("where it stands")), rows),
        caption=f"Training loss on {units.count(reference.tuning_images)} images of CIFAR-10. "
        "bench tune --preset homework trains the same rows.",
    )


def _result(search: Search) -> ReportSection:
    winner = search.winner()
    reference = references().get(str(search.config["model"]["name"]))
    pairs = []
    if winner is not None:
        by = "lowest training loss" if search.preset else "highest validation accuracy"
        pairs.append((f"chosen by the {by}", _words(winner.choice)))
    if reference is not None:
        best = min(reference.tuning, key=lambda row: row.loss)
        rate, size, epochs = (
            reference.recipe[f"train.{key}"] for key in ("learning_rate", "batch_size", "epochs")
        )
        used = Hyperparameters(learning_rate=rate, batch_size=size, epochs=epochs)
        pairs.append(("lowest loss of the homework", _words(best)))
        pairs.append(("what the homework then trained with", _words(used)))
    return ReportSection("Choice", pairs=tuple(pairs))


def _words(choice: Hyperparameters | TuningRow) -> str:
    rate, size, epochs = _cells(choice)
    return f"learning rate {rate}, batch size {size}, {epochs} epochs"


def _failures(trials: Sequence[SearchTrial]) -> ReportSection:
    rows = list(_failed(trials))
    return ReportSection(
        "Failed", table=tabulated((right("trial"), *_CHOICE, left("reason")), rows)
    )


def _failed(trials: Sequence[SearchTrial]) -> Iterator[list[str]]:
    for trial in trials:
        if trial.status == "failed":
            yield [units.count(trial.number), *_cells(trial.choice), trial.reason or ""]
