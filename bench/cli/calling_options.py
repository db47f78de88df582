"""Options of `bench compare` that ask for a section of their own: see compare.calling."""

import click

from foldbench.bench.cli.help import section
from foldbench.bench.cli.options import config_option
from foldbench.bench.cli.values import AbsolutePath, CommaList, Pauses

_DEEP = (
    "{pauses_s: [0.0, 0.001, 0.01, 0.1, 1.0], cold_starts: 10, memory: true, streams: [1, 2, 4], "
    "sweep: true}"
)

calling_options = section(
    "How it is called",
    config_option(
        "compare.calling.",
        "--deep",
        is_flag=True,
        flag_value=_DEEP,
        help="All of these but --stages, and larger batches. Each takes up to --budget.",
    ),
    config_option(
        "compare.calling.pauses_s",
        "--pauses",
        type=Pauses(),
        metavar="TIME[,TIME]...",
        help="Also time calls after such pauses: 0,10ms,1s. Against the first of them.",
    ),
    config_option(
        "compare.calling.cold_starts",
        "--cold-starts",
        type=click.IntRange(min=1),
        metavar="N",
        help="Also start N fresh processes of each contender, in turns: import, open, first call.",
    ),
    config_option(
        "compare.calling.streams",
        "--streams",
        type=CommaList(),
        metavar="N[,N]...",
        help="Also call with so many sessions, and callers of one, at once, each with --threads.",
    ),
    config_option(
        "compare.calling.stages",
        "--stages",
        type=AbsolutePath(exists=True),
        metavar="PATH",
        help="Also time the way from such image files to classes: read, decode, resize, infer.",
    ),
    config_option(
        "compare.calling.memory",
        "--memory",
        is_flag=True,
        flag_value=True,
        help="Also measure memory, and whether calls leak.",
    ),
)
"""Adds the options that ask how a network is really called."""
