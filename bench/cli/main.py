"""The command line. Heavy packages are imported inside the commands, so that help is instant."""

import json
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import foldbench
from foldbench.bench import torchrun
from foldbench.bench.cli import output, tasks, unforeseen
from foldbench.bench.cli.compare import compare
from foldbench.bench.cli.diff import diff
from foldbench.bench.cli.echo import LogHandler, echo, message
from foldbench.bench.cli.errors import errors
from foldbench.bench.cli.features import features
from foldbench.bench.cli.homework import homework
from foldbench.bench.cli.options import (
    data_option,
    export_options,
    export_overrides,
    run_argument,
    set_option,
    shared_options,
    with_data,
)
from foldbench.bench.cli.plot import plot
from foldbench.bench.cli.predict import predict
from foldbench.bench.cli.probe import probe
from foldbench.bench.cli.profile import profile
from foldbench.bench.cli.report import history, report
from foldbench.bench.cli.train import run_all, train
from foldbench.bench.cli.tune import tune
from foldbench.bench.errors import BenchError

if TYPE_CHECKING:
    from foldbench.bench.stages.train import Paths


class _CommandGroup(click.Group):
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
            click.echo("Interrupted: the same command goes on where it can.", err=True)
            ctx.exit(130)
        except Exception as error:
            raise click.ClickException(message(unforeseen.explain(error))) from error


@click.group(
    cls=_CommandGroup,
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
    bench run digits                     everything, on images that need no download
    bench train deep_mish                train (configs: bench list)
    bench export --fold-bn               fold BatchNorm, write and check the .onnx file
    bench compare --backends torch,ort   accuracy and latency, side by side
    """
    if traceback:
        os.environ[unforeseen.VARIABLE] = "1"
    if ctx.invoked_subcommand != "train":
        torchrun.require_one_process(f"bench {ctx.invoked_subcommand}")


@cli.command()
@run_argument
@click.option(
    "--fold-bn/--no-fold-bn",
    default=None,
    help="Fold BatchNorm into the layer before it, or keep it in the graph.  [default: by config]",
)
@export_options
@click.option(
    "--with-preprocess",
    "with_preprocess",
    is_flag=True,
    help="Also write a file that takes a uint8 image of any size and gives probabilities.",
)
@data_option
@set_option
@shared_options
def export(
    names: tuple[str, ...],
    fold_bn: bool | None,
    with_preprocess: bool,
    data: Path | None,
    overrides: tuple[str, ...],
    paths: "Paths",
    as_json: bool,
    **asked: Any,
) -> None:
    """Export each RUN as one checked .onnx file, and as one in lower precision with --quantize.

    Without RUN, the newest run of each config is taken.
    """
    given = with_data((*overrides, *export_overrides(fold_bn, **asked)), data)
    runs = tasks.choose_runs(names, paths)
    artifacts = [tasks.export(run, given, paths) for run in runs]
    made = list(zip(runs, artifacts, strict=True))
    output.print_artifacts(made, as_json)
    output.fail_on_artifacts(artifacts)
    for run, artifact in made if with_preprocess else ():
        model = tasks.put_preprocessing_inside(run, artifact, given, paths)
        output.print_image_model(run, model, as_json)


for command in (train, tune, run_all, compare, report, history, diff, profile, plot):
    cli.add_command(command)
for command in (predict, features, probe, errors, homework):
    cli.add_command(command)


@cli.command("list")
@shared_options
def list_everything(paths: "Paths", as_json: bool) -> None:
    """List models, datasets, backends, passes, configs and runs."""
    from foldbench.bench.cli.listing import collect_names

    output.print_listing(collect_names(paths.runs), as_json)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def doctor(as_json: bool) -> None:
    """Break the measurement on purpose and see that every guard fires.

    Takes about 15 seconds. Exit code 1 when a guard stays silent.
    """
    from foldbench.bench.cli.console import listening
    from foldbench.bench.stages.doctor import FAULTS, run_checks

    with listening() as listener:
        listener.begin("breaking things", len(FAULTS))
        findings = []
        for finding in run_checks():
            findings.append(finding)
            listener.advance(len(findings), finding.fault)
    output.print_findings(findings, as_json)


@cli.group()
def config() -> None:
    """Show configurations and their schema."""


@config.command("show")
@click.argument("name")
@data_option
@set_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML.")
def config_show(name: str, data: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show config NAME in full: what it builds on, its own fields, overrides, defaults."""
    from foldbench.bench.config.files import load, to_yaml

    resolved = load(name, with_data(overrides, data)).as_dict()
    echo(json.dumps(resolved, indent=2) if as_json else to_yaml(resolved), nl=as_json)


@config.command("schema")
@click.option("--json", "as_json", is_flag=True, help="The schema is JSON in any case.")
def config_schema(as_json: bool) -> None:
    """Print the JSON Schema of configuration files, for editors."""
    from foldbench.bench.config.schema import schema

    output.print_json(schema())


def main() -> None:
    """Run the command line; the entry point of `bench`.

    Being told to end (SIGTERM), or losing the terminal (SIGHUP, unless nohup has it ignored), is an
    interrupt like any other: workers and temporary files go.
    """
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    unforeseen.prepare_streams()
    logging.getLogger("foldbench").addHandler(LogHandler())
    cli(prog_name="bench")
