"""The command line. Heavy packages are imported inside the commands, so that help is instant."""

import logging
import os
import signal
from typing import Any

import click

import foldbench
from foldbench.bench import torchrun
from foldbench.bench.cli import unforeseen
from foldbench.bench.cli.add import add
from foldbench.bench.cli.bisection import bisect
from foldbench.bench.cli.bundle import bundle
from foldbench.bench.cli.capacity import capacity
from foldbench.bench.cli.compare import compare
from foldbench.bench.cli.config import config
from foldbench.bench.cli.diff import diff
from foldbench.bench.cli.doctor import doctor
from foldbench.bench.cli.echo import LogHandler, message
from foldbench.bench.cli.errors import errors
from foldbench.bench.cli.explain import explain
from foldbench.bench.cli.export import export
from foldbench.bench.cli.features import features
from foldbench.bench.cli.gate import gate
from foldbench.bench.cli.help import Group
from foldbench.bench.cli.homework import homework
from foldbench.bench.cli.listing import list_everything
from foldbench.bench.cli.optimize import optimize
from foldbench.bench.cli.plot import plot
from foldbench.bench.cli.predict import predict
from foldbench.bench.cli.probe import probe
from foldbench.bench.cli.profiling import profile
from foldbench.bench.cli.remote import remote
from foldbench.bench.cli.report import history, report
from foldbench.bench.cli.train import run_all, train
from foldbench.bench.cli.tune import tune
from foldbench.bench.errors import BenchError
from foldbench.bench.library_logs import log_in_one_line
from foldbench.bench.privacy import protect

_RESUMED = ("run", "train", "compare", "tune")
"""Commands that keep what they have done when they are interrupted, and resume."""


class _CommandGroup(Group):
    """A group whose commands turn every error into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.Abort, click.exceptions.Exit, click.UsageError, BrokenPipeError):
            raise
        except click.ClickException as error:
            raise click.ClickException(message(error.message)) from error
        except BenchError as error:
            raise click.ClickException(message(str(error))) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(message(f"{where}{error.strerror or error}")) from error
        except KeyboardInterrupt:
            resumes = ctx.invoked_subcommand in _RESUMED
            click.echo(f"Interrupted{': the same command resumes' * resumes}.", err=True)
            ctx.exit(130)
        except Exception as error:
            raise click.ClickException(message(unforeseen.explain(error))) from error


@click.group(
    cls=_CommandGroup,
    epilog="Exit codes: 0 done, 1 error or failed row, 2 usage; more: bench diff -h.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(foldbench.__version__, prog_name="bench")
@click.option(
    "--traceback",
    is_flag=True,
    envvar=unforeseen.VARIABLE,
    help="Show the traceback of an error that was not foreseen.",
)
@click.pass_context
def cli(ctx: click.Context, traceback: bool) -> None:
    """Fold, export and measure PyTorch image classifiers.

    \b
    bench run net.py:MyNet --weights my.pt --input 3x64x64   a network of your own, all of it
    bench run digits                     the same for one that is trained first, in minutes
    bench train deep_mish                train (configs: bench list)
    bench export --fold-bn               fold, write and check the .onnx file
    bench compare --backends torch,ort   accuracy and latency, side by side
    """
    if traceback:
        os.environ[unforeseen.VARIABLE] = "1"
    if ctx.invoked_subcommand != "train":
        torchrun.require_one_process(f"bench {ctx.invoked_subcommand}")


for command in (train, tune, run_all, add, export, optimize, compare, bundle, report, history):
    cli.add_command(command)
for command in (remote, diff, gate, bisect):
    cli.add_command(command)
for command in (
    profile,
    capacity,
    explain,
    plot,
    predict,
    features,
    probe,
    errors,
    homework,
    list_everything,
):
    cli.add_command(command)
for command in (list_everything, doctor, config):
    cli.add_command(command)


def main() -> None:
    """Run the command line; the entry point of `bench`.

    Being told to end (SIGTERM), or losing the terminal (SIGHUP, unless nohup has it ignored), is an
    interrupt like any other: workers and temporary files go.
    """
    protect()
    log_in_one_line()
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    unforeseen.prepare_streams()
    logging.getLogger("foldbench").addHandler(LogHandler())
    cli(prog_name="bench")
