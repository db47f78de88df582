"""The command `bench gate`: HEAD against BASE on this machine, in one job."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.failures import UNJUDGED, WORSE
from foldbench.bench.cli.help import MEASUREMENT, OUTPUT, command, section
from foldbench.bench.cli.options import (
    Command,
    config_option,
    data_option,
    input_options,
    set_option,
    shared_options,
    with_overrides,
)
from foldbench.bench.cli.values import CommaList, FiniteNumber, NamedPath, Percent, Seconds

if TYPE_CHECKING:
    from foldbench.bench.analysis.gate import GateResult
    from foldbench.bench.store.directory import Paths

LIMITS = "Limits"
_SUMMARY = "GITHUB_STEP_SUMMARY"


def _file_option(name: str, parameter: str, text: str) -> Callable[[Command], Command]:
    kind = NamedPath(dir_okay=False, path_type=Path)
    return section(OUTPUT, click.option(name, parameter, type=kind, help=text))


@command(
    examples=(
        "gate base.onnx head.onnx --max-slower 5% --junit gate.xml",
        "gate main:digits digits-002 --batch-sizes 1,64 --on-unclear fail",
    ),
)
@click.argument("base")
@click.argument("head")
@section(
    LIMITS,
    config_option(
        "gate.max_slower",
        "--max-slower",
        type=Percent(),
        metavar="PERCENT",
        help="Allowed slow-down at each batch size.  [default: 2%]",
    ),
    config_option(
        "gate.max_drop_points",
        "--max-drop",
        type=FiniteNumber(min=0, max=100),
        metavar="POINTS",
        help="Allowed loss of accuracy, percentage points.  [default: 0.3]",
    ),
    config_option(
        "gate.max_changed",
        "--max-changed",
        type=Percent(),
        metavar="PERCENT",
        help="Allowed share of images with another class.  [default: 1% without labels]",
    ),
    config_option(
        "gate.max_larger",
        "--max-larger",
        type=Percent(),
        metavar="PERCENT",
        help="Allowed growth of the file.  [default: 5%]",
    ),
    config_option(
        "gate.max_memory",
        "--max-memory",
        type=Percent(),
        metavar="PERCENT",
        help="Allowed growth of peak memory.  [default: 10%]",
    ),
    config_option(
        "gate.on_unclear",
        "--on-unclear",
        type=click.Choice(["pass", "fail"]),
        help="What a job that cannot tell does.  [default: pass]",
    ),
)
@section(
    MEASUREMENT,
    config_option(
        "gate.budget_s",
        "--budget",
        type=Seconds(),
        help="Most time for starting and timing: 60s, 5m.  [default: 150s]",
    ),
    config_option(
        "gate.batch_sizes",
        "--batch-sizes",
        type=CommaList(),
        metavar="N[,N]...",
        help="Such as 1,64.  [default: 1]",
    ),
    click.option("--backend", metavar="NAME", help="What runs both.  [default: ort]"),
    click.option("--variant", metavar="NAME", help="Which file of a run.  [default: folded]"),
    config_option(
        "compare.threads",
        "--threads",
        type=click.IntRange(min=1),
        help="Threads for one operator.  [default: all cores]",
    ),
)
@data_option
@input_options
@section(
    OUTPUT,
    _file_option("--junit", "junit", "Write JUnit XML."),
    _file_option("--benchmark-action", "action", "Write the JSON of github-action-benchmark."),
    _file_option("--bencher", "bencher", "Write Bencher Metric Format."),
)
@set_option
@shared_options
@with_overrides
def gate(
    base: str,
    head: str,
    overrides: tuple[str, ...],
    backend: str | None,
    variant: str | None,
    junit: Path | None,
    action: Path | None,
    bencher: Path | None,
    paths: "Paths",
    as_json: bool,
) -> None:
    """Test whether HEAD is worse than BASE.

    Both run on this machine, in the same rounds. Each is a run (my-001, or my-001@2 for the file
    that its second comparison measured), the folder of one, a file.onnx, or REVISION:CONFIG, which
    the code of that git revision exports. Every property is worse, not worse, or cannot be told. A
    clear case ends early. Without --data, and where neither is a run, images are random pixels.

    \b
    Exit codes:
      0  nothing is worse by more than is allowed
      3  something is
      4  cannot tell, with --on-unclear fail
    In a GitHub workflow the result is added to the job's summary.
    """
    from foldbench.bench.stages.gate import gate as run_gate
    from foldbench.reports.commands.gate import gate_json, render_gate

    with progress() as listener:
        result = run_gate((base, head), overrides, paths, listener, (backend, variant))
    if as_json:
        output.print_json(gate_json(result))
    else:
        echo(render_gate(result, output.wants_colour()), nl=False)
    _write(result, junit, action, bencher)
    if result.fails:
        code = WORSE if result.outcome == "worse" else UNJUDGED
        click.get_current_context().exit(code)


def _write(
    result: "GateResult", junit: Path | None, action: Path | None, bencher: Path | None
) -> None:
    from foldbench.bench.store.files import write_text
    from foldbench.reports.commands.gate import gate_markdown
    from foldbench.reports.commands.gate_junit import render_junit
    from foldbench.reports.formats import trackers

    if junit is not None:
        write_text(junit, render_junit(result))
    if action is not None:
        write_text(action, json.dumps(trackers.github_action_benchmark(result), indent=2) + "\n")
    if bencher is not None:
        write_text(bencher, json.dumps(trackers.bencher(result), indent=2) + "\n")
    summary = os.environ.get(_SUMMARY)
    if summary:
        _add_to_summary(summary, gate_markdown(result))


def _add_to_summary(path: str, text: str) -> None:
    try:
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise click.ClickException(
            f"the result cannot be added to {path}, which {_SUMMARY} names: {error.strerror}: "
            "correct the variable, or unset it"
        ) from error
