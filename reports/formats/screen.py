"""The first screen of a report for the terminal: at most 24 lines of 100 columns, and a path.

Rows and columns that do not fit are left out, and their number is said.
"""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from foldbench.bench import units
from foldbench.reports.figures.elements import short
from foldbench.reports.formats.terminal import WIDTH, render_section, styled
from foldbench.reports.rows.accuracy import AccuracyRow
from foldbench.reports.sections.overview import ContenderRow, Group, Overview
from foldbench.reports.text.escaping import visible

LINES = 24
"""Without the line that says where the page is."""
_GAP = "  "
_SENTENCE = 3
"""Lines that a sentence may take."""
_STAGES = 5
_LOST = 2
"""Contenders that did not run of which the reason is told."""
_LABEL, _NAME = 20, 50
"""Letters of a network's and a contender's name that are shown."""
_GREEN, _RED, _YELLOW, _GREY, _BOLD = "32", "31", "33", "2", "1"


@dataclass(frozen=True)
class _Cell:
    text: str
    code: str = ""
    """SGR code of its colour."""


@dataclass(frozen=True)
class _Column:
    heading: str
    cell: Callable[[ContenderRow], _Cell]
    group: Group | None = None
    is_text: bool = False


def render_screen(overview: Overview, colour: bool = False) -> str:
    """Return the first screen, ending in a newline; escape sequences are in it if `colour`."""
    above = [*_done(overview), "", *_answer(overview, colour), ""]
    below = [*_below(overview), *_quality(overview, colour)]
    room = max(LINES - len(above) - len(below) - 3, 2)  # two lines of headings, one on what is left
    table = list(_table(overview, room, colour))
    if overview.scenarios is not None:
        table += render_section(overview.scenarios, colour).splitlines()
    lines = [*above, *table, *below]
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"


def render_quiet(overview: Overview) -> str:
    """Return the answer alone, a sentence a line; whether it is to be believed comes first."""
    doubt = overview.quality
    lead = f"{doubt.title}. " if doubt and doubt.level == "inconclusive" else ""
    return (
        "\n".join(visible(lead * (not i) + text) for i, text in enumerate(overview.headline)) + "\n"
    )


def _done(overview: Overview) -> Iterator[str]:
    """Yield what was measured, and each stage with its seconds at the end of the line."""
    yield _short(visible(f"{overview.title}   {overview.subtitle}"), WIDTH)
    stages = [stage for stage in overview.stages if stage.text][:_STAGES]
    width = max((len(visible(stage.name)) for stage in stages), default=0)
    for stage in stages:
        took = units.long_duration(stage.seconds)
        text = f"  {visible(stage.name):<{width}}   {visible(stage.text)}"
        room = WIDTH - len(took) - 2
        yield f"{_short(text, room):<{room}}  {took}" if took else _short(text, WIDTH)


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _answer(overview: Overview, colour: bool) -> Iterator[str]:
    for i, sentence in enumerate(overview.headline):
        lines = _wrap(sentence)
        if len(lines) > _SENTENCE:
            lines = [*lines[: _SENTENCE - 1], f"{lines[_SENTENCE - 1][: WIDTH - 2]} …"]
        for line in lines:
            yield styled(line, _BOLD, colour and not i)


def _below(overview: Overview) -> Iterator[str]:
    yield from _wrap(_legend(overview))
    for name, status, reason in overview.lost[:_LOST]:
        yield _short(visible(f"{status}: {name}: {reason}"), WIDTH)
    if len(overview.lost) > _LOST:
        yield f"... {units.count(len(overview.lost) - _LOST)} more failed: --details"


def _legend(overview: Overview) -> str:
    """Return what the cells mean; signs that stand in none are not explained."""
    if not overview.rows:
        return ""
    cells = [_speedup(row, group).text for row in overview.rows for group in overview.groups]
    said = [overview.legend]
    if "n.s." in cells:
        said.append("n.s.: no significant difference")
    if "-" in cells and _has_speedups(overview):
        said.append("-: too few undisturbed rounds")
    if any("~" in cell for cell in cells):
        said.append(
            "~: the medians alone say something else, since the machine drifted; the "
            "speed-up compares calls of the same round"
        )
    return "; ".join(said)


