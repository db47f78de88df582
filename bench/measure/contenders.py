"""The rows of a comparison: which there are, and which of them are known not to run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foldbench.bench.config.backend_spec import (
    distributions_of,
    load_backend,
    parse_spec,
)
from foldbench.bench.errors import BackendError, BenchError
from foldbench.bench.host_files.marks import read_metadata
from foldbench.bench.machine.environment import has_nvidia_gpu
from foldbench.bench.measure.targets import files_for, target_of
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import PLAIN, Artifact, Checkpoint, Device, Role, Status, Variant
from foldbench.bench.store.files import file_sha256
from foldbench.bench.workers.runtimes import find_environment, is_whole, prepare_runtime

_SUFFIX: dict[Role, str] = {"contender": "", "again": " again", "one_thread": " 1 thread"}


@dataclass(frozen=True)
class Subject:
    """The run that is compared."""

    folder: Path
    checkpoint: Checkpoint
    artifacts: tuple[Artifact, ...]
    ablation: bool = False
    """Whether the steps on the way to what is shipped are compared too."""
    asked_baseline: str | None = None
    """Backend and variant that speed-ups are against, such as ``ort/plain``; None by default."""
    not_exported: str | None = None
    """Why there is no .onnx file, where one was to be made."""

    @property
    def is_file_alone(self) -> bool:
        """Whether there is an .onnx file and no torch module."""
        return is_file_alone(self.checkpoint)

    @property
    def original(self) -> str:
        """Backend and variant of the network as it is: agreement is measured against it."""
        return "ort/given" if self.is_file_alone else "torch/unfolded"

    @property
    def reference(self) -> str:
        """The contender that agreement is measured against."""
        return f"{self.original}/cpu"

    @property
    def baseline(self) -> str:
        """Backend and variant that speed-ups are against, on the same device."""
        return self.asked_baseline or self.original


def is_file_alone(checkpoint: Checkpoint) -> bool:
    """Return whether a network is an .onnx file, without a torch module."""
    return checkpoint.source is not None and checkpoint.source.form == "onnx"


def has_user_code(checkpoint: Checkpoint) -> bool:
    """Return whether the network is built by code of the user's."""
    return checkpoint.source is not None and checkpoint.source.form in ("code", "program", "memory")


@dataclass(frozen=True)
class ContenderSpec:
    """One row of a comparison: what is to run where, or why it cannot."""

    backend: str
    variant: Variant
    device: Device
    path: Path | None = None
    """The file to run; None where there is none."""
    source_sha256: str | None = None
    size_bytes: int | None = None
    """None where no file holds just this network."""
    status: Status = "ok"
    reason: str | None = None
    role: Role = "contender"
    fixed_batch: int | None = None
    """The only batch size that it runs at; None where any does."""
    python: Path | None = None
    """The interpreter that has the version of the runtime; None for the one that runs here."""
    threads: int | None = None
    """For one operator, where it is another number than the comparison's first."""

    @property
    def name(self) -> str:
        """Unique within the run, such as ``ort/folded/cpu``."""
        threads = f" {self.threads} threads" if self.threads else ""
        return f"{self.way}/{self.device}{threads}{_SUFFIX[self.role]}"

    def refuse_batches(self, *sizes: int) -> str | None:
        """Return why it cannot run batches of some of these `sizes`; None where it can all."""
        refused = [str(size) for size in sizes if self.fixed_batch not in (None, size)]
        if not refused:
            return None
        told = " and ".join(refused)
        return f"its file runs at batch size {self.fixed_batch} alone, not at {told}"

    @property
    def way(self) -> str:
        """Backend and variant, such as ``ort/folded``."""
        return f"{self.backend}/{self.variant}"


def list_contenders(
    subject: Subject, backends: Sequence[str], devices: Sequence[Device]
) -> list[ContenderSpec]:
    """Return every contender, those included that are known not to run, with their reasons."""
    return [
        contender
        for device in devices
        for backend in backends
        for contender in contenders_of(subject, backend, device)
    ]


def with_runtimes(
    contenders: Sequence[ContenderSpec], cache: Path, offline: bool, listener: ProgressListener
) -> list[ContenderSpec]:
    """Return `contenders`, those of another version of a runtime with the Python that has it.

    What is not in the `cache` yet is fetched, unless `offline`; one that cannot be had is a row
    with its reason.
    """
    found: dict[tuple[str, str], Path | BackendError] = {}
    return [_with_runtime(one, cache, offline, listener, found) for one in contenders]


def _with_runtime(
    contender: ContenderSpec,
    cache: Path,
    offline: bool,
    listener: ProgressListener,
    found: dict[tuple[str, str], Path | BackendError],
) -> ContenderSpec:
    if contender.status != "ok" or "@" not in contender.backend:
        return contender
    spec = parse_spec(contender.backend)
    if spec.version is None:
        return contender
    key = distributions_of(spec.backend)[contender.device], spec.version
    if key not in found:
        try:
            found[key] = install_runtime(*key, cache, offline, listener)
        except BackendError as error:
            found[key] = error
    python = found[key]
    if isinstance(python, BackendError):
        return replace(contender, status="failed", reason=str(python))
    return replace(contender, python=python)


def install_runtime(
    distribution: str, version: str, cache: Path, offline: bool, listener: ProgressListener
) -> Path:
    """Return the Python that has ``distribution==version``; fetch it unless `offline`.

    Raises BackendError with the reason.
    """
    environment = find_environment(distribution, version, cache)
    if not is_whole(environment, distribution) and not offline:
        listener.note(f"installing {distribution} {version} in an environment of its own ...")
    return prepare_runtime(distribution, version, cache, offline)


