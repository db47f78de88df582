"""Help: sections, one full line for each command, and examples that the command line takes."""

import shlex

import click
import pytest
from click.testing import CliRunner

from foldbench.bench.cli import cli
from foldbench.bench.cli.help import COMMANDS, COMMON, OWN, Command, section
from foldbench.bench.cli.options import config_option

LEAVES = {
    " ".join((*group, name)): found
    for group, commands in (((), cli.commands), (("config",), cli.commands["config"].commands))
    for name, found in commands.items()
    if not isinstance(found, click.Group)
}


def help_of(command: click.Command, *arguments: str) -> list[str]:
    """The lines, as a terminal of 80 columns shows them."""
    result = CliRunner().invoke(command, [*arguments, "--help"], prog_name="bench")
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_every_command_stands_in_one_section_on_one_full_line() -> None:
    placed = [name for names in COMMANDS.values() for name in names]
    assert sorted(placed) == sorted(cli.commands)
    shown = help_of(cli)
    for name, command in cli.commands.items():
        (line,) = (line for line in shown if line.startswith(f"  {name} "))
        assert line.split(maxsplit=1)[1] == command.help.split("\n")[0]
        assert not line.endswith("...")


def test_a_command_of_no_section_is_shown_all_the_same() -> None:
    group = type(cli)(commands={"new": click.Command("new", help="Do something new.")})
    assert "  new  Do something new." in help_of(group)


@pytest.mark.parametrize("name", LEAVES)
def test_the_examples_of_a_command_are_taken_by_the_command_line(name: str) -> None:
    command = LEAVES[name]
    assert isinstance(command, Command)
    assert len(command.examples) >= 2
    for example in command.examples:
        arguments = shlex.split(example.partition(" > ")[0])
        words = name.split()
        assert arguments[: len(words)] == words
        parent = click.Context(cli)
        command.make_context(name, arguments[len(words) :], parent=parent)
        assert f"  bench {example}" in help_of(cli, *words)


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_has_a_line_of_text_or_a_default(name: str) -> None:
    for option in LEAVES[name].params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help or option.show_default, f"{name} {option.opts}"


def test_options_stand_below_their_section_and_common_ones_last() -> None:
    @click.command(cls=Command, examples=("do --a",))
    @section("Measurement", click.option("--c", help="c"), click.option("--d", help="d"))
    @section(COMMON, click.option("--b", help="b"))
    @click.option("--a", help="a")
    def do() -> None:
        """Do it."""

    shown = [line.strip().split()[0] for line in help_of(do)[4:] if line.strip()]
    assert shown == [
        *("Options:", "--a", "Measurement:", "--c", "--d"),
        *("Common", "--b", "-h," if "-h," in shown else "--help", "Examples:", "bench"),
    ]
    assert OWN == "Options"


def test_an_option_for_a_field_of_the_configuration_names_the_field() -> None:
    @click.command()
    @config_option("compare.rounds", "--rounds", help="How many.  [default: by config]")
    def do() -> None:
        """Do it."""

    assert any("[config: compare.rounds]" in line for line in help_of(do))
