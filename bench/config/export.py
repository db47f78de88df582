"""The section export: how the network becomes an .onnx file."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from foldbench.bench.config.base import ConfigSection, Positive, refuse_repeats
from foldbench.bench.records import Quantize, Target


def _one_or_more(names: Any) -> Any:
    """Return one name, or a list of names, as a tuple; leave other things to be refused."""
    if isinstance(names, str):
        return (names,)
    return tuple(names) if isinstance(names, list) else names


class ExportSection(ConfigSection):
    """How the network becomes an .onnx file."""

    fold_bn: bool = True
    """Fold BatchNorm and all else that is linear into the layers. false: the graph keeps it."""
    opset: Annotated[int, Field(ge=18, le=24)] = 20
    """ONNX operator set of the exported file."""
    target: Target = "cpu"
    """What the file is to run on, which decides the passes that are on by default. host: the CPU of
    this machine alone, with this onnxruntime."""
    passes: Annotated[
        tuple[str, ...],
        BeforeValidator(_one_or_more, json_schema_input_type=str | tuple[str, ...]),
        AfterValidator(refuse_repeats),
    ] = ("default",)
    """Passes over the ONNX graph, in order, see `bench list`; default: those that are on for the
    target, none: only notes are removed from the file, as always."""
    measure: bool = False
    """For the target host: time files with fewer of the passes for this machine, as the section
    compare says, and ship the fastest where it is faster beyond the interval."""
    baselines: bool = True
    """Also export what comparisons hold the file against: what torch.onnx.export gives by itself,
    and a file without the passes that are for onnxruntime, for OpenVINO."""
    images: Annotated[int, Field(ge=1)] = 1000
    """Test images on which folding and parity are proven."""
    quantize: Quantize = "none"
    """Lower precision of a second file, made from the one in float32. int8: convolutions and matrix
    products in int8; int8_tables: the same, and what lies between them as tables, which onnxruntime
    computes faster on a CPU and other runtimes may not; float16: everything, for a GPU."""
    max_drop_points: Annotated[float, Field(ge=0, le=100)] = 0.5
    """Percentage points of accuracy that a lower precision may cost. As many nodes are in int8 as
    that allows on training images; a file that costs more is not benchmarked."""
    calibration_images: Positive = 512
    """Training images from which the ranges of tensors follow; at most half of all."""
    judged_images: Positive = 2000
    """Other training images, on which the drop is measured and nodes are chosen."""
