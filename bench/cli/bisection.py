"""The command `bench bisect`: in which version of a runtime a network got worse."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.failures import UNJUDGED, WORSE
from foldbench.bench.cli.help import MEASUREMENT, OUTPUT, command, section
from foldbench.bench.cli.options import (
    config_option,
    data_option,
    input_options,
    set_option,
    shared_options,
    with_overrides,
)
from foldbench.bench.cli.values import CommaList, NamedPath, Percent, Seconds

if TYPE_CHECKING:
    from foldbench.bench.analysis.bisection import Question
    from foldbench.bench.store.directory import Paths

_SOUGHT = "What is sought"


@command(
    name="bisect",
    examples=(
        "bisect model.onnx ort 1.20..1.31 --slower 5%",
        "bisect digits-001 ort 1.20..1.31 --answers 0.1% --offline",
    ),
)
@click.argument("subject", metavar="RUN|FILE")
@click.argument("runtime")
@click.argument("span", metavar="VERSION..VERSION")
@section(
    _SOUGHT,
    click.option(
        "--slower",
        type=Percent(),
        metavar="PERCENT",
        help="The first version that is slower than the oldest by more than this.",
    ),
    click.option(
        "--answers",
        type=Percent(),
        metavar="PERCENT",
        help="The first whose answers differ by more than this share of the largest.",
    ),
    click.option(
        "--memory",
        type=Percent(),
        metavar="PERCENT",
        help="The first whose peak memory is larger by more than this.",
    ),
)
@section(
    MEASUREMENT,
    config_option(
        "gate.budget_s",
        "--budget",
        type=Seconds(),
        help="Most time for each pair of versions: 60s, 5m.  [default: 150s]",
    ),
    config_option(
        "gate.batch_sizes",
        "--batch-size",
        type=CommaList(),
        metavar="N",
        help="Images in one call.  [default: 1]",
    ),
    config_option(
        "compare.threads",
        "--threads",
        type=click.IntRange(min=1),
        help="Threads for one operator.  [default: all cores]",
    ),
    config_option(
        "gate.on_unclear",
        "--on-unclear",
        type=click.Choice(["pass", "fail"]),
        help="What a bisection that cannot tell does.  [default: pass]",
    ),
    click.option("--variant", metavar="NAME", help="Which file of a run.  [default: folded]"),
    click.option("--offline", is_flag=True, help="Fetch nothing: use the versions in the cache."),
)
@section(
    OUTPUT,
    click.option(
        "-o",
        "--folder",
        type=NamedPath(path_type=Path),
        metavar="FOLDER",
        help="Write the smallest part that shows it there.  [default: NAME-bisect]",
    ),
)
@data_option
@input_options
@set_option
@shared_options
@with_overrides
def bisect(
    subject: str,
    runtime: str,
    span: str,
    overrides: tuple[str, ...],
    slower: float | None,
    answers: float | None,
    memory: float | None,
    variant: str | None,
    offline: bool,
    folder: Path | None,
    paths: "Paths",
    as_json: bool,
) -> None:
    """Find the version of a runtime that made a network worse.

    RUNTIME is ort or openvino; each version is installed once, in an environment of its own. The
    newest in the range is held against the oldest as bench gate does, then one in the middle of
    what is left. On a hit with ort, the network is cut to the smallest part that still shows it,
    and written with a script that needs onnxruntime alone.

    \b
    Exit codes:
      0  no version is worse by more than the limit
      3  one is
      4  cannot tell, with --on-unclear fail
    """
    from foldbench.bench.stages.bisection import Asked
    from foldbench.bench.stages.bisection import bisect as run_bisect
    from foldbench.bench.store.files import write_text
    from foldbench.reports.commands.bisection import bisection_json, render_bisection, render_part

    question, allowed = _one_question(slower, answers, memory)
    asked = Asked(subject, runtime, span, question, allowed, variant, offline, folder)
    with progress() as listener:
        result = run_bisect(asked, overrides, paths, listener)
    if as_json:
        output.print_json(bisection_json(result))
    else:
        echo(render_bisection(result, output.wants_colour()), nl=False)
    if result.part is not None:
        write_text(Path(result.part.folder) / "README.md", render_part(result, result.part))
    if result.fails:
        code = WORSE if result.outcome == "worse" else UNJUDGED
        click.get_current_context().exit(code)


def _one_question(
    slower: float | None, answers: float | None, memory: float | None
) -> "tuple[Question, float]":
    """Return what is sought and its limit; raise UsageError unless it is one thing."""
    given: dict[Question, float | None] = {
        "latency": slower,
        "answers": answers,
        "peak memory": memory,
    }
    found = [(name, limit) for name, limit in given.items() if limit is not None]
    if len(found) != 1:
        raise click.UsageError("give one of --slower, --answers and --memory")
    if found[0] == ("latency", 0.0):
        raise click.UsageError("--slower has to be more than 0 %")
    return found[0]
