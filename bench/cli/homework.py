"""The command `bench homework`: the homework's figures beside what was measured here."""

from typing import TYPE_CHECKING

from foldbench.bench.cli import output
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import form_option, stored_options

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths


@command(
    examples=(
        "homework",
        "homework --format md",
    ),
)
@form_option("terminal", "md")
@stored_options
def homework(form: str, paths: "Paths", as_json: bool) -> None:
    """Show the homework's figures beside the newest runs of the same.

    Where none did, the command that would is shown instead.
    """
    from foldbench.bench.store.directory import list_runs
    from foldbench.reports.commands.homework import homework_json, render_homework
    from foldbench.reports.rows.homework_table import homework_rows

    compared = [run for run in list_runs(paths.runs) if run.is_compared()]
    runs = [record for run in compared for record in run.results_by_protocol()]
    rows = homework_rows(runs)
    if as_json:
        output.print_json(homework_json(rows))
    else:
        echo(render_homework(rows, markdown=form == "md"), nl=False)
