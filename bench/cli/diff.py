"""The command `bench diff`: two stored runs against each other, for people and for CI."""

import re
from typing import TYPE_CHECKING, Any

import click

from foldbench.bench import units
from foldbench.bench.cli import output
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.failures import WORSE
from foldbench.bench.cli.options import shared_options

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths

_PERCENT = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*(%?)")


class _Percent(click.ParamType):
    """``5%`` or ``5``, as the share 0.05."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        match = _PERCENT.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no percentage: give one such as 5% or 2.5%", param, ctx)
        number = float(match[1])
        if 0 < number < 1 and not match[2]:
            self.fail(
                f"{value!r} may mean {units.plain(number)}% or {units.plain(100 * number)}%: "
                "write the % sign",
                param,
                ctx,
            )
        return number / 100


@click.command()
@click.argument("run_a")
@click.argument("run_b")
@click.option("--force", is_flag=True, help="Compare runs that are not comparable; warn instead.")
@click.option(
    "--fail-on",
    "limit",
    type=_Percent(),
    metavar="PERCENT",
    help="Exit with 3 when RUN_B is worse by more than this, such as 5%.",
)
@shared_options
def diff(
    run_a: str, run_b: str, force: bool, limit: float | None, paths: "Paths", as_json: bool
) -> None:
    """Compare the stored results of RUN_A (before) and RUN_B (after), row by row.

    Latency ratios and accuracy differences come with 95 % intervals. Runs whose machine, threads,
    precision, torch or onnxruntime, network, batch sizes or test images differ are refused, with
    exit code 1, unless --force is given. Other weights or another foldbench are only mentioned.

    With --fail-on 5%, the exit code is 3 when a row is slower and its latency rose by more than 5
    percent, when a row is less accurate (the interval leaves out 0) by more than 5 percentage
    points, or when a row that ran in RUN_A failed or was skipped in RUN_B.
    """
    from foldbench.bench.analysis.comparable import require_comparable
    from foldbench.bench.analysis.difference import compare_runs, find_regressions
    from foldbench.bench.store.finding import find_runs
    from foldbench.reports.commands import diff as text

    a, b = (run.results() for run in find_runs(paths.runs, (run_a, run_b)))
    if not force:
        require_comparable(a, b)
    found = compare_runs(a, b)
    worse = () if limit is None else find_regressions(found, limit)
    if as_json:
        output.print_json(text.difference_json(a, b, found, worse, limit))
    else:
        echo(text.render_difference(a, b, found), nl=False)
    unjudged = text.describe_unjudged(found)
    if limit is not None and unjudged:
        echo(unjudged, err=True)
    for regression in worse:
        echo(text.describe_regression(regression), err=True)
    if worse:
        click.get_current_context().exit(WORSE)
