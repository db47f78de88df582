"""The command `bench explain`: time, cost and error, module by module."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.failures import fail_on_rows
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import (
    config_option,
    data_option,
    set_option,
    shared_options,
    subject_options,
    with_overrides,
)
from foldbench.bench.cli.runs import choose_subjects
from foldbench.bench.cli.values import Count, NamedPath

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths

DEFAULT = ("torch", "ort")


@command(
    examples=(
        "explain digits-001 torch ort",
        "explain model.onnx ort openvino --input 3x224x224 --out modules.html",
    ),
)
@click.argument("name", metavar="RUN|NETWORK")
@click.argument("contenders", metavar="[BACKEND[/VARIANT]]...", nargs=-1)
@config_option(
    "compare.batch_sizes",
    "--batch-size",
    type=Count(),
    metavar="N",
    help="Images in one call; the first of those configured by default.  [default: by config]",
)
@click.option("--all", "whole", is_flag=True, help="Every module, not summed up by block.")
@click.option(
    "--out",
    type=NamedPath(dir_okay=False, path_type=Path),
    help="Also write every module to a file: .md or .html.",
)
@subject_options
@data_option
@set_option
@shared_options
@with_overrides
def explain(
    name: str,
    contenders: tuple[str, ...],
    whole: bool,
    out: Path | None,
    overrides: tuple[str, ...],
    paths: "Paths",
    as_json: bool,
) -> None:
    """Show where time and error go, module by module.

    BACKEND is torch, ort or openvino (by default torch and ort), alone or with a file of the run,
    such as ort/int8. Of an .onnx file that names no modules, nodes are shown. The record is
    explanation.json in the run.
    """
    from foldbench.bench.stages.explain import explain_run
    from foldbench.bench.store.files import write_text
    from foldbench.reports.commands.explain import render_explanation
    from foldbench.reports.formats.terminal import render_terminal
    from foldbench.reports.sections.explain import build_explanation

    if out is not None and out.suffix not in (".md", ".html"):
        raise click.UsageError(f"--out {out}: allowed: a name that ends in .md or .html")
    with progress() as listener:
        (run,), overrides = choose_subjects([name], overrides, paths, listener)
        found = explain_run(run, contenders or DEFAULT, overrides, paths, listener)
    if out is not None:
        write_text(out, render_explanation(found, as_page=out.suffix == ".html"))
    if as_json:
        output.print_json(found.model_dump(mode="json"))
        return
    echo(render_terminal(build_explanation(found, whole)))
    for path in (run.path / "explanation.json", out):
        if path is not None:
            echo(f"written: {path}")
    fail_on_rows(found.contenders)
