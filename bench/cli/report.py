"""The commands `bench report` and `bench history`: what stored records say, in several forms."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.echo import echo, tell
from foldbench.bench.cli.help import OUTPUT, command, section
from foldbench.bench.cli.options import stored_options
from foldbench.bench.cli.runs import choose_runs
from foldbench.bench.cli.tracker import track, tracker_option
from foldbench.bench.cli.values import NamedPath

if TYPE_CHECKING:
    from foldbench.bench.records import Run
    from foldbench.bench.store.directory import Paths, RunDirectory
    from foldbench.reports.render import Format


_FORMS: "tuple[Format, ...]" = ("terminal", "md", "html", "json", "csv")


def _form_options(command: Callable[..., Any]) -> Callable[..., Any]:
    form = click.option(
        "--format",
        "form",
        type=click.Choice(_FORMS),
        help="[default: by the ending of --output, else terminal]",
    )
    target = click.option(
        "-o",
        "--output",
        "target",
        type=NamedPath(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write there instead of to stdout.",
    )
    return section(OUTPUT, form, target)(command)


def _form(asked: "Format | None", target: Path | None, as_json: bool) -> "Format":
    """Return the form that is asked for, or that the ending of the file stands for."""
    if as_json:
        return "json"
    if asked is not None:
        return asked
    ending = target.suffix.removeprefix(".") if target else ""
    return next((form for form in _FORMS if form == ending), "terminal")


@command(
    examples=(
        "report digits-001 --per-class",
        "report digits-001 digits-002 --output report.html",
        "report reports/published/fast_deep_mish.json",
    ),
)
@click.argument("names", metavar="[RUN|FILE.json]...", nargs=-1)
@_form_options
@output.amount_options
@click.option("--per-class", is_flag=True, help="Also the accuracy of each class (terminal).")
@click.option("--both-protocols", is_flag=True, help="The newest comparison under each protocol.")
@tracker_option
@stored_options
def report(
    names: tuple[str, ...],
    form: "Format | None",
    target: Path | None,
    details: bool,
    quiet: bool,
    per_class: bool,
    both_protocols: bool,
    tracker: str | None,
    paths: "Paths",
    as_json: bool,
) -> None:
    """Show the report of runs, made from their stored records.

    RUN is a run's newest comparison; RUN@2 is its second, RUN@-1 the one before the newest.
    FILE.json is what a bundle wrote on another machine (bench bundle), or what --format json wrote:
    that has every figure, but not the timed calls, and stands alone. Several
    become one report, side by side. Without RUN, the newest compared run of each config is taken.
    On the terminal it is one screen, or with --details every table and note. html is one page that
    holds everything and loads nothing; csv has one row per contender and batch size. With
    --both-protocols, the newest comparisons under homework and under clean are shown side by side.
    A comparison that was interrupted is shown as far as it came where the run has no finished one.
    """
    from foldbench.bench.stages.report import pictures_of
    from foldbench.bench.store.finding import is_record, readable
    from foldbench.reports.render import render, summarise

    output.refuse_both(details or per_class, quiet)
    form = _form(form, target, as_json)
    brief = quiet and form == "terminal"
    published = [name for name in names if name.endswith(".json") and not is_record(Path(name))]
    if published:
        _refuse_of_published(names, published, both_protocols, tracker)
        from foldbench.reports.rows.published import beside_of, read_published

        read = [one for name in published for one in read_published(Path(name))]
        stored = [one for run in read for one in beside_of(run)]
        text = render(read, form, stored, colour=_colour(target), details=details)
        _give(summarise(read) if brief else text, target)
        return
    if names:
        chosen = [_choose(name, both_protocols, paths) for name in names]
        from_files = [record for run, records in chosen if run is None for record in records]
        owned = [(run, records) for run, records in chosen if run is not None]
        runs = tuple(run for run, _ in owned)
        kept = [records for _, records in owned]
    else:
        newest = choose_runs((), paths, compared=True)
        pairs = readable(newest, lambda run: _records_of(run, both_protocols), tell)
        runs, kept = tuple(run for run, _ in pairs), [of_run for _, of_run in pairs]
        from_files = []
    beside = [
        one
        for run, of_run in zip(runs, kept, strict=True)
        for name in dict.fromkeys(record.name for record in of_run)
        for one in run.beside(name)
    ]
    records = [record for of_run in kept for record in of_run]
    owners = [run for run, of_run in zip(runs, kept, strict=True) for _ in of_run]
    colour = _colour(target)
    pictures = [picture for run in dict.fromkeys(runs) for picture in pictures_of(run)]
    shown = [*records, *from_files]
    text = render(shown, form, beside, pictures, colour, per_class, details)
    _give(summarise(shown) if brief else text, target)
    track(tracker, owners, records, paths)


@command(
    examples=(
        "history digits",
        "history digits --last 10 --output history.csv",
    ),
)
@click.argument("names", metavar="[CONFIG|RUN]...", nargs=-1)
@click.option("--last", type=click.IntRange(min=1), help="The newest comparisons alone.")
@_form_options
@stored_options
def history(
    names: tuple[str, ...],
    last: int | None,
    form: "Format | None",
    target: Path | None,
    paths: "Paths",
    as_json: bool,
) -> None:
    """Show how speed-up and accuracy moved over all comparisons.

    Each machine stands for itself: no figure is set against another machine's. Without a name, all
    that was compared is taken. A comparison of a run with several is named as in RUN@2. The list of
    comparisons in text and html ends after the newest 20; csv and json hold all.
    """
    from foldbench.bench.store.finding import ComparedRun, all_comparisons, compared_runs, readable
    from foldbench.reports.commands.history import render_history

    every = all_comparisons(compared_runs(paths.runs, names))
    chosen = sorted(every, key=lambda one: one.kept.fact("created"))[-last:] if last else every
    records = [record for _, record in readable(chosen, ComparedRun.record, tell)]
    _give(render_history(records, _form(form, target, as_json), _colour(target)), target)


def _refuse_of_published(
    names: Sequence[str], published: Sequence[str], both_protocols: bool, tracker: str | None
) -> None:
    missing = next((name for name in published if not Path(name).is_file()), None)
    if missing is not None:
        raise click.ClickException(f"{missing}: there is no such file: correct the path")
    if len(published) < len(names):
        raise click.UsageError("runs and published summaries have reports of their own")
    if both_protocols or tracker:
        raise click.UsageError(
            f"{published[0]} is a published summary: --both-protocols and --tracker are about runs"
        )


def _choose(
    name: str, both_protocols: bool, paths: "Paths"
) -> "tuple[RunDirectory | None, tuple[Run, ...]]":
    """Return the run that `name` is of, and the records to show of it.

    A file is a record that a bundle wrote, which is no run's.
    """
    from foldbench.bench.store.finding import find_comparisons, find_run, read_record

    if name.endswith(".json"):
        return None, (read_record(Path(name)),)
    run, number = find_run(paths.runs, name)
    if number is None:
        return run, _records_of(run, both_protocols)
    if both_protocols:
        raise click.UsageError(f"--both-protocols chooses comparisons, and so does {name}")
    (found,) = find_comparisons(paths.runs, [name])
    return found.run, (found.record(),)


def _records_of(run: "RunDirectory", both_protocols: bool) -> "tuple[Run, ...]":
    """Return the records of a run to show; say so where an unfinished comparison is not."""
    from foldbench.bench.measure.samples import read_samples, unfinished_record

    if run.is_compared():
        if run.samples.is_file():
            note = f"{run.name}: its last finished comparison; a later one has not finished"
            echo(f"{note}: the same bench compare resumes it", err=True)
        return run.results_by_protocol() if both_protocols else (run.results(),)
    samples = read_samples(run.samples)
    return (unfinished_record(samples) if samples else run.results(),)


def _colour(target: Path | None) -> bool:
    return target is None and output.wants_colour()


def _give(text: str, target: Path | None) -> None:
    """Print the report, or write it whole to the file and say so on stderr."""
    if target is None:
        click.echo(text, nl=False)
        return
    from foldbench.bench.store.files import write_text

    write_text(target, text)
    echo(f"written: {target}", err=True)
