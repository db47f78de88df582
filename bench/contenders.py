"""The rows of a comparison: which there are, and which of them are known not to run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.backends import Floats
from bench.errors import BenchError
from bench.records import Artifact, Checkpoint, Device, Status, Variant
from bench.registry import BACKENDS
from bench.storage import file_sha256
from bench.worker import Opened, TimedBlock, Workman

REFERENCE = "torch/unfolded/cpu"


@dataclass(frozen=True)
class Subject:
    """The run that is compared."""

    folder: Path
    checkpoint: Checkpoint
    artifacts: tuple[Artifact, ...]


@dataclass
class Contender:
    """One row in the making."""

    backend: str
    variant: Variant
    device: Device
    path: Path | None = None
    source_sha256: str | None = None
    size_bytes: int | None = None
    reason: str | None = None
    status: Status = "ok"
    worker: Workman | None = None
    opened: Opened | None = None
    logits: Floats | None = None
    blocks: dict[int, list[TimedBlock]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Unique within the run, such as ``ort/folded/cpu``."""
        return f"{self.backend}/{self.variant}/{self.device}"

    def fail(self, reason: str) -> None:
        """Take it out of the comparison, with a reason."""
        self.status, self.reason = "failed", reason
        self.close()

    def close(self) -> None:
        """End its process."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None


def list_contenders(
    subject: Subject, backends: Sequence[str], devices: Sequence[Device]
) -> list[Contender]:
    """Return every contender, those included that are known not to run, with their reasons."""
    return [
        contender
        for device in devices
        for backend in backends
        for contender in contenders_of(subject, backend, device)
    ]


def contenders_of(subject: Subject, backend: str, device: Device) -> Iterator[Contender]:
    """Yield the rows of one backend on one device."""
    try:
        needs = BACKENDS.load(backend).FORMAT
    except BenchError as error:
        yield Contender(backend, "folded", device, reason=str(error), status="failed")
        return
    if needs == "module":
        weights = subject.folder / subject.checkpoint.weights
        sha256, size = subject.checkpoint.sha256, subject.checkpoint.size_bytes
        yield Contender(backend, "unfolded", device, weights, sha256, size)
        yield Contender(backend, "folded", device, weights, sha256)
        return
    if not subject.artifacts:
        reason = f"nothing is exported: bench export {subject.folder.name}"
        yield Contender(backend, "folded", device, reason=reason, status="skipped")
    for artifact in subject.artifacts:
        yield _of_artifact(subject, artifact, backend, device)


def _of_artifact(subject: Subject, artifact: Artifact, backend: str, device: Device) -> Contender:
    path = subject.folder / artifact.path
    contender = Contender(
        backend, artifact.variant, device, path, artifact.sha256, artifact.size_bytes
    )
    again = f"bench export {subject.folder.name}"
    if artifact.checkpoint_sha256 != subject.checkpoint.sha256:
        contender.fail(f"it was exported from other weights than the run's: {again}")
    elif not path.is_file() or file_sha256(path) != artifact.sha256:
        contender.fail(f"{artifact.path} is missing or is not the file that was exported: {again}")
    elif not artifact.parity.passed:
        contender.fail(f"it does not compute what the checkpoint does: {artifact.parity.reason}")
    return contender
