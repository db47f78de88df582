"""The command line. Heavy packages are imported inside the commands, so that help is instant."""

import signal
from typing import Any

import click

import foldbench
from foldbench.bench import torchrun
from foldbench.bench.cli.compare import compare
from foldbench.bench.cli.config import config
from foldbench.bench.cli.diff import diff
from foldbench.bench.cli.doctor import doctor
from foldbench.bench.cli.errors import errors
from foldbench.bench.cli.export import export
from foldbench.bench.cli.features import features
from foldbench.bench.cli.homework import homework
from foldbench.bench.cli.listing import list_everything
from foldbench.bench.cli.plot import plot
from foldbench.bench.cli.predict import predict
from foldbench.bench.cli.probe import probe
from foldbench.bench.cli.profile import profile
from foldbench.bench.cli.report import history, report
from foldbench.bench.cli.train import run_all, train
from foldbench.bench.cli.tune import tune
from foldbench.bench.errors import BenchError


class _CommandGroup(click.Group):
    """A group whose commands turn foldbench's own errors into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BenchError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{where}{error.strerror or error}") from error
        except KeyboardInterrupt:
            click.echo("Interrupted: the same command goes on where it can.", err=True)
            ctx.exit(130)


@click.group(
    cls=_CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(foldbench.__version__, prog_name="bench")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Fold, export and measure PyTorch image classifiers.

    \b
    bench run digits                     everything, on images that need no download
    bench train deep_mish                train (configs: bench list)
    bench export --fold-bn               fold BatchNorm, write and check the .onnx file
    bench compare --backends torch,ort   accuracy and latency, side by side
    """
    if ctx.invoked_subcommand != "train":
        torchrun.require_one_process(f"bench {ctx.invoked_subcommand}")


for command in (train, tune, run_all, export, compare, report, history, diff, profile, plot):
    cli.add_command(command)
for command in (predict, features, probe, errors, homework, list_everything, doctor, config):
    cli.add_command(command)


def main() -> None:
    """Run the command line; the entry point of `bench`.

    Being told to end (SIGTERM) is an interrupt like any other: workers and temporary files go.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cli(prog_name="bench")
