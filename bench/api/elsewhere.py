"""What a call of the Python interface does in a process of its own.

The program that calls imports this module, too, and nothing that the functions need.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldbench.bench.api.networks import Named
from foldbench.bench.errors import ConfigError, ExportError
from foldbench.bench.progress import ProgressListener

if TYPE_CHECKING:
    from foldbench.bench.records import Artifact, Run
    from foldbench.bench.store.directory import Paths, RunDirectory
    from foldbench.exporters.onnx_optimize import Optimized


@dataclass(frozen=True)
class Task:
    """What is asked for."""

    networks: tuple[Named, ...]
    config: Mapping[str, Any]
    """Sections and keys that all networks have in common."""
    settings: Mapping[str, Any]
    """More, by key path such as ``compare.rounds``."""


def compare_elsewhere(task: Task, folder: Path, listener: ProgressListener) -> "tuple[Run, ...]":
    """Add the networks as runs in `folder`, export and compare them; return the records."""
    from foldbench.bench.stages.compare import compare_runs
    from foldbench.bench.stages.export import try_export
    from foldbench.bench.store.directory import Paths

    paths = Paths(folder / "runs", folder / "cache")
    runs = [_add(task, network, paths, listener) for network in task.networks]
    failures: dict[str, str] = {}
    if any(not backend.startswith("torch") for backend in task.config["compare"]["backends"]):
        failures = {
            run.name: reason for run in runs if (reason := try_export(run, (), paths, listener))
        }
    command = ("foldbench.compare",)
    records = compare_runs(runs, (), paths, listener, command, not_exported=failures)
    return tuple(  # the path is a temporary one
        record.model_copy(update={"data": record.data.model_copy(update={"path": None})})
        for record in records
    )


def export_elsewhere(
    task: Task, folder: Path, path: Path, listener: ProgressListener
) -> "Artifact":
    """Add the network as a run in `folder`, export it and write the file to `path`.

    Raises ExportError, and writes nothing, for a file that does not compute what the network does.
    """
    from foldbench.bench.stages.export import export
    from foldbench.bench.store.directory import Paths
    from foldbench.bench.store.files import write_with

    paths = Paths(folder / "runs", folder / "cache")
    (network,) = task.networks
    run = _add(task, network, paths, listener)
    artifact = export(run, (), paths, listener)
    if not artifact.parity.passed:
        raise ExportError(
            f"{network.name}: the file does not compute what the network does: "
            f"{artifact.parity.reason}"
        )
    content = (run.path / artifact.path).read_bytes()
    write_with(path, lambda temporary: temporary.write_bytes(content))
    return artifact


def optimize_elsewhere(
    source: Path,
    path: Path,
    target: Any,
    images: Any,
    input_shape: Sequence[int] | None,
    passes: Sequence[str],
) -> "Optimized":
    """Rewrite the file `source`; see `foldbench.optimize`. Raises ConfigError for a target."""
    from typing import get_args

    from foldbench.bench.records import Target
    from foldbench.exporters.onnx_optimize import optimize_onnx

    if target not in get_args(Target):
        raise ConfigError(f"target: found {target!r}; allowed: {', '.join(get_args(Target))}")
    if not source.is_file():
        raise ExportError(f"{source}: there is no such file: correct the path")
    return optimize_onnx(source, path, target, images, input_shape=input_shape, passes=passes)


def _add(task: Task, network: Named, paths: "Paths", listener: ProgressListener) -> "RunDirectory":
    from foldbench.bench.config.files import Loaded, from_dict
    from foldbench.bench.stages.add import add

    model = {"from": network.text, **task.config.get("model", {})}
    config = from_dict(
        {**task.config, "model": model}, _overrides(task.settings), f"foldbench: {network.name}"
    )
    return add(Loaded(network.name, config), paths, listener)


def _overrides(settings: Mapping[str, Any]) -> Sequence[str]:
    """Return settings by key path in the form of the command line; JSON is YAML, too."""
    return tuple(f"{key}={json.dumps(value)}" for key, value in settings.items())
