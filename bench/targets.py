"""Which exported files a backend is given on a device."""

from collections.abc import Iterator, Sequence

from bench.records import Artifact, Target, Variant


def files_for(
    artifacts: Sequence[Artifact], target: Target, runs_host_files: bool
) -> Iterator[tuple[Artifact, Variant]]:
    """Yield the artifacts for `target`, each with the name of its row.

    Where there is none for it, the one for the CPU takes its place: it holds ONNX's own operators
    alone, and runs anywhere. Files for this machine alone are rows beside the others, in a backend
    that runs them.
    """
    exact = {_base(a) for a in artifacts if a.target == target}
    for artifact in artifacts:
        if artifact.target == "host":
            if runs_host_files and target == "cpu":
                yield artifact, artifact.variant
        elif artifact.target == target:
            yield artifact, _base(artifact)
        elif artifact.precision == "int8":
            continue  # its operators in int8 are those of onnxruntime and OpenVINO on a CPU
        elif artifact.target == "cpu" and _base(artifact) not in exact:
            yield artifact, artifact.variant


def _base(artifact: Artifact) -> Variant:
    """Return the variant without the target, which the device of a row says."""
    return artifact.variant.removesuffix(f".{artifact.target}")
