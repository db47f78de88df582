"""How help is laid out: commands and options in sections, and examples below each."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click

Decorated = Callable[..., Any]
OWN, COMMON = "Options", "Common options"
CONTENDERS, NETWORK, IMAGES = "Contenders", "Network of your own", "Images"
MEASUREMENT, LOWER_PRECISION, OUTPUT = "Measurement", "Lower precision", "Output"

COMMANDS = {
    "Start here": ("run", "list"),
    "Step by step": ("train", "tune", "add", "export", "compare", "report"),
    "Files of your own": ("optimize",),
    "Other machines": ("bundle", "remote"),
    "Analysis": (
        *("profile", "explain", "capacity", "gate", "bisect", "diff", "history", "errors", "plot"),
    ),
    "Images": ("predict", "features", "probe"),
    "Set-up and checks": ("config", "doctor"),
    "Coursework": ("homework",),
}
"""The sections of `bench --help`, in its order; a command of none stands in a last one."""


def section(title: str, *options: Callable[[Decorated], Decorated]) -> Callable[..., Decorated]:
    """Return one decorator that adds all `options`, which stand together under `title` in help."""

    def add(command: Decorated) -> Decorated:
        before = len(getattr(command, "__click_params__", ()))
        for option in reversed(options):
            command = option(command)
        for parameter in getattr(command, "__click_params__", ())[before:]:
            parameter.help_section = title
        return command

    return add


class Command(click.Command):
    """A command whose options stand in sections, its own first, those of all commands last."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.examples = tuple(examples)
        """Command lines, without the word bench."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each section of options."""
        sections: dict[str, list[tuple[str, str]]] = {OWN: []}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
            if record is not None:
                default = COMMON if "--help" in option.opts else OWN
                sections.setdefault(getattr(option, "help_section", default), []).append(record)
        common = sections.pop(COMMON, [])
        for title, records in (*sections.items(), (COMMON, common)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}bench {example}\n")
        super().format_epilog(ctx, formatter)


command = partial(click.command, cls=Command)
"""As `click.command`; `examples` are the command lines that its help ends with."""


class Group(click.Group):
    """A group whose help lists commands in sections, each on one full line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each section of commands."""
        placed = {name for names in COMMANDS.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in placed)
        for title, names in (*COMMANDS.items(), ("More", others)):
            found = [(name, self.get_command(ctx, name)) for name in names]
            records = [
                (name, known.get_short_help_str(formatter.width))
                for name, known in found
                if known is not None and not known.hidden
            ]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
