"""What a network says about single images: torch, and onnxruntime where the run was exported."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from foldbench.bench.backends import Floats, NetworkSource, Session
from foldbench.bench.errors import BackendError, BenchError
from foldbench.bench.images.preprocessing import preprocess
from foldbench.bench.machine.environment import usable_cores
from foldbench.bench.predict.image_model import (
    ImageModel,
    find_image_model,
    open_file,
    open_image_model,
    run_image_model,
)
from foldbench.bench.predict.networks import LoadedNetwork
from foldbench.bench.predict.picture import fit_picture, open_picture
from foldbench.bench.probabilities import are_probabilities, to_probabilities
from foldbench.bench.records import Artifact, Preprocessing
from foldbench.bench.registry import BACKENDS
from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.store.files import file_sha256
from foldbench.bench.timing.loop import call


@dataclass(frozen=True)
class ImageInput:
    """One image, as a picture and as the network's input."""

    picture: npt.NDArray[np.uint8]
    """(H, W, 3) uint8, upright RGB, as large as it is."""
    x: Floats
    """(1, 3, H, W) float32, preprocessed."""


Predictor = Callable[[ImageInput], Floats]
"""Returns each class's probability: (classes,) float32."""


@dataclass(frozen=True)
class ClassProbability:
    """One class and its probability, 0..1."""

    class_name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What one backend says about one image."""

    backend: str
    """Such as ``torch`` or ``ort/folded``."""
    ranked: tuple[ClassProbability, ...]
    """The likeliest first."""
    reason: str | None = None
    """Why there are none."""


@dataclass(frozen=True)
class Answer:
    """What every backend says about one image."""

    image: Path
    predictions: tuple[Prediction, ...]
    reason: str | None = None
    """Why the image could not be read."""
    max_difference: float | None = None
    """Largest difference of a class's probability between torch and another backend."""


def predict(network: LoadedNetwork, images: Sequence[Path], top: int) -> Iterator[Answer]:
    """Yield the `top` likeliest classes of each image by torch and every artifact of its run.

    An image that cannot be read, and an artifact that does not run, become reasons.
    """
    with ExitStack() as stack:
        in_torch, already = _open_torch(network, stack)
        predictors = {"torch": in_torch, **_open_artifacts(network, already, stack)}
        for image in images:
            try:
                image_input = _read_image(image, network.preprocessing)
            except BenchError as error:
                yield Answer(image, (), str(error))
                continue
            yield _answer(network, predictors, image, image_input, top)


def _answer(
    network: LoadedNetwork,
    predictors: dict[str, Predictor | str],
    path: Path,
    image_input: ImageInput,
    top: int,
) -> Answer:
    predictions: list[Prediction] = []
    found: dict[str, Floats] = {}
    for name, predictor in predictors.items():
        if isinstance(predictor, str):
            predictions.append(Prediction(name, (), predictor))
            continue
        probabilities = predictor(image_input)
        if not np.isfinite(probabilities).all():
            damaged = "its probabilities are not all finite: the weights are damaged, get them anew"
            predictions.append(Prediction(name, (), damaged))
            continue
        found[name] = probabilities
        likeliest = np.argsort(-found[name], kind="stable")[:top]
        ranked = tuple(
            ClassProbability(network.classes[i], float(found[name][i])) for i in likeliest
        )
        predictions.append(Prediction(name, ranked))
    others = [p for name, p in found.items() if name != "torch"]
    gap = None
    if "torch" in found:
        gap = max((float(np.abs(p - found["torch"]).max()) for p in others), default=None)
    return Answer(path, tuple(predictions), max_difference=gap)


def _read_image(path: Path, preprocessing: Preprocessing) -> ImageInput:
    picture = open_picture(path)
    pixels = fit_picture(picture, preprocessing, str(path))
    return ImageInput(np.asarray(picture), preprocess(pixels, preprocessing))


def _open_torch(network: LoadedNetwork, stack: ExitStack) -> tuple[Predictor, bool]:
    """Return a predictor, and whether the network itself gives probabilities."""
    source = NetworkSource(path=Path(), build_module=lambda: network.module)
    session: Session = BACKENDS.load("torch").open_session(
        source, device="cpu", threads=usable_cores()
    )
    opened = stack.enter_context(session)
    black = np.zeros((2, *network.preprocessing.input_shape), np.float32)
    already = are_probabilities(call(opened, black))
    return lambda image_input: to_probabilities(call(opened, image_input.x), already)[0], already


def _open_artifacts(
    network: LoadedNetwork, already: bool, stack: ExitStack
) -> dict[str, Predictor | str]:
    """Return a predictor, or the reason why there is none, for each exported file."""
    if network.run is None:
        return {}
    run, checkpoint = network.run, network.run.checkpoint()
    opened: dict[str, Predictor | str] = {}
    for artifact in run.artifacts():
        name = f"ort/{artifact.variant}"
        try:
            path = _proven_file(run.path, artifact, checkpoint.sha256)
            opened[name] = _open_artifact(path, already, stack)
        except BenchError as error:
            opened[name] = str(error)
    try:
        model = find_image_model(run)
        if model is not None:
            name = f"ort/{model.variant}, preprocessing inside"
            opened[name] = _open_image_model(run, model, stack)
    except BenchError as error:
        opened["ort, preprocessing inside"] = str(error)
    return opened


def _open_artifact(path: Path, already: bool, stack: ExitStack) -> Predictor:
    opened = stack.enter_context(open_file(path))
    return lambda image_input: to_probabilities(call(opened, image_input.x), already)[0]


def _open_image_model(run: RunDirectory, model: ImageModel, stack: ExitStack) -> Predictor:
    opened = stack.enter_context(open_image_model(run, model))
    return lambda image_input: run_image_model(opened, image_input.picture)


def _proven_file(folder: Path, artifact: Artifact, checkpoint_sha256: str) -> Path:
    """Return the artifact's file, which is whole and right; raise BackendError otherwise."""
    path = folder / artifact.path
    if artifact.checkpoint_sha256 != checkpoint_sha256:
        raise BackendError("exported from other weights than the run's: export the run again")
    if not path.is_file() or file_sha256(path) != artifact.sha256:
        raise BackendError(f"{artifact.path} is missing or was changed: export the run again")
    if not artifact.parity.passed:
        raise BackendError(
            f"it does not compute what the checkpoint does: {artifact.parity.reason}"
        )
    return path
