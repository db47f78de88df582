"""What a network says about single images: torch, and onnxruntime where the run was exported."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.backends import Floats, Session, Source
from bench.environment import usable_cores
from bench.errors import BackendError, BenchError
from bench.networks import Network, read_picture
from bench.preprocessing import preprocess
from bench.records import Artifact
from bench.registry import BACKENDS
from bench.storage import file_sha256


@dataclass(frozen=True)
class Guess:
    """One class and how likely the network finds it, 0..1."""

    class_name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What one backend says about one image."""

    backend: str
    """Such as ``torch`` or ``ort/folded``."""
    guesses: tuple[Guess, ...]
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


def predict(network: Network, images: Sequence[Path], top: int) -> Iterator[Answer]:
    """Yield the `top` likeliest classes of each image by torch and every artifact of its run.

    An image that cannot be read, and an artifact that does not run, become reasons.
    """
    with ExitStack() as stack:
        sessions = {"torch": _open_torch(network, stack), **_open_artifacts(network, stack)}
        for image in images:
            try:
                pixels = read_picture(image, network.preprocessing)
            except BenchError as error:
                yield Answer(image, (), str(error))
                continue
            yield _answer(network, sessions, image, preprocess(pixels, network.preprocessing), top)


def softmax(logits: Floats) -> Floats:
    """Return probabilities (N, classes) float32 for `logits` of the same shape."""
    raised = np.exp((logits - logits.max(1, keepdims=True)).astype(np.float64))
    shares: Floats = (raised / raised.sum(1, keepdims=True)).astype(np.float32)
    return shares


def _answer(
    network: Network, sessions: dict[str, Session | str], image: Path, x: Floats, top: int
) -> Answer:
    predictions: list[Prediction] = []
    found: dict[str, Floats] = {}
    for name, session in sessions.items():
        if isinstance(session, str):
            predictions.append(Prediction(name, (), session))
            continue
        session.bind(x)
        session.step()
        session.synchronize()
        found[name] = softmax(session.output())[0]
        likeliest = np.argsort(-found[name], kind="stable")[:top]
        guesses = tuple(Guess(network.classes[i], float(found[name][i])) for i in likeliest)
        predictions.append(Prediction(name, guesses))
    others = [p for name, p in found.items() if name != "torch"]
    gap = max((float(np.abs(p - found["torch"]).max()) for p in others), default=None)
    return Answer(image, tuple(predictions), max_difference=gap)


def _open_torch(network: Network, stack: ExitStack) -> Session:
    source = Source(path=Path(), build_module=lambda: network.module)
    session: Session = BACKENDS.load("torch").open(source, device="cpu", threads=usable_cores())
    return stack.enter_context(session)


def _open_artifacts(network: Network, stack: ExitStack) -> dict[str, Session | str]:
    """Return a session, or the reason why there is none, for each artifact of the run."""
    if network.run is None:
        return {}
    checkpoint = network.run.checkpoint()
    opened: dict[str, Session | str] = {}
    for artifact in network.run.artifacts():
        name = f"ort/{artifact.variant}"
        try:
            source = _source(network.run.path, artifact, checkpoint.sha256)
            backend = BACKENDS.load("ort")
            session: Session = backend.open(source, device="cpu", threads=usable_cores())
            opened[name] = stack.enter_context(session)
        except BenchError as error:
            opened[name] = str(error)
    return opened


def _source(folder: Path, artifact: Artifact, checkpoint_sha256: str) -> Source:
    path = folder / artifact.path
    if artifact.checkpoint_sha256 != checkpoint_sha256:
        raise BackendError("exported from other weights than the run's: export the run again")
    if not path.is_file() or file_sha256(path) != artifact.sha256:
        raise BackendError(f"{artifact.path} is missing or was changed: export the run again")
    if not artifact.parity.passed:
        raise BackendError(
            f"it does not compute what the checkpoint does: {artifact.parity.reason}"
        )
    return Source(path=path, build_module=lambda: None)
