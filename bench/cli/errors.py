"""The command `bench errors`: which images two networks get wrong, together and apart."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foldbench.bench import units
from foldbench.bench.cli import output
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import data_option, shared_options, with_overrides
from foldbench.bench.cli.values import NamedPath

if TYPE_CHECKING:
    from foldbench.bench.analysis.error_overlap import ErrorOverlap
    from foldbench.bench.images.image_set import Split
    from foldbench.bench.records import Run
    from foldbench.bench.store.directory import Paths


@command(
    examples=(
        "errors swin_t_pets resnet50_pets",
        "errors digits-001 digits-002 --sheet disagreements.png",
    ),
)
@click.argument("run_a")
@click.argument("run_b")
@click.option(
    "--sheet",
    type=NamedPath(dir_okay=False, path_type=Path),
    help="Write a picture (PNG) of images on which just one of them is wrong.",
)
@click.option(
    "--sheet-images",
    type=click.IntRange(min=1, max=1000),
    default=64,
    show_default=True,
    help="Most images on that picture, spread evenly over all.",
)
@data_option
@shared_options
@with_overrides
def errors(
    run_a: str,
    run_b: str,
    sheet: Path | None,
    sheet_images: int,
    overrides: tuple[str, ...],
    paths: "Paths",
    as_json: bool,
) -> None:
    """Compare the wrong answers of two compared runs.

    Counts of images that only A, only B or both get wrong, by class and in all, McNemar's exact
    test, and the confusions. Both runs need to have been compared on the same test images. RUN@2 is
    a run's second comparison; without a number, it is the newest one.
    """

    from foldbench.bench.analysis.error_overlap import compare_errors, require_same_test_images
    from foldbench.bench.images.loading import load_scored
    from foldbench.bench.store.finding import find_comparisons
    from foldbench.reports.commands import errors as text

    a, b = (found.record() for found in find_comparisons(paths.runs, (run_a, run_b)))
    require_same_test_images(a, b)
    with progress() as listener:
        split = load_scored(a, overrides, paths.cache, listener)
    overlap = compare_errors(a, b, split.require_labels())
    if sheet is not None:
        _write_sheet(sheet, sheet_images, (a, b), overlap, split)
    if as_json:
        output.print_json(text.errors_json(a, b, overlap, str(sheet) if sheet else None))
        return
    echo(text.render_errors(a, b, overlap), nl=False)
    if sheet is not None:
        echo(f"\nwritten: {sheet}")


def _write_sheet(
    path: Path, limit: int, runs: "tuple[Run, Run]", overlap: "ErrorOverlap", split: "Split"
) -> None:
    import numpy as np

    from foldbench.bench.analysis.error_overlap import representative
    from foldbench.bench.images.splits import spread
    from foldbench.bench.store.files import write_with
    from foldbench.reports.pictures.contact_sheet import Caption, draw_contact_sheet

    wrong = np.array(overlap.disagreements, np.int64)
    rows = wrong[spread(len(wrong), limit)] if len(wrong) else wrong
    classes = runs[0].checkpoint.classes
    accuracy_a, accuracy_b = (representative(run)[1].top1 for run in runs)
    captions = [
        Caption(
            classes[split.require_labels()[row]], classes[accuracy_a[row]], classes[accuracy_b[row]]
        )
        for row in rows
    ]
    title = (
        f"{units.count(len(rows))} of {units.count(len(wrong))} images that one of A "
        f"({runs[0].name}) and B "
        f"({runs[1].name}) gets wrong"
    )
    picture = draw_contact_sheet(split.require_pixels("a contact sheet")[rows], captions, title)
    write_with(path, partial(picture.save, format="PNG"))
