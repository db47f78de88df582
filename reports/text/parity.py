"""What exported files are held against, in words."""

from collections.abc import Iterable, Mapping

from foldbench.bench.records import Artifact, ParityReference

PARITY_REFERENCES: Mapping[ParityReference, str] = {
    "float64": "float64 torch",
    "float32": "float32 torch (float64 does not run)",
    "ort_float64": "the given file in float64 (onnxruntime)",
    "onnx_float64": "the given file in float64 (onnx's reference evaluator)",
    "ort_float32": "the given file in float32 (onnxruntime, not optimised; float64 does not run)",
}


def told_references(artifacts: Iterable[Artifact]) -> str:
    """Return what `artifacts` were held against; those in lower precision were not."""
    kinds = [a.parity.reference for a in artifacts if a.quantization is None]
    told = [PARITY_REFERENCES[kind] for kind in dict.fromkeys(kinds)]
    return " or ".join(told or [PARITY_REFERENCES["float64"]])


def told_float32(artifacts: Iterable[Artifact]) -> str:
    """Return what else the error of is told: the network itself in float32."""
    return "float32" if any(a.parity.of_a_file for a in artifacts) else "float32 torch"
