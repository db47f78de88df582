"""The command `bench list`: every name that a command takes."""

from pathlib import Path
from typing import TYPE_CHECKING

from foldbench.bench.cli import output
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import stored_options

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths


@command(
    "list",
    examples=(
        "list",
        "list --json",
    ),
)
@stored_options
def list_everything(paths: "Paths", as_json: bool) -> None:
    """List models, datasets, backends, passes, configs and runs."""
    output.print_listing(collect_names(paths.runs), as_json)


def collect_names(runs: Path) -> dict[str, dict[str, str]]:
    """Return, by kind, each name with one line about it; nothing heavy is imported.

    A backend's options follow it, each as it is written: ``ort:tuned``.
    """
    from foldbench.bench.config.backend_spec import Spec
    from foldbench.bench.config.files import builtin_names, summary
    from foldbench.bench.registry import BACKENDS, DATASETS, MODELS, PASSES
    from foldbench.bench.store.directory import list_runs

    registries = {"models": MODELS, "datasets": DATASETS, "backends": BACKENDS, "passes": PASSES}
    found = {
        kind: {name: registry.summary(name) for name in registry.names()}
        for kind, registry in registries.items()
    }
    found["backends"] |= {
        str(Spec(name, {option: ""})): text
        for name in BACKENDS.names()
        for option, text in BACKENDS.options(name).items()
    }
    found["backends"] = dict(sorted(found["backends"].items()))
    found["configs"] = {name: summary(name) for name in builtin_names()}
    found["runs"] = {run.name: run.describe() for run in list_runs(runs)}
    return found
