"""From somebody's .onnx file to the ones that are compared: passes over its graph, held against it.

There is no module: the truth is the given graph in float64 (`exporters.onnx_truth`). The file as it
was given is an artifact, too, called ``given``; what passes make of it is called ``optimized``.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, inliner

from foldbench.bench.analysis.logits import measure_agreement
from foldbench.bench.arrays import Floats
from foldbench.bench.errors import ExportError, one_line
from foldbench.bench.host_files.marks import FIXED_BATCH
from foldbench.bench.records import (
    GIVEN,
    Artifact,
    Checkpoint,
    Fold,
    FoldReport,
    PassReport,
    Skip,
)
from foldbench.bench.store.files import artifact_path, file_sha256
from foldbench.exporters.export import (
    ExportOptions,
    check_graph,
    count_batchnorm_nodes,
    describe_model,
    hash_inputs,
    opset_of,
)
from foldbench.exporters.module_names import module_names
from foldbench.exporters.onnx_double import run_in_onnxruntime
from foldbench.exporters.onnx_file import read_precision
from foldbench.exporters.onnx_store import (
    copy_of,
    external_files,
    nodes_of,
    opened_onnx,
    write_onnx,
)
from foldbench.exporters.onnx_truth import run_reference_onnx
from foldbench.exporters.parity import Judge, ParityInput
from foldbench.exporters.rewriting import ParityCheck, apply_passes

_FOLDING = "fold_batchnorm"
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add")
_BATCH = 100


def export_onnx_subject(
    given: Path,
    checkpoint: Checkpoint,
    folder: Path,
    images: Floats,
    options: ExportOptions,
    reference: Sequence[ParityInput] | None = None,
) -> Artifact:
    """Make what `options` say of `given`, and write it into ``folder/artifacts``.

    `given` is what `adopt_onnx` wrote into the run's `folder`; as the variant ``given`` it is the
    artifact itself. `images` are preprocessed test images (n, C, H, W) float32 for the parity;
    `reference` is what `read_reference` gives for them, None computes it. The opset stays that of
    the file. The file is written even when parity fails; its record says so.
    Raises ExportError for a file that cannot be read or run.
    """
    started = time.perf_counter()
    with opened_onnx(given) as model:
        batch = fixed_batch(model)
        inputs = run_reference_onnx(model, images, batch=batch) if reference is None else reference
        judge = Judge(inputs)
        made = Rewriting(model, judge)
        if options.name != GIVEN:
            made.apply(options.passes)
            made.measure_folding(images, batch)
            describe_model(made.model, checkpoint, options.variant, _exporter(model))
            made.check()
            path = artifact_path(folder, checkpoint.config_name, options.variant)
            files = write_onnx(made.model, path)
        else:
            path, files = given, (given, *external_files(model, given))
        return Artifact(
            checkpoint_sha256=checkpoint.sha256,
            inputs_sha256=hash_inputs(checkpoint, images, options),
            variant=options.variant,
            target=options.target,
            path=path.relative_to(folder).as_posix(),
            sha256=file_sha256(path),
            size_bytes=sum(file.stat().st_size for file in files),
            opset=opset_of(made.model),
            exporter=_exporter(model),
            node_count=len(made.model.graph.node),
            batchnorm_nodes=count_batchnorm_nodes(made.model),
            folded_by=("foldbench",) if made.fold.folded else (),
            fold=made.fold,
            passes=made.passes,
            ladder_step=options.ladder_step,
            parity=judge(made.model),
            precision=read_precision(model),
            fixed_batch=batch,
            export_s=time.perf_counter() - started,
            modules=module_names(model, made.model),
        )


def read_reference(given: Path, images: Floats) -> tuple[ParityInput, ...]:
    """Return what an adopted file answers, exactly, to `images` (n, C, H, W) float32 and others.

    Raises ExportError for a file that cannot be read or run.
    """
    with opened_onnx(given) as model:
        return run_reference_onnx(model, images, batch=fixed_batch(model))


def fixed_batch(model: ModelProto) -> int | None:
    """Return the only batch size that an adopted `model` runs at; None where any does."""
    facts = {entry.key: entry.value for entry in model.metadata_props}
    return int(facts[FIXED_BATCH]) if FIXED_BATCH in facts else None


def _exporter(model: ModelProto) -> str:
    producer = " ".join(filter(None, (model.producer_name, model.producer_version)))
    return f"{producer or 'an unknown exporter'} (given)"


class Rewriting:
    """What passes make of a given model, and what they did."""

    def __init__(self, given: ModelProto, judge: ParityCheck) -> None:
        self._given, self._judge = given, judge
        self.model = self._folded = given
        self.passes: tuple[PassReport, ...] = ()
        count = count_batchnorm_nodes(given)
        self.fold = FoldReport(
            batchnorms_before=count, batchnorms_after=count, folded=(), skipped=()
        )

    def apply(self, names: Sequence[str]) -> None:
        """Apply the passes `names`, and report BatchNorm by BatchNorm what became of it."""
        opened = inline(self._given)
        until = names.index(_FOLDING) + 1 if _FOLDING in names else 0
        folded, first = apply_passes(opened, names[:until], self._judge)
        if until:
            self.fold = _report_folding(opened, folded, first[-1])
        self._folded = folded
        made, second = apply_passes(folded, names[until:], self._judge)
        self.model = copy_of(made)
        self.passes = (*first, *second)

    def measure_folding(self, images: Floats, batch: int | None) -> None:
        """Add to the report how close the folded network is to the given one on `images`."""
        if self.fold.folded:
            before, after = (
                run_model(model, images, batch) for model in (self._given, self._folded)
            )
            agreement = measure_agreement(before, after)
            self.fold = self.fold.model_copy(update={"agreement": agreement})

    def check(self) -> None:
        """Raise ExportError where onnx.checker refuses what was made, unless it does the given."""
        try:
            check_graph(self.model)
        except ExportError:
            try:
                check_graph(self._given)
            except ExportError:
                return
            raise


def run_model(model: ModelProto, images: Floats, batch: int | None) -> Floats:
    """Return the logits (N, classes) float32 of `images` (N, C, H, W), in onnxruntime."""
    size = batch or _BATCH
    run = run_in_onnxruntime(model, [model.graph.output[0].name])
    parts = []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        if batch is not None:  # the last one is filled up
            part = part[np.arange(batch) % len(part)]
        parts.append(run(part)[0])
    return np.concatenate(parts)[: len(images)].astype(np.float32, copy=False)


def inline(model: ModelProto) -> ModelProto:
    """Return `model` with its functions written out where they are called."""
    if not model.functions:
        return model
    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # onnx raises kinds of its own
        raise ExportError(f"its functions cannot be written out: {one_line(error)}") from error


def _report_folding(before: ModelProto, after: ModelProto, done: PassReport) -> FoldReport:
    """Return for each BatchNormalization whether it is gone, and into what it went."""
    left = {n.output[0] for n in nodes_of(after) if n.op_type == "BatchNormalization"}
    makers = {output: node for node in nodes_of(before) for output in node.output}
    readers = {read: node for node in nodes_of(before) for read in node.input}
    folded, skipped = [], []
    for node in nodes_of(before):
        if node.op_type != "BatchNormalization":
            continue
        name = node.name or node.output[0]
        if node.output[0] in left:
            skipped.append(Skip(module=name, reason=done.detail))
        else:
            maker = makers.get(node.input[0])
            before_it = maker if maker is not None and maker.op_type in _LAYERS else None
            layer = before_it or readers.get(node.output[0])
            folded.append(Fold(layer=(layer and layer.name) or node.input[0], batchnorm=name))
    return FoldReport(
        batchnorms_before=len(folded) + len(skipped),
        batchnorms_after=len(skipped),
        folded=tuple(folded),
        skipped=tuple(skipped),
    )
