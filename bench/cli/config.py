"""The commands `bench config show` and `bench config schema`."""

import json

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.help import OUTPUT, Command, section
from foldbench.bench.cli.options import data_option, set_option, with_overrides


@click.group()
def config() -> None:
    """Show configurations and their schema."""


@config.command(
    cls=Command,
    examples=("config show digits", "config show deep_mish --set train.epochs=2 --json"),
)
@click.argument("name")
@data_option
@set_option
@section(
    OUTPUT, click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML.")
)
@with_overrides
def show(name: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show a config in full: what it builds on, its own fields, overrides."""
    from foldbench.bench.config.files import load
    from foldbench.bench.config.yaml_files import to_yaml

    resolved = load(name, overrides).as_dict()
    echo(json.dumps(resolved, indent=2) if as_json else to_yaml(resolved), nl=as_json)


@config.command(
    "schema", cls=Command, examples=("config schema", "config schema > foldbench.schema.json")
)
@click.option("--json", "as_json", is_flag=True, help="The schema is JSON in any case.")
def print_schema(as_json: bool) -> None:
    """Print the JSON Schema of configuration files, for editors."""
    from foldbench.bench.config.schema import schema

    output.print_json(schema())