def _quality(overview: Overview, colour: bool) -> Iterator[str]:
    found = overview.quality
    if found is None:
        return
    yield ""
    if found.level == "reliable":
        yield from _wrap(f"{found.title}: {found.cause}.")
        return
    first, *more = _wrap(f"! {found.title}: {found.cause}.", "  ")
    yield styled(first[0], _YELLOW, colour) + first[1:]
    yield from more
    if found.command:
        line = f"  {found.advice}:  {visible(found.command)}"
        yield from [line] if len(line) <= WIDTH else line.replace(":  ", ":\n  ", 1).split("\n")


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(visible(text), WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _table(overview: Overview, room: int, colour: bool) -> Iterator[str]:
    if not overview.rows:
        return
    rows = _kept(overview.rows, room)
    columns, groups = _fitting(overview, rows)
    widths = [_width(column, rows) for column in columns]
    yield _over(columns, widths, groups)
    yield _GAP.join(_aligned(c, c.heading, w) for c, w in zip(columns, widths, strict=True))
    for row in rows:
        cells = [(column, column.cell(row)) for column in columns]
        yield _GAP.join(
            styled(_aligned(column, cell.text, width), cell.code, colour)
            for (column, cell), width in zip(cells, widths, strict=True)
        )
    yield from _left_out(overview, rows, groups)


def _kept(rows: Sequence[ContenderRow], room: int) -> list[ContenderRow]:
    """Return the rows that fit: of each network the fastest, the baselines, then the fastest."""
    if len(rows) <= room:
        return list(rows)
    first = {row.label: i for i, row in reversed(list(enumerate(rows)))}
    fastest = sorted(first.values())
    baselines = [i for i, row in enumerate(rows) if row.is_baseline()]
    wanted = dict.fromkeys([*fastest, *baselines, *range(len(rows))])
    return [rows[i] for i in sorted(list(wanted)[:room])]


def _left_out(
    overview: Overview, rows: Sequence[ContenderRow], groups: Sequence[Group]
) -> Iterator[str]:
    left = []
    if len(overview.rows) > len(rows):
        left.append(f"{units.count(len(overview.rows) - len(rows))} more rows")
    hidden = [group for group in overview.groups if group not in groups]
    if hidden:
        left.append(", ".join(map(_told, hidden)))
    if left:
        yield f"... {'; '.join(left)}: --details"


def _told(group: Group) -> str:
    return f"batch {units.count(group.batch_size)}{', GPU alone' * group.resident}"


def _fitting(
    overview: Overview, rows: Sequence[ContenderRow]
) -> tuple[list[_Column], tuple[Group, ...]]:
    """Return the columns that say most within the width, and the batch sizes that they show."""
    groups = overview.groups
    while True:
        for with_p95, with_interval in ((9, 9), (1, 9), (0, 9), (0, 1), (0, 0)):
            columns = list(_columns(overview, groups, with_p95, with_interval))
            total = sum(_width(column, rows) + len(_GAP) for column in columns) - len(_GAP)
            if total <= WIDTH or (len(groups) == 1 and not with_interval):
                return columns, groups
        groups = _fewer(groups)


def _fewer(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    """Return the groups without one: those on the GPU alone go first, then the middle ones."""
    resident = [i for i, group in enumerate(groups) if group.resident]
    out = resident[-1] if resident and len(resident) < len(groups) else len(groups) // 2
    return groups[:out] + groups[out + 1 :]


def _columns(
    overview: Overview, groups: Sequence[Group], with_p95: int, with_interval: int
) -> Iterator[_Column]:
    """Yield the columns; the first `with_p95` groups have a p95, and so for the interval."""
    if any(row.label for row in overview.rows):
        yield _Column(overview.labels, lambda row: _Cell(short(row.label, _LABEL)), is_text=True)
    yield _Column("contender", lambda row: _Cell(short(row.name, _NAME)), is_text=True)
    if any(row.accuracy.accuracy is not None for row in overview.rows):
        yield _Column("top-1 %", lambda row: _Cell(units.percent(row.accuracy.accuracy)))
    elif any(row.accuracy.agreement_images for row in overview.rows):
        yield _Column("agree %", lambda row: _Cell(_agreement(row.accuracy)))
    for i, group in enumerate(groups):
        yield _Column("median", partial(_time_cell, group=group, field="median_s"), group)
        if i < with_p95 and any(_time_cell(row, group, "p95_s").text for row in overview.rows):
            yield _Column("p95", partial(_time_cell, group=group, field="p95_s"), group)
        if _has_speedups(overview):
            yield _Column("speed-up", partial(_speedup, group=group), group)
            if i < with_interval:
                yield _Column("95 % CI", partial(_interval, group=group), group)


def _has_speedups(overview: Overview) -> bool:
    rows = [row for of_row in overview.rows for row in of_row.timed.values()]
    return any(row.verdict for row in rows if row.contender != row.speedup_reference)


def _agreement(row: AccuracyRow) -> str:
    same, images = row.agreement_top1_equal, row.agreement_images
    return units.percent(same / images) if same is not None and images else ""


def _time_cell(row: ContenderRow, group: Group, field: str) -> _Cell:
    timed = row.timed.get(group)
    return _Cell(units.milliseconds(getattr(timed, field)) if timed else "")


def _interval(row: ContenderRow, group: Group) -> _Cell:
    timed = row.timed.get(group)
    if timed is None or timed.speedup_ratio is None:
        return _Cell("")
    return _Cell(units.estimate(timed.speedup_ratio, timed.speedup_low, timed.speedup_high)[1])


def _speedup(row: ContenderRow, group: Group) -> _Cell:
    timed = row.timed.get(group)
    if timed is None or timed.speedup_reference is None:
        return _Cell("")
    if timed.speedup_reference == timed.contender:
        return _Cell("baseline")
    if timed.verdict is None:
        return _Cell("-", _GREY)
    if timed.verdict == "no difference resolved" or not timed.is_claimed:
        return _Cell("n.s.", _GREY)
    ratio, _ = units.estimate(timed.speedup_ratio, timed.speedup_low, timed.speedup_high)
    drifted = "~" * (group in row.medians_ratio)
    return _Cell(f"{drifted}{ratio}x", _GREEN if timed.verdict == "faster" else _RED)


def _width(column: _Column, rows: Sequence[ContenderRow]) -> int:
    return max(len(column.heading), *(len(column.cell(row).text) for row in rows))


def _aligned(column: _Column, text: str, width: int) -> str:
    return f"{text:<{width}}" if column.is_text else f"{text:>{width}}"


def _over(columns: Sequence[_Column], widths: Sequence[int], groups: Sequence[Group]) -> str:
    """Return the line of headings over the groups, each at the left edge of its columns."""
    line = ""
    for group in groups:
        first = next(i for i, column in enumerate(columns) if column.group == group)
        start = sum(widths[:first]) + len(_GAP) * first
        width = len(columns[first].heading)
        line = f"{line:<{start + max(widths[first] - width, 0)}}{_told(group)}"
    return line
