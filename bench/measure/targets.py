"""Which exported files a backend is given on a device."""

from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType

from foldbench.bench.records import Artifact, Device, Target, Variant

_OTHER_PROVIDERS: tuple[Target, ...] = ("openvino", "tensorrt")
"""Options of a backend with which something else runs the graph."""
_ON_A_CPU: tuple[Target, ...] = ("cpu", "openvino")


def target_of(backend: ModuleType, options: Mapping[str, str], device: Device) -> Target:
    """Return the target whose files a backend is to run; ``host``: also those for this machine."""
    for provider in _OTHER_PROVIDERS:
        if provider in options:
            return provider
    runs_host_files = getattr(backend, "RUNS_HOST_FILES", False)
    if device == "cpu" and runs_host_files:
        return "host"
    return getattr(backend, "TARGET", device)


def files_for(artifacts: Sequence[Artifact], target: Target) -> Iterator[tuple[Artifact, Variant]]:
    """Yield the artifacts for `target`, each with the name of its row.

    Where there is none for it, the one for the CPU takes its place: it holds ONNX's own operators
    alone, and runs anywhere. Files for this machine alone are rows beside those for the CPU.
    """
    wanted: Target = "cpu" if target == "host" else target
    exact = {_base(a) for a in artifacts if a.target == wanted}
    for artifact in artifacts:
        if artifact.target == "host":
            if target == "host":
                yield artifact, artifact.variant
        elif artifact.target == wanted:
            yield artifact, _base(artifact)
        elif artifact.precision == "int8" and wanted not in _ON_A_CPU:
            continue  # its operators in int8 are those of onnxruntime and OpenVINO on a CPU
        elif artifact.target == "cpu" and _base(artifact) not in exact:
            yield artifact, artifact.variant


def _base(artifact: Artifact) -> Variant:
    """Return the variant without the target, which the device of a row says."""
    return artifact.variant.removesuffix(f".{artifact.target}")
