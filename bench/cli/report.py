"""The commands `bench report` and `bench history`: what stored records say, in several forms."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.echo import echo, tell
from foldbench.bench.cli.options import NamedPath, form_option, shared_options
from foldbench.bench.cli.runs import choose_runs, run_argument
from foldbench.bench.cli.tracker import track, tracker_option

if TYPE_CHECKING:
    from foldbench.bench.records import Run
    from foldbench.bench.store.directory import Paths, RunDirectory
    from foldbench.reports.render import Format


def _form_options(command: Callable[..., Any]) -> Callable[..., Any]:
    form = form_option("terminal", "md", "html", "json", "csv")
    target = click.option(
        "--output",
        "target",
        type=NamedPath(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write there instead of to stdout.",
    )
    return form(target(command))


@click.command()
@run_argument
@_form_options
@click.option("--per-class", is_flag=True, help="Also the accuracy of each class (terminal).")
@click.option("--both-protocols", is_flag=True, help="The last comparison under each protocol.")
@tracker_option
@shared_options
def report(
    names: tuple[str, ...],
    form: "Format",
    target: Path | None,
    per_class: bool,
    both_protocols: bool,
    tracker: str | None,
    paths: "Paths",
    as_json: bool,
) -> None:
    """Show the report of each RUN, made from its stored records.

    Several runs become one report, side by side. Without RUN, the newest compared run of each
    config is taken. html is one page that holds everything and loads nothing; csv has one row per
    contender and batch size. A run is shown as it was compared last, or with --both-protocols as it
    was under homework and under clean, side by side. A comparison that was interrupted is shown as
    far as it came where the run has no finished one.
    """
    from foldbench.bench.stages.report import pictures_of
    from foldbench.bench.store.finding import readable
    from foldbench.reports.render import render

    runs = choose_runs(names, paths, compared=not names)
    if names:
        kept = [_records_of(run, both_protocols) for run in runs]
    else:
        pairs = readable(runs, lambda run: _records_of(run, both_protocols), tell)
        runs, kept = tuple(run for run, _ in pairs), [of_run for _, of_run in pairs]
    found = [profile for run in runs if (profile := run.profile())]
    records = [record for of_run in kept for record in of_run]
    owners = [run for run, of_run in zip(runs, kept, strict=True) for _ in of_run]
    colour = _colour(target)
    pictures = [picture for run in runs for picture in pictures_of(run)]
    text = render(records, "json" if as_json else form, found, pictures, colour, per_class)
    _give(text, target)
    track(tracker, owners, records, paths)


@click.command()
@click.argument("configs", metavar="[CONFIG]...", nargs=-1)
@_form_options
@shared_options
def history(
    configs: tuple[str, ...],
    form: "Format",
    target: Path | None,
    paths: "Paths",
    as_json: bool,
) -> None:
    """Show how speed-up and accuracy moved over the compared runs of each CONFIG.

    Each machine stands for itself: no figure is set against another machine's. Without CONFIG, all
    that were compared are taken.
    """
    from foldbench.bench.store.directory import RunDirectory
    from foldbench.bench.store.finding import compared_runs, readable
    from foldbench.reports.commands.history import render_history

    found = readable(compared_runs(paths.runs, configs), RunDirectory.results, tell)
    records = [record for _, record in found]
    _give(render_history(records, "json" if as_json else form, _colour(target)), target)


def _records_of(run: "RunDirectory", both_protocols: bool) -> "tuple[Run, ...]":
    """Return the records of a run to show; say so where an unfinished comparison is not."""
    from foldbench.bench.measure.samples import read_samples, unfinished_record

    if run.is_compared():
        if run.samples.is_file():
            note = f"{run.name}: its last finished comparison; a later one has not finished"
            echo(f"{note}: the same bench compare goes on with it", err=True)
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
