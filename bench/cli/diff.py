"""The command `bench diff`: two stored runs against each other, for people and for CI."""

from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.failures import UNJUDGED, WORSE
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import stored_options
from foldbench.bench.cli.values import Percent

if TYPE_CHECKING:
    from foldbench.bench.records import Run
    from foldbench.bench.store.directory import Paths


@command(
    examples=(
        "diff digits-001 digits-002",
        "diff digits-001 --last 5 --fail-on 5%",
    ),
)
@click.argument("run_a")
@click.argument("run_b", required=False)
@click.option(
    "--last",
    type=click.IntRange(min=2),
    metavar="N",
    help="Of one run: its newest comparison against the first of the last N.  [default: 2]",
)
@click.option("--force", is_flag=True, help="Compare runs that are not comparable; warn instead.")
@click.option(
    "--fail-on",
    "limit",
    type=Percent(),
    metavar="PERCENT",
    help="Exit with 3 when RUN_B is worse by more than this, such as 5%.",
)
@click.option(
    "--allow-unjudged",
    is_flag=True,
    help="With --fail-on: what cannot be judged is no failure.",
)
@stored_options
def diff(
    run_a: str,
    run_b: str | None,
    last: int | None,
    force: bool,
    limit: float | None,
    allow_unjudged: bool,
    paths: "Paths",
    as_json: bool,
) -> None:
    """Compare two stored comparisons, row by row.

    RUN_A is before, RUN_B after. A name stands for the run's newest comparison, RUN@2 for its
    second, RUN@-1 for the one before the newest. One name alone compares the last two comparisons
    of that run.

    Latency is judged by its ratio to the baseline of the same rounds (torch/unfolded, or what bench
    compare --reference named): a machine that made all rows slower is no regression. Runs that were
    compared together are set against each other round by round. Runs whose machine, threads,
    precision, torch or onnxruntime, network, batch sizes or test images differ are refused, with
    exit code 1, unless --force is given. Other weights or another foldbench are only mentioned.

    \b
    Exit codes with --fail-on 5%:
      0  nothing got worse by more than that
      3  a row is slower, and its latency, relative to the baseline's, rose by more than 5 percent;
         or it is less accurate (the interval leaves out 0) by more than 5 percentage points; or
         it ran in RUN_A and failed or was skipped in RUN_B
      4  cannot tell: a latency of RUN_A could not be judged in RUN_B (not with --allow-unjudged)
    """
    from foldbench.bench.analysis.comparable import require_comparable, require_two
    from foldbench.bench.analysis.difference import compare_runs, find_regressions, find_unjudged
    from foldbench.reports.commands import diff as text

    if allow_unjudged and limit is None:
        raise click.UsageError("--allow-unjudged is about --fail-on: give it a percentage")
    a, b = _find_both(run_a, run_b, last, paths)
    require_two(a, b)
    if not force:
        require_comparable(a, b)
    found = compare_runs(a, b)
    worse = () if limit is None else find_regressions(found, limit)
    unjudged = find_unjudged(found)
    if as_json:
        output.print_json(text.difference_json(a, b, found, worse, unjudged, limit))
    else:
        echo(text.render_difference(a, b, found), nl=False)
    if limit is None:
        return
    for one in unjudged:
        echo(text.describe_unjudged(one), err=True)
    for regression in worse:
        echo(text.describe_regression(regression), err=True)
    if worse:
        click.get_current_context().exit(WORSE)
    if unjudged and not allow_unjudged:
        echo(text.WHERE_A_GATE_ANSWERS, err=True)
        click.get_current_context().exit(UNJUDGED)


def _find_both(
    run_a: str, run_b: str | None, last: int | None, paths: "Paths"
) -> "tuple[Run, Run]":
    """Return the records to compare: of two names, or of one run's last comparisons."""
    from foldbench.bench.store.finding import find_comparisons, last_comparisons

    if run_b is not None and last is not None:
        raise click.UsageError("--last is about one run: name no second one")
    if run_b is None:
        before, after = last_comparisons(paths.runs, run_a, last or 2)
    else:
        before, after = find_comparisons(paths.runs, (run_a, run_b))
    return before.record(), after.record()