def with_threads(contenders: Sequence[ContenderSpec], counts: Sequence[int]) -> list[ContenderSpec]:
    """Return `contenders`, and those on the CPU also with each further number of threads."""
    further = [
        replace(contender, threads=count)
        for count in counts[1:]
        for contender in contenders
        if contender.device == "cpu" and contender.status == "ok"
    ]
    return [*contenders, *further]


def list_self_checks(
    contenders: Sequence[ContenderSpec], baseline: str, threads: int
) -> list[ContenderSpec]:
    """Return the baseline of each device once more, and on the CPU also with one thread."""
    checks = []
    for contender in contenders:
        if (contender.way, contender.status) != (baseline, "ok") or contender.threads:
            continue
        roles: list[Role] = ["again"]
        if contender.device == "cpu" and threads > 1:
            roles.append("one_thread")
        for role in roles:
            checks.append(replace(contender, role=role))
    return checks


def contenders_of(subject: Subject, backend: str, device: Device) -> Iterator[ContenderSpec]:
    """Yield the rows of one backend on one device."""
    try:
        spec = parse_spec(backend)
        module = load_backend(replace(spec, version=None))
        refuse = getattr(module, "refuse", None)
        reason = refuse(spec.options, device) if refuse else None
        if spec.version and device not in distributions_of(spec.backend):
            reason = f"backend {spec.backend!r} has no versions to choose from on {device}"
    except BenchError as error:
        yield ContenderSpec(backend, "folded", device, reason=str(error), status="failed")
        return
    backend = str(spec)
    if reason:
        yield ContenderSpec(backend, "folded", device, reason=reason, status="skipped")
        return
    if module.FORMAT == "module" and subject.is_file_alone:
        reason = f"not available: {subject.checkpoint.network} is an .onnx file, without a module"
        yield ContenderSpec(backend, "given", device, reason=reason, status="skipped")
        return
    if module.FORMAT == "module":
        weights = subject.folder / subject.checkpoint.weights
        sha256, size = subject.checkpoint.sha256, subject.checkpoint.size_bytes
        if str(spec) == "torch":  # the reference; all else is a way of shipping it
            yield ContenderSpec(backend, "unfolded", device, weights, sha256, size)
        yield ContenderSpec(backend, "folded", device, weights, sha256)
        return
    target = target_of(module, spec.options, device)
    files = list(files_for(_exported(subject), target))
    if not files:
        what = f" for {device}" if _exported(subject) else ""
        missing = f"nothing is exported{what}: bench export {subject.folder.name}"
        reason = subject.not_exported or missing
        status: Status = "failed" if subject.not_exported else "skipped"
        yield ContenderSpec(backend, "folded", device, reason=reason, status=status)
    for artifact, variant in files:
        yield _of_artifact(subject, artifact, ContenderSpec(backend, variant, device))


def _exported(subject: Subject) -> list[Artifact]:
    """Return the artifacts to compare; steps of an ablation first, in their order.

    Its first step, what torch.onnx.export gives by itself, is always compared.
    """
    steps = [a for a in subject.artifacts if a.ladder_step is not None]
    steps = [a for a in steps if subject.ablation or a.variant == PLAIN]
    shipped = [a for a in subject.artifacts if a.ladder_step is None]
    return sorted(steps, key=lambda a: a.ladder_step or 0) + shipped


def _of_artifact(subject: Subject, artifact: Artifact, spec: ContenderSpec) -> ContenderSpec:
    path = subject.folder / artifact.path
    reason = _refuse_artifact(subject, artifact, path)
    return replace(
        spec,
        path=path,
        source_sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        fixed_batch=artifact.fixed_batch,
        status="failed" if reason else "ok",
        reason=reason,
    )


def _refuse_artifact(subject: Subject, artifact: Artifact, path: Path) -> str | None:
    """Return why an exported file is not to be run, None where it is."""
    again = f"bench export {subject.folder.name} {_how_to_export(artifact)}"
    if artifact.checkpoint_sha256 != subject.checkpoint.sha256:
        return f"it was exported from other weights than the run's: {again}"
    if not path.is_file() or file_sha256(path) != artifact.sha256:
        return f"{artifact.path} is missing or is not the file that was exported: {again}"
    if _is_of_another(subject.checkpoint, path):
        return f"{artifact.path} says that it was exported from other weights: {again}"
    if not artifact.parity.passed:
        return f"it does not compute what the checkpoint does: {artifact.parity.reason}"
    if artifact.quantization and not artifact.quantization.within_budget:
        return f"it exceeds its budget of accuracy: {artifact.quantization.reason}"
    return None


def _is_of_another(checkpoint: Checkpoint, path: Path) -> bool:
    """Return whether the file names other weights; a given .onnx file may name what it is from."""
    if checkpoint.source is not None and checkpoint.source.form == "onnx":
        return False
    with path.open("rb") as stream:
        named = read_metadata(stream).get("foldbench.checkpoint_sha256")
    return named is not None and named != checkpoint.sha256


def _how_to_export(artifact: Artifact) -> str:
    """Return the options with which an artifact is made again."""
    if artifact.quantization is not None:
        option = f"--quantize {artifact.variant.partition('.')[0]}"
    else:
        option = "--no-fold-bn" if artifact.variant.startswith("unfolded") else "--fold-bn"
    return option if artifact.target == "cpu" else f"{option} --target {artifact.target}"


def devices_of(asked: Sequence[str]) -> tuple[Device, ...]:
    """Return the devices to use; ``auto`` is the CPU, and CUDA where there is an NVIDIA GPU."""
    devices: list[Device] = []
    for name in asked:
        if name == "auto":
            devices += ["cpu", "cuda"] if has_nvidia_gpu() else ["cpu"]
        else:
            devices.append("cuda" if name == "cuda" else "cpu")
    return tuple(dict.fromkeys(devices))
