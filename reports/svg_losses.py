"""The training loss of each epoch, drawn over the homework's."""

from collections.abc import Mapping

from markupsafe import Markup

from reports import units
from reports.document import left, right, tabulated
from reports.figures import Figure
from reports.homework import reference_for
from reports.labels import Labelled
from reports.svg_axes import Scale, horizontal_axis, vertical_axis
from reports.svg_elements import drawing, element, group, number, short, text

_WIDTH, _HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 428, 44, 258
_OVER, _UNDER = -8, 14
"""Where a curve's name is, seen from its end: on the side where the other curve is not."""


def loss_figure(labelled: Labelled) -> Figure | None:
    """Return a panel for each training, None where there is no history.

    Runs of the same checkpoint share one.
    """
    trained = {run.checkpoint.sha256: (label, run) for label, run in reversed(labelled)}
    found = [(label, run) for label, run in reversed(trained.values()) if run.checkpoint.history]
    if not found:
        return None
    panels, rows = [], []
    for i, (label, run) in enumerate(found):
        ours = {epoch.epoch: epoch.loss for epoch in run.checkpoint.history}
        reference = reference_for(run.checkpoint)
        theirs = dict(enumerate(reference.losses, start=1)) if reference else {}
        panels.append(_panel(f"loss-{i}", label, ours, theirs))
        rows += [
            [
                label if len(found) > 1 else "",
                units.count(epoch),
                units.loss(ours.get(epoch)),
                units.loss(theirs.get(epoch)),
            ]
            for epoch in sorted({*ours, *theirs})
        ]
    columns = (left("model"), right("epoch"), right("loss"), right("homework loss"))
    return Figure(
        identity="losses",
        title="Training loss",
        panels=tuple(panels),
        caption="Mean training loss of each epoch: dots and the full line are this run, the dashed "
        "line is what the homework printed, where its figures may stand beside these.",
        table=tabulated(columns, rows),
    )


def _panel(
    identity: str, label: str, ours: Mapping[int, float], theirs: Mapping[int, float]
) -> Markup:
    losses = [*ours.values(), *theirs.values()]
    x = Scale(1, max([2, *ours, *theirs]), _LEFT + 6, _RIGHT)
    y = Scale(0, max(losses) * 1.05, _BOTTOM, _TOP)
    marks = [
        text(short(label, 56), 0, 14, "heading"),
        vertical_axis(y, _LEFT, _RIGHT, "loss"),
        horizontal_axis(x, _TOP, _BOTTOM, "epoch"),
        element("path", d=_path(theirs, x, y), class_="theirs"),
        element("path", d=_path(ours, x, y), class_="ours"),
        *(element("circle", cx=x(e), cy=y(v), r=2.6, class_="mark") for e, v in ours.items()),
    ]
    last = max(ours)
    below = bool(theirs) and ours[last] < theirs.get(last, theirs[max(theirs)])
    late = x(last) > (_LEFT + _RIGHT) / 2
    near = (x(last) - 8 if late else x(last) + 8, y(ours[last]) + (_UNDER if below else _OVER))
    marks.append(text("this run", *near, "label halo", "end" if late else "start"))
    if theirs:
        end = y(theirs[max(theirs)]) + (_OVER if below else _UNDER)
        marks.append(text("homework", x(max(theirs)), end, "note halo", "end"))
    told = f"This run: {units.loss(ours[min(ours)])} after epoch {min(ours)}, "
    told += f"{units.loss(ours[last])} after epoch {last}."
    if theirs:
        told += f" The homework: {units.loss(theirs[1])}, then {units.loss(theirs[max(theirs)])} "
        told += f"after epoch {max(theirs)}."
    return drawing(
        identity, _WIDTH, _HEIGHT, f"Training loss of {label}", told, group(*marks, class_="s0")
    )


def _path(losses: Mapping[int, float], x: Scale, y: Scale) -> str | None:
    points = [f"{number(x(epoch))} {number(y(loss))}" for epoch, loss in sorted(losses.items())]
    return f"M{'L'.join(points)}" if points else None
