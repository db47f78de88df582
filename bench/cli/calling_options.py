"""Options of `bench compare` that ask for a section of their own: see compare.calling."""

from foldbench.bench.cli.help import section
from foldbench.bench.cli.options import Pauses, config_option

calling_options = section(
    "How it is called",
    config_option(
        "compare.calling.pauses_s",
        "--pauses",
        type=Pauses(),
        metavar="TIME[,TIME]...",
        help="Also time calls after such pauses: 0,10ms,1s. Against the first of them.",
    ),
)
"""Adds the options that ask how a network is really called."""
