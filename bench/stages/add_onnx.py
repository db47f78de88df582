"""What there is to know of an .onnx file that is added."""

from pathlib import Path
from typing import TYPE_CHECKING

from foldbench.bench.errors import ConfigError
from foldbench.bench.records import Preprocessing, Source

if TYPE_CHECKING:
    from foldbench.models.building.adding import Made, Wanted

NAME = "network"
FILE = f"{NAME}.onnx"
_NEUTRAL = 0.5


def onnx_preprocessing(path: Path, output: str | None) -> tuple[Preprocessing | None, bool]:
    """Return how images are prepared for an .onnx file, and whether it says mean and std itself.

    None where it leaves the size of images open. Raises ExportError for a file that cannot be run.
    """
    from foldbench.exporters.onnx_file import inspect_onnx

    facts = inspect_onnx(path, output)
    said = facts.described
    if said.preprocessing is not None:
        return said.preprocessing, True
    channels, height, width = facts.input_shape
    if channels is None or height is None or width is None:
        return None, False
    known = said.mean is not None and said.std is not None
    found = {key: v for key, v in (("mean", said.mean), ("std", said.std)) if v is not None}
    return neutral_preprocessing((channels, height, width)).model_copy(update=found), known


def neutral_preprocessing(input_shape: tuple[int, int, int]) -> Preprocessing:
    """Return how images are prepared where the shape is known and nothing else."""
    each = (_NEUTRAL,) * input_shape[0]
    return Preprocessing(input_shape=input_shape, mean=each, std=each)


def make_from_onnx(wanted: "Wanted", folder: Path) -> "Made":
    """Write the .onnx file into `folder` as foldbench runs it; return what it is.

    Raises ConfigError for what only a module can have, ExportError for a file that cannot be run.
    """
    from foldbench.exporters.onnx_adopt import adopt_onnx
    from foldbench.models.building.adding import Made

    path = Path(wanted.text)
    weights = None if wanted.weights in ("none", "default") else wanted.weights
    for option, given in (("--weights", weights), ("--args", wanted.args)):
        if given:
            raise ConfigError(f"{path}: an .onnx file has its own weights: leave out {option}")
    adopted = adopt_onnx(
        path, folder, name=NAME, output=wanted.output, input_shape=wanted.input_shape
    )
    facts = adopted.facts
    if wanted.classes not in (None, adopted.classes):
        raise ConfigError(
            f"{path}: gives {adopted.classes} classes, and --classes says {wanted.classes}"
        )
    notes = [*adopted.notes]
    if facts.ends_in_softmax:
        notes.append("gives probabilities, not logits: they are not put through softmax again")
    classes = facts.described.classes
    return Made(
        source=Source(
            form="onnx",
            name=path.stem,
            files={str(path.parent / name): sha256 for name, sha256 in adopted.given.items()},
            output=facts.logits.name if len(facts.outputs) > 1 else None,
        ),
        parameter_count=facts.parameter_count,
        classes=adopted.classes,
        class_names=classes if classes and len(classes) == adopted.classes else None,
        random=False,
        fixed_batch=adopted.fixed_batch,
        notes=tuple(f"{path.name}: {note}" for note in notes),
    )
