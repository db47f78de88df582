"""Export a network from a Python program, as `bench export` does."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldbench.bench.api.elsewhere import Task, export_elsewhere
from foldbench.bench.api.images import describe_images
from foldbench.bench.api.networks import Network, named
from foldbench.bench.api.notes import Notes
from foldbench.bench.progress import ProgressListener
from foldbench.bench.store.temporary import temporary_folder
from foldbench.bench.workers.isolated import run_isolated

if TYPE_CHECKING:
    from foldbench.bench.records import Artifact


@dataclass(frozen=True)
class Exported:
    """A file that was written, and what was done and proven."""

    path: Path
    artifact: "Artifact"
    """Folding, passes, parity with the network, and hashes."""
    notes: tuple[str, ...] = ()
    """What was taken for granted or done on the way, one sentence each."""


def export(
    network: Network,
    path: "str | os.PathLike[str]",
    images: Any = None,
    *,
    input_shape: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    fold: bool = True,
    target: str = "cpu",
    passes: Sequence[str] = ("default",),
    opset: int | None = None,
    model: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    listener: ProgressListener | None = None,
) -> Exported:
    """Export `network` to the .onnx file `path`, with BatchNorm folded, and prove what it computes.

    `network`, `images`, `mean`, `std`, `class_names`, `model` and `settings` are those of
    `foldbench.compare`. The file is held against the network on `images`, and on random and extreme
    inputs; without images, `input_shape` (C, H, W) says what it takes. `fold`, `target`, `passes`
    and `opset` are those of `bench export`.

    Raises BenchError, with one line; ExportError when the file does not compute what the network
    does. Nothing is written then, and a file that is there stays as it is.
    """
    export_section: dict[str, Any] = {"fold_bn": fold, "target": target, "passes": list(passes)}
    if opset is not None:
        export_section["opset"] = opset
    place = Path(path).absolute()
    with named([network]) as networks, temporary_folder() as folder:
        data, classes = describe_images(folder, images, None, input_shape, mean, std, class_names)
        config = {
            "model": {**classes, **(model or {})},
            "data": data,
            "export": export_section,
        }
        notes = Notes(listener)
        task = Task(networks, config, settings or {})
        artifact = run_isolated(export_elsewhere, task, folder, place, listener=notes)
    return Exported(place, artifact, tuple(notes.texts))
