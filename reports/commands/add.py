"""What `bench add` says: which network it is, and where its records are."""

from pathlib import Path

from foldbench.bench import units
from foldbench.bench.records import Checkpoint


def render_added(folder: Path, checkpoint: Checkpoint) -> str:
    """Return a few lines about an added network in the run `folder`."""
    shape = "x".join(map(str, checkpoint.preprocessing.input_shape))
    source = checkpoint.source
    weights = "random"
    if source is not None and source.weights is not None:
        weights = f"{source.weights.title} (sha256 {source.weights.sha256[:12]}…)"
    elif source is not None and not checkpoint.random_weights:
        weights = "its own"
    lines = [
        f"{checkpoint.network}: {units.count(checkpoint.parameter_count)} parameters, "
        f"input {shape}, {units.count(len(checkpoint.classes))} classes, weights: {weights}",
        f"record:  {folder / 'checkpoint.json'}",
        f"next:    bench export {folder.name}, bench compare {folder.name}",
    ]
    return "\n".join(lines) + "\n"
