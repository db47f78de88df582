"""One trained network to look at: a run's, or a pretrained one of torchvision or timm."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldbench.bench.errors import CheckpointError, UnknownNameError, nearest
from foldbench.bench.records import Preprocessing
from foldbench.bench.store.directory import RunDirectory, list_runs
from foldbench.bench.store.finding import find_runs


@dataclass(frozen=True)
class LoadedNetwork:
    """A torch module with all that is needed to feed it and to read its answers."""

    name: str
    weights: str
    """Which ones, for people."""
    module: Any
    """In eval mode, float32, on the CPU: (N, C, H, W) -> (N, classes) logits."""
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    run: RunDirectory | None = None
    """Where it was trained; None for a pretrained network as it is."""


def open_network(name: str, weights: str | None, download: bool, runs: Path) -> LoadedNetwork:
    """Return the run `name` in `runs`, or the network `name` of torchvision or timm.

    `weights` is for the latter: ``default`` where it is None, a name of torchvision's, or a
    file. Raises UnknownNameError when neither is called so, CheckpointError for
    weights that are missing, may not be fetched, or belong to another network.
    """
    if ":" not in name and weights is None and not download:
        run = _find_run(name, runs)
        if run is not None:
            return _of_run(run)
    return _pretrained(name, weights or "default", download, runs)


def _find_run(name: str, runs: Path) -> RunDirectory | None:
    try:
        (run,) = find_runs(runs, [name])
    except UnknownNameError:
        return None
    return run


def _of_run(run: RunDirectory) -> LoadedNetwork:
    from foldbench.models.building.checkpoint import load_checkpoint

    checkpoint = run.checkpoint()
    if checkpoint.random_weights:
        raise CheckpointError(
            f"run {run.name} has random weights and says nothing of an image: train one with "
            f"weights (bench train {checkpoint.config_name} --weights FILE)"
        )
    return LoadedNetwork(
        name=run.name,
        weights=f"sha256 {checkpoint.sha256[:12]}…",
        module=load_checkpoint(checkpoint, run.path),
        preprocessing=checkpoint.preprocessing,
        classes=checkpoint.classes,
        run=run,
    )


def _pretrained(name: str, weights: str, download: bool, runs: Path) -> LoadedNetwork:
    from foldbench.models.zoo import networks

    if weights == "none":
        raise CheckpointError(
            f"{name} without weights says nothing of an image: leave out --weights none (random "
            "weights are for latency, bench run CONFIG --set transfer.weights=none)"
        )
    try:
        network = networks.find_network(name)
    except UnknownNameError as error:
        known = [run.name for run in list_runs(runs)]
        hint = f"; runs in {runs}: {', '.join(known)}" if known else ""
        raise UnknownNameError(f"{error}{hint}{nearest(name, known)}") from None
    module = networks.create(network)
    filled = networks.fill(module, network, weights, download)
    module.eval()
    return LoadedNetwork(
        name=network.name,
        weights=filled.title,
        module=module,
        preprocessing=networks.preprocessing_of(network, weights),
        classes=networks.classes_of(network, module),
    )
