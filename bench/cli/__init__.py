"""The command line: one command, one file."""

from foldbench.bench.cli.main import cli as cli
from foldbench.bench.cli.main import main as main
