"""The argument SUBJECT: which runs a command works on; a network of one's own becomes one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from foldbench.bench.cli.echo import echo

if TYPE_CHECKING:
    from foldbench.bench.config.files import Loaded
    from foldbench.bench.progress import ProgressListener
    from foldbench.bench.store.directory import Paths, RunDirectory

run_argument = click.argument("names", metavar="[RUN]...", nargs=-1)
subject_argument = click.argument("names", metavar="[RUN|NETWORK]...", nargs=-1)

OF_NETWORK = ("model.", "data={")
"""What says how a network is added; its run holds it from then on."""
_OF_ALL = ('model.weights="none"', 'model.weights="default"', "model.download=true")
"""What can be said of several networks at once."""


def choose_runs(
    names: Sequence[str], paths: "Paths", compared: bool = False
) -> tuple["RunDirectory", ...]:
    """Return the runs called `names`, or the newest one of each config; then say which."""
    from foldbench.bench.store.finding import find_runs, newest_runs

    if names:
        return find_runs(paths.runs, names)
    runs = newest_runs(paths.runs, compared)
    echo(f"newest run of each config: {', '.join(run.name for run in runs)}", err=True)
    return runs


def choose_subjects(
    names: Sequence[str],
    overrides: Sequence[str],
    paths: "Paths",
    listener: "ProgressListener",
    exported: bool = True,
    not_exported: dict[str, str] | None = None,
) -> tuple[tuple["RunDirectory", ...], tuple[str, ...]]:
    """Return the runs that `names` stand for, and which of `overrides` are left to apply to them.

    A network of one's own, such as net.py:MyNet, is added, and the first time exported, unless the
    command itself does that. Why one cannot be exported is put in `not_exported`, by the name of
    its run, where there is one, and else raised.
    """
    found = [find_subject(name, overrides) for name in names]
    own = [loaded for loaded in found if loaded is not None]
    about_network = [text for text in overrides if text.startswith(OF_NETWORK)]
    if not own:
        return choose_runs(names, paths), tuple(overrides)
    from foldbench.bench.stages.add import add
    from foldbench.bench.stages.export import export, try_export

    for text in about_network:
        key = text.partition("=")[0]
        if len(own) > 1 and key.startswith("model.") and text not in _OF_ALL:
            raise click.UsageError(
                f"{key} would be said of {len(own)} networks: add each by itself (bench add NAME "
                "NETWORK ...), and name the runs"
            )
    runs = [  # all of them before any is exported, which takes longer than to refuse one
        choose_runs([name], paths)[0] if loaded is None else add(loaded, paths, listener)
        for name, loaded in zip(names, found, strict=True)
    ]
    for run, loaded in zip(runs, found, strict=True):
        if not exported or loaded is None or run.artifacts():
            continue
        if not_exported is None:
            export(run, (), paths, listener)
        elif reason := try_export(run, (), paths, listener):
            not_exported[run.name] = reason
    return tuple(runs), tuple(text for text in overrides if text not in about_network)


def find_subject(name: str, overrides: Sequence[str]) -> "Loaded | None":
    """Return the configuration of the network to add that `name` means, None for a run or config.

    A YAML file means one when it names a network with model.from and its weights.
    """
    from foldbench.bench.config.files import load
    from foldbench.bench.config.own_network import source_config
    from foldbench.bench.user_code.source import is_source

    if is_source(name):
        return source_config(name, overrides)
    if not name.endswith((".yaml", ".yml")):
        return None
    loaded = load(name, overrides)
    model = loaded.config.model
    return loaded if model.source is not None and model.weights is not None else None


def say_weights_of(name: str, overrides: Sequence[str]) -> tuple[str, ...]:
    """Return `overrides` with --weights and --download where the network of `name` has them.

    Features of a pretrained network are configured in the section transfer, all others in model.
    """
    from foldbench.bench.config.files import load
    from foldbench.bench.user_code.source import is_source

    others = [text for text in overrides if not text.startswith("transfer.")]
    own = is_source(name) or load(name, others).config.model.source is not None
    if not own:
        return tuple(overrides)
    return tuple(text.replace("transfer.", "model.", 1) for text in overrides)
