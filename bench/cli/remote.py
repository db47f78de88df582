"""The command `bench remote`: a bundle on other machines, several at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.failures import fail_on_machines
from foldbench.bench.cli.help import OUTPUT, command, section
from foldbench.bench.cli.options import json_option
from foldbench.bench.cli.values import NamedPath

if TYPE_CHECKING:
    from foldbench.bench.remote.places import Place


@command(
    examples=(
        "remote digits-001.pyz --ssh pi --ssh me@192.168.1.7 --python venv/bin/python",
        "remote digits-001.pyz --ray 10.0.0.5:6379 --nodes accelerator-type=A100",
    ),
)
@click.argument(
    "bundle",
    metavar="NAME.pyz",
    type=NamedPath(dir_okay=False, path_type=Path),
)
@click.option("--ssh", "hosts", multiple=True, metavar="[USER@]HOST", help="Run there. Repeatable.")
@click.option(
    "--python", metavar="COMMAND", help="Python there, from your home.  [default: python3]"
)
@click.option("--ray", "address", metavar="ADDRESS", help="Run on every node of that Ray cluster.")
@click.option(
    "--nodes",
    metavar="RESOURCE|LABEL=VALUE",
    help="Only nodes of the cluster that have it.",
)
@section(
    OUTPUT,
    click.option(
        "-o",
        "--output",
        "folder",
        type=NamedPath(file_okay=False, path_type=Path),
        default=Path(),
        metavar="FOLDER",
        help="Write the records there.  [default: the current folder]",
    ),
)
@json_option
def remote(
    bundle: Path,
    hosts: tuple[str, ...],
    python: str | None,
    address: str | None,
    nodes: str | None,
    folder: Path,
    as_json: bool,
) -> None:
    """Run a bundle on other machines and fetch their records.

    The hosts are reached by the system's ssh, with your configuration and keys. All run at the same
    time, and only one bundle on each. A host that fails is a row with its reason. The record of a
    host is NAME.HOST.json, which bench report takes; nothing stays on the host.
    """
    from foldbench.bench.stages.remote import measure_elsewhere
    from foldbench.reports.commands.remote import remote_json, render_remote

    if not hosts and not address:
        raise click.UsageError("name the machines: --ssh HOST, or --ray ADDRESS")
    if python and not hosts:
        raise click.UsageError("--python is for the hosts of --ssh")
    if nodes and not address:
        raise click.UsageError("--nodes is for the cluster of --ray")
    with _places(hosts, python or "python3", address, nodes) as places, progress() as listener:
        found = measure_elsewhere(bundle, places, folder, listener)
    if as_json:
        output.print_json(remote_json(found))
    else:
        echo(render_remote(found, output.wants_colour()), nl=False)
    fail_on_machines(found)


@contextmanager
def _places(
    hosts: tuple[str, ...], python: str, address: str | None, nodes: str | None
) -> "Iterator[list[Place]]":
    from foldbench.bench.remote.ray_nodes import connected
    from foldbench.bench.remote.ssh import Host

    by_ssh = [Host(name, python) for name in hosts]
    if address is None:
        yield [*by_ssh]
        return
    with connected(address, nodes) as by_ray:
        yield [*by_ssh, *by_ray]
