"""Somebody's .onnx file, faster: the same inputs and outputs, held against the file as it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from foldbench.bench.arrays import Floats
from foldbench.bench.errors import ExportError, one_line
from foldbench.bench.host_files.marks import HOST
from foldbench.bench.records import FoldReport, Parity, PassReport, Target
from foldbench.bench.store.files import file_sha256
from foldbench.exporters.export import opset_of
from foldbench.exporters.onnx_export import Rewriting
from foldbench.exporters.onnx_file import refuse_other_files
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.onnx_store import LEAST_IR_VERSION, external_files, opened_onnx, write_onnx
from foldbench.exporters.onnx_truth import run_references
from foldbench.exporters.parity import ParityInput, check_outputs
from foldbench.exporters.rewriting import choose_passes

_RANDOM_IMAGES = 8
_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")


@dataclass(frozen=True)
class Optimized:
    """What `optimize_onnx` made."""

    path: Path
    given: Path
    target: Target
    sha256: str
    size_bytes: int
    given_size_bytes: int
    node_count: int
    given_node_count: int
    opset: int
    passes: tuple[PassReport, ...]
    fold: FoldReport
    parity: tuple[tuple[str, Parity], ...]
    """By the name of an output, for all that hold numbers."""
    random_images: bool
    """Whether it was proven on random numbers, for want of images."""

    @property
    def changed(self) -> int:
        """How many places passes rewrote, besides notes that were removed."""
        return sum(p.changed for p in self.passes if p.name != "strip_metadata")


def optimize_onnx(
    in_path: Path,
    out_path: Path,
    target: Target = "cpu",
    images: Floats | None = None,
    *,
    input_shape: Sequence[int] | None = None,
    passes: Sequence[str] = ("default",),
) -> Optimized:
    """Write the network at `in_path` to `out_path` as it runs faster on `target`.

    Names, outputs and number types stay, so that it can take the place of the other. `images` are
    inputs (n, ...) float32 as the network takes them, on which every output is held against that of
    the given file; random numbers in their place where it is None, of `input_shape` (without the
    batch) where the file leaves it open. Raises ExportError for a file that cannot be read or run,
    and for one whose answers would change; ConfigError for unknown passes. Nothing is written then.
    """
    refuse_other_files(in_path)
    with opened_onnx(in_path) as given:
        _refuse(in_path, given, out_path)
        sizes = [file.stat().st_size for file in (in_path, *external_files(given, in_path))]
        _fix_constants(given)
        form = _read_form(in_path, given, input_shape)
        x = form.random() if images is None else np.asarray(images, np.float32)
        references = run_references(given, x, form.outputs, batch=form.batch)
        proof = _Proof(dict(zip(form.outputs, references, strict=True)))
        made = Rewriting(given, proof.judge)
        made.apply(choose_passes(passes, target, fold_bn=True))
        parity = proof.of(made.model)
        for name, found in parity:
            if not found.passed:
                raise ExportError(f"{in_path}: its output {name} would change: {found.reason}")
        made.check()
        files = write_onnx(made.model, out_path)
        return Optimized(
            path=out_path,
            given=in_path,
            target=target,
            sha256=file_sha256(out_path),
            size_bytes=sum(file.stat().st_size for file in files),
            given_size_bytes=sum(sizes),
            node_count=len(made.model.graph.node),
            given_node_count=len(given.graph.node),
            opset=opset_of(given),
            passes=made.passes,
            fold=made.fold,
            parity=parity,
            random_images=images is None,
        )


@dataclass(frozen=True)
class _Proof:
    """What a network has to answer, by the name of an output."""

    references: Mapping[str, Sequence[ParityInput]]

    def of(self, model: ModelProto) -> tuple[tuple[str, Parity], ...]:
        """Return the verdict on each output of `model`."""
        return tuple(
            (name, check_outputs(model, inputs, name)) for name, inputs in self.references.items()
        )

    def judge(self, model: ModelProto) -> Parity:
        """Return the verdict on all outputs: that of the first that fails, if one does."""
        verdicts = [parity for _, parity in self.of(model)]
        return next((parity for parity in verdicts if not parity.passed), verdicts[0])


def _refuse(in_path: Path, given: ModelProto, out_path: Path) -> None:
    if out_path.exists() and out_path.samefile(in_path):
        raise ExportError(f"{out_path} is the file that is read: give another one to write to")
    if any(entry.key == HOST for entry in given.metadata_props):
        raise ExportError(
            f"{in_path} was made for one machine alone (--target host): give the file that it was "
            "made from"
        )


def _fix_constants(model: ModelProto) -> None:
    """Have initializers be no inputs, as which a caller could give them another value.

    Files before IR version 4 list all of them; nothing can be computed in advance then.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, LEAST_IR_VERSION)


@dataclass(frozen=True)
class _Form:
    """What a network takes and gives, as onnxruntime has it."""

    batch: int | None
    shape: tuple[int, ...]
    """Of one input, without the batch."""
    outputs: list[str]
    """Those that hold numbers."""

    def random(self) -> Floats:
        """Return random inputs (n, ...) float32."""
        count = self.batch or _RANDOM_IMAGES
        return np.random.default_rng(1).standard_normal((count, *self.shape)).astype(np.float32)


def _read_form(path: Path, given: ModelProto, asked: Sequence[int] | None) -> _Form:
    """Return the form of the network; ExportError unless it takes one input of numbers."""
    try:
        session = open_session(given)
    except Exception as error:  # onnxruntime raises bare Exceptions of its own
        raise ExportError(f"{path}: onnxruntime cannot open it: {one_line(error)}") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in _FLOATS or len(inputs[0].shape) < 2:
        told = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs)
        raise ExportError(
            f"{path}: it takes {told or 'no input'}, and one input of numbers in float32 or "
            "float16 (N, ...) is needed"
        )
    batch, *sizes = inputs[0].shape
    if asked is None and not all(isinstance(size, int) for size in sizes):
        raise ExportError(
            f"{path}: its input {inputs[0].name} {inputs[0].shape} leaves sizes open: give them "
            "with --input CxHxW, such as --input 3x224x224"
        )
    outputs = [value.name for value in session.get_outputs() if value.type in _FLOATS]
    if not outputs:
        raise ExportError(f"{path}: none of its outputs holds numbers in float32 or float16")
    return _Form(
        batch=batch if isinstance(batch, int) else None,
        shape=tuple(asked if asked is not None else sizes),
        outputs=outputs,
    )
