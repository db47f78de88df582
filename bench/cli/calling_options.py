"""Options of `bench compare` that ask for a section of their own: see compare.calling."""

from collections.abc import Callable
from typing import Any

from foldbench.bench.cli.options import Pauses, config_option

Command = Callable[..., Any]

_OPTIONS = (
    config_option(
        "compare.calling.pauses_s",
        "--pauses",
        type=Pauses(),
        metavar="TIME[,TIME]...",
        help="Also time calls after such pauses: 0,10ms,1s. Against the first of them.",
    ),
)


def calling_options(command: Command) -> Command:
    """Add the options that ask how a network is really called."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
