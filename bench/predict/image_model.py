"""A run's exported network with its preprocessing inside the file, and the proof that it is right.

It is held against the way around: the image made to fit and normalised outside, the exported
network without preprocessing, and softmax, on images of several shapes cut out of test images.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import ValidationError

from foldbench.bench import units
from foldbench.bench.backends import Floats, NetworkSource, Session
from foldbench.bench.errors import BackendError, ExportError
from foldbench.bench.images.preprocessing import preprocess
from foldbench.bench.machine.environment import usable_cores
from foldbench.bench.predict.picture import fit_picture
from foldbench.bench.probabilities import are_probabilities, to_probabilities
from foldbench.bench.records import Artifact, Checkpoint, Record, Sha256
from foldbench.bench.registry import BACKENDS
from foldbench.bench.store.consistency import find_fault, outside
from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.store.files import file_sha256, replacing, write_text

_RECORD = "image_model.json"
_TOLERANCE = 0.05
"""Largest difference of a probability that rounding pixels may explain; a wrong mean, filter or
order of channels gives more."""
_SHAPES = ((1.0, 1.0), (1.0, 0.7), (0.6, 1.0))
"""Shares of height and width that are cut out of test images."""


class ImageModel(Record):
    """An .onnx file that takes an image and gives probabilities."""

    artifact_sha256: Sha256
    """Of the exported network that it was made from."""
    variant: str
    path: str
    """Relative to the run directory."""
    sha256: Sha256
    size_bytes: int
    images: int
    """On which it was held against preprocessing outside."""
    top1_equal: int
    max_difference: float
    """Of a class's probability."""
    applied_before: tuple[str, ...] | None = None
    """Which of mean and std is no part of the first layer's weights; None in records from before it
    was kept."""


@dataclass(frozen=True)
class _Both:
    inside: Session
    outside: Session


def export_image_model(
    run: RunDirectory, checkpoint: Checkpoint, artifact: Artifact, pixels: npt.NDArray[np.uint8]
) -> ImageModel:
    """Write ``artifacts/NAME.VARIANT.image.onnx`` beside `artifact`, proven on `pixels`.

    `pixels` are test images (n, C, H, W) uint8. Raises ExportError when ONNX cannot express the
    preprocessing, or when the file says something else than preprocessing outside does.
    """
    import onnx

    from foldbench.exporters.image_input import add_preprocessing, applied_before
    from foldbench.exporters.passes.fold_batchnorm import apply as fold

    source = run.path / artifact.path
    with open_file(source) as session:
        session.bind(preprocess(pixels[: len(_SHAPES)], checkpoint.preprocessing))
        session.step()
        session.synchronize()
        softmax = not are_probabilities(session.output())
    whole = add_preprocessing(onnx.load(source), checkpoint.preprocessing, softmax=softmax)
    if not artifact.variant.startswith("unfolded"):
        whole, _ = fold(whole)
    path = source.with_suffix(".image.onnx")
    with replacing(path) as temporary:
        onnx.save(whole, temporary)
        with open_file(temporary) as inside, open_file(source) as outside:
            both = _Both(inside, outside)
            pairs = [_run_both(both, image, checkpoint) for image in _shapes(pixels)]
        gap = float(np.max([np.abs(a - b) for a, b in pairs]))
        if not gap <= _TOLERANCE:  # nor may it be NaN
            raise ExportError(
                f"{path.name}: with preprocessing inside, a probability is off by "
                f"{units.error(gap)} "
                f"(allowed {units.error(_TOLERANCE)}): export without --with-preprocess, and "
                "please report "
                "this; what was there before is unchanged"
            )
    model = ImageModel(
        artifact_sha256=artifact.sha256,
        variant=artifact.variant,
        path=path.relative_to(run.path).as_posix(),
        sha256=file_sha256(path),
        size_bytes=path.stat().st_size,
        images=len(pairs),
        top1_equal=sum(int(a.argmax()) == int(b.argmax()) for a, b in pairs),
        max_difference=gap,
        applied_before=applied_before(whole),
    )
    write_text(run.path / _RECORD, model.model_dump_json(indent=1) + "\n")
    return model


def find_image_model(run: RunDirectory) -> ImageModel | None:
    """Return the record of the run's file with preprocessing inside, None where there is none.

    Raises BackendError for a record that is damaged, contradicts itself, or is of a file that has
    been exported anew since.
    """
    path = run.path / _RECORD
    try:
        model = ImageModel.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, json.JSONDecodeError) as error:
        raise BackendError(f"{path} is damaged: export the run again") from error
    fault = next(_faults(model), None)
    if fault is not None:
        raise BackendError(
            f"{path} contradicts itself: {fault}; it was damaged, or edited by hand: "
            "export the run again"
        )
    if all(artifact.sha256 != model.artifact_sha256 for artifact in run.artifacts()):
        raise BackendError(
            f"{model.path} was made from a file that has been exported anew since: "
            "bench export --with-preprocess makes it again"
        )
    return model


def _faults(model: ImageModel) -> Iterator[str]:
    general = find_fault(model)
    if general is not None:
        yield general
    yield from outside(model.path)
    if not 0 <= model.top1_equal <= model.images or not model.images:
        yield f"{model.top1_equal} of {model.images} images have the same class"
    if not model.max_difference <= _TOLERANCE:
        yield f"max_difference is {model.max_difference}, and {_TOLERANCE} is allowed"


def open_image_model(run: RunDirectory, model: ImageModel) -> Session:
    """Return a session that takes (N, H, W, 3) uint8 and gives probabilities (N, classes)."""
    path = run.path / model.path
    if not path.is_file() or file_sha256(path) != model.sha256:
        raise BackendError(f"{model.path} is missing or was changed: export the run again")
    return open_file(path)


def run_image_model(session: Session, image: npt.NDArray[np.uint8]) -> Floats:
    """Return the probabilities (classes,) of one upright RGB image (H, W, 3) uint8."""
    session.bind(image[None])  # type: ignore[arg-type]  # this file takes bytes
    session.step()
    session.synchronize()
    return session.output()[0]


def open_file(path: Path) -> Session:
    """Return a session of onnxruntime on the CPU for an .onnx file."""
    source = NetworkSource(path=path, build_module=lambda: None)
    session: Session = BACKENDS.load("ort").open_session(
        source, device="cpu", threads=usable_cores()
    )
    return session


def _shapes(pixels: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield each image as (H, W, 3), in turn whole, upright and across."""
    for index, image in enumerate(pixels):
        upright, across = _SHAPES[index % len(_SHAPES)]
        height, width = int(image.shape[1] * upright), int(image.shape[2] * across)
        rgb = np.broadcast_to(image, (3, *image.shape[1:]))
        yield np.ascontiguousarray(rgb.transpose(1, 2, 0)[:height, :width])


def _run_both(
    both: _Both, image: npt.NDArray[np.uint8], checkpoint: Checkpoint
) -> tuple[Floats, Floats]:
    preprocessing = checkpoint.preprocessing
    pixels = fit_picture(Image.fromarray(image), preprocessing, "a test image")
    both.outside.bind(preprocess(pixels, preprocessing))
    both.outside.step()
    both.outside.synchronize()
    return run_image_model(both.inside, image), to_probabilities(both.outside.output())[0]
