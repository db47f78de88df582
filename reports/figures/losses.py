"""The training loss of each epoch, drawn over the homework's."""

from collections.abc import Mapping

from markupsafe import Markup

from foldbench.bench import units
from foldbench.reports.figures.axes import Scale, horizontal_axis, vertical_axis
from foldbench.reports.figures.elements import drawing, element, group, number, short, text
from foldbench.reports.figures.figure import ReportFigure
from foldbench.reports.rows.homework import reference_for
from foldbench.reports.text.document import left, right, tabulated
from foldbench.reports.text.labels import Labelled

_WIDTH, _HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 428, 44, 258
_OVER, _UNDER = -8, 14
"""Where a curve's name is, seen from its end: on the side where the other curve is not."""


def loss_figure(labelled: Labelled) -> ReportFigure | None:
    """Return a panel for each training, None where there is no history.

    Runs of the same checkpoint share one.
    """
    trained = {run.checkpoint.sha256: (label, run) for label, run in reversed(labelled)}
    found = [(label, run) for label, run in reversed(trained.values()) if run.checkpoint.history]
    if not found:
        return None
    panels, rows = [], []
    for i, (label, run) in enumerate(found):
        run_losses = {epoch.epoch: epoch.loss for epoch in run.checkpoint.history}
        reference = reference_for(run.checkpoint)
        homework_losses = dict(enumerate(reference.losses, start=1)) if reference else {}
        panels.append(_panel(f"loss-{i}", label, run_losses, homework_losses))
        rows += [
            [
                label if len(found) > 1 else "",
                units.count(epoch),
                units.loss(run_losses.get(epoch)),
                units.loss(homework_losses.get(epoch)),
            ]
            for epoch in sorted({*run_losses, *homework_losses})
        ]
    columns = (left("model"), right("epoch"), right("loss"), right("homework loss"))
    return ReportFigure(
        identity="losses",
        title="Training loss",
        panels=tuple(panels),
        caption="Mean training loss of each epoch: dots and the full line are this run, the dashed "
        "line is what the homework printed, where its figures may stand beside these.",
        table=tabulated(columns, rows),
    )


def _panel(
    identity: str, label: str, run_losses: Mapping[int, float], homework_losses: Mapping[int, float]
) -> Markup:
    losses = [*run_losses.values(), *homework_losses.values()]
    x = Scale(1, max([2, *run_losses, *homework_losses]), _LEFT + 6, _RIGHT)
    y = Scale(0, max(losses) * 1.05, _BOTTOM, _TOP)
    marks = [
        text(short(label, 56), 0, 14, "heading"),
        vertical_axis(y, _LEFT, _RIGHT, "loss"),
        horizontal_axis(x, _TOP, _BOTTOM, "epoch"),
        element("path", d=_path(homework_losses, x, y), class_="theirs"),
        element("path", d=_path(run_losses, x, y), class_="ours"),
        *(element("circle", cx=x(e), cy=y(v), r=2.6, class_="mark") for e, v in run_losses.items()),
    ]
    last = max(run_losses)
    below = bool(homework_losses) and run_losses[last] < homework_losses.get(
        last, homework_losses[max(homework_losses)]
    )
    late = x(last) > (_LEFT + _RIGHT) / 2
    near = (
        x(last) - 8 if late else x(last) + 8,
        y(run_losses[last]) + (_UNDER if below else _OVER),
    )
    marks.append(text("this run", *near, "label halo", "end" if late else "start"))
    if homework_losses:
        end = y(homework_losses[max(homework_losses)]) + (_OVER if below else _UNDER)
        marks.append(text("homework", x(max(homework_losses)), end, "note halo", "end"))
    described = (
        f"This run: {units.loss(run_losses[min(run_losses)])} after epoch {min(run_losses)}, "
    )
    described += f"{units.loss(run_losses[last])} after epoch {last}."
    if homework_losses:
        described += (
            f" The homework: {units.loss(homework_losses[1])}, then "
            f"{units.loss(homework_losses[max(homework_losses)])} "
        )
        described += f"after epoch {max(homework_losses)}."
    return drawing(
        identity,
        _WIDTH,
        _HEIGHT,
        f"Training loss of {label}",
        described,
        group(*marks, class_="s0"),
    )


def _path(losses: Mapping[int, float], x: Scale, y: Scale) -> str | None:
    points = [f"{number(x(epoch))} {number(y(loss))}" for epoch, loss in sorted(losses.items())]
    return f"M{'L'.join(points)}" if points else None
