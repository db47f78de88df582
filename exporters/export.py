"""A trained network as one checked .onnx file, with its provenance inside."""

import hashlib
import inspect
import json
import logging
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx_ir.passes.common import NameFixPass
from torch import nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

import foldbench
from foldbench.bench import units
from foldbench.bench.analysis.logits import measure_agreement
from foldbench.bench.arrays import Floats
from foldbench.bench.errors import ExportError, one_line, place_of, root_cause
from foldbench.bench.host_files.marks import FIXED_BATCH, HOST, OPERATORS, OPTIMIZATION
from foldbench.bench.records import (
    GIVEN,
    PLAIN,
    Artifact,
    Checkpoint,
    Folder,
    FoldReport,
    Parity,
    PassReport,
    Target,
    Variant,
)
from foldbench.bench.store.files import artifact_path, file_sha256, json_sha256
from foldbench.exporters.folding.fold import count_batchnorms, fold_linear
from foldbench.exporters.module_names import module_names
from foldbench.exporters.onnx_store import is_slim, write_onnx
from foldbench.exporters.origins import host_origins, library_versions, sources_sha256
from foldbench.exporters.parity import Judge, ParityInput, run_module, run_reference
from foldbench.exporters.rewriting import OTHER_RUNTIMES, apply_passes, choose_passes

EXPORTER = "torch.onnx.export(dynamo=True)"
_TRACED_BATCH = 2
_PATHS = ("from", "source", "weights")
"""Keys of the section model that may hold a path."""
_KEPT = (HOST, OPTIMIZATION, OPERATORS, FIXED_BATCH)
"""Metadata that says how the file is to be run."""


@dataclass(frozen=True)
class ExportOptions:
    """How to export."""

    fold_bn: bool
    opset: int
    passes: tuple[str, ...]
    """Names, in order, as `exporters.rewriting.choose_passes` returns them."""
    target: Target = "cpu"
    plain: bool = False
    """As torch.onnx.export does it by itself: its own optimizer on, whatever `fold_bn` says."""
    name: str | None = None
    """What the result is called, where it is a step on the way to another one."""
    ladder_step: int | None = None
    batchnorm_alone: bool = False
    """Whether folding stops at BatchNorm and other scales: a step on the way to all of it."""
    given: bool = False
    """From an .onnx file that somebody gave (`exporters.onnx_export`), in place of a module."""

    @property
    def variant(self) -> Variant:
        """What the result is called."""
        if self.name is not None:
            return self.name
        folded = "optimized" if self.given else "folded"
        folded = folded if self.fold_bn else "unfolded"
        return folded if self.target == "cpu" else f"{folded}.{self.target}"


def plain_options(options: ExportOptions) -> ExportOptions:
    """Return how to export what torch.onnx.export gives by itself; it is for any target."""
    return replace(
        options,
        fold_bn=False,
        plain=True,
        passes=options.passes[:1],
        target="cpu",
        name=PLAIN,
        ladder_step=0,
    )


def plan_baselines(
    options: ExportOptions, asked: Sequence[str], shipped: Artifact
) -> tuple[ExportOptions, ...]:
    """Return what to hold `shipped` against, which was made with `options`.

    What there is without foldbench, and a file for each runtime whose passes are others than those
    that changed something in `shipped`. `asked` are the passes as the configuration has them.
    """
    others = [] if options.given else [plain_options(options)]
    if options.target == "cpu":
        effective = {done.name for done in shipped.passes if done.changed}
        for target in OTHER_RUNTIMES:
            passes = choose_passes(asked, target, options.fold_bn)
            if effective - set(passes):
                others.append(replace(options, passes=passes, target=target))
    return tuple(others)


def given_options(options: ExportOptions) -> ExportOptions:
    """Return how to record the file as it was given, beside what `options` make of it."""
    return replace(options, fold_bn=False, passes=(), target="cpu", name=GIVEN, ladder_step=None)


def hash_inputs(checkpoint: Checkpoint, images: Floats, options: ExportOptions) -> str:
    """Return the sha256 of everything that the artifact and its proofs follow from."""
    return json_sha256(
        {
            "checkpoint": checkpoint.sha256,
            "images": hashlib.sha256(np.ascontiguousarray(images).data).hexdigest(),
            "options": asdict(options),
            "sources": sources_sha256(),
            "versions": library_versions(),
            "host": host_origins() if options.target == "host" else None,
        }
    )


def export_checkpoint(
    module: nn.Module,
    checkpoint: Checkpoint,
    folder: Path,
    images: Floats,
    options: ExportOptions,
    reference: Sequence[ParityInput] | None = None,
) -> Artifact:
    """Export `module`, the network of `checkpoint` in eval mode, into ``folder/artifacts``.

    `images` are preprocessed test images (n, C, H, W) float32 on which folding and parity are
    proven. `reference` is what `run_reference` gives for them; None computes it. The file is
    written even when parity fails; its record then says so, and it is not benchmarked. Raises
    ExportError when torch cannot export the network.
    """
    started = time.perf_counter()
    example = images[:_TRACED_BATCH]
    if len(example) < _TRACED_BATCH:
        example = np.repeat(example, _TRACED_BATCH, axis=0)
    network, fold = _fold(module, images, example, options)
    judge = Judge(run_reference(module, images) if reference is None else reference)
    exported, how = _export_faithfully(network, example, options, judge)
    model, passes = apply_passes(exported, options.passes, judge)
    passes = (*how, *passes)
    describe_model(model, checkpoint, options.variant, EXPORTER)
    check_graph(model)
    parity = _explain_batch(_judge_fold(judge(model), fold))
    path = artifact_path(folder, checkpoint.config_name, options.variant)
    files = write_onnx(model, path)
    return Artifact(
        checkpoint_sha256=checkpoint.sha256,
        inputs_sha256=hash_inputs(checkpoint, images, options),
        variant=options.variant,
        target=options.target,
        path=path.relative_to(folder).as_posix(),
        sha256=file_sha256(path),
        size_bytes=sum(file.stat().st_size for file in files),
        opset=opset_of(model),
        exporter=EXPORTER,
        node_count=len(model.graph.node),
        batchnorm_nodes=count_batchnorm_nodes(model),
        folded_by=_who_folded(fold, count_batchnorm_nodes(exported), passes),
        fold=fold,
        passes=passes,
        ladder_step=options.ladder_step,
        parity=parity,
        export_s=time.perf_counter() - started,
        modules=module_names(exported, model),
    )


def check_graph(model: onnx.ModelProto) -> None:
    """Raise ExportError where onnx.checker refuses `model`, types and shapes included."""
    if is_slim(model):  # it is above 2 GiB, more than shape inference takes
        return
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # shape inference raises a kind of its own
        raise ExportError(
            f"onnx.checker refuses the exported graph: {one_line(root_cause(error))}"
        ) from error


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators in `model`."""
    return next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))


def count_batchnorm_nodes(model: onnx.ModelProto) -> int:
    """Return the number of BatchNormalization nodes in the graph and its functions."""
    nodes = [*model.graph.node, *(node for f in model.functions for node in f.node)]
    return Counter(node.op_type for node in nodes)["BatchNormalization"]


def _fold(
    module: nn.Module, images: Floats, example: Floats, options: ExportOptions
) -> tuple[nn.Module, FoldReport]:
    if not options.fold_bn:
        count = count_batchnorms(module, torch.from_numpy(example))
        report = FoldReport(batchnorms_before=count, batchnorms_after=count, folded=(), skipped=())
        return module, report
    folded, report = fold_linear(module, torch.from_numpy(example), options.batchnorm_alone)
    agreement = measure_agreement(run_module(module, images), run_module(folded, images))
    return folded, report.model_copy(update={"agreement": agreement})


def _judge_fold(parity: Parity, fold: FoldReport) -> Parity:
    """Return `parity`, failed where the folded network itself is not the unfolded one in torch.

    Both may be off by what the file is allowed to be on images.
    """
    allowed = 2 * max((c.tolerance for c in parity.cases if c.inputs == "images"), default=0.0)
    if fold.agreement is None or not parity.cases or fold.agreement.max_rel_difference <= allowed:
        return parity
    reason = (
        "folded and unfolded network differ in torch by "
        f"{units.error(fold.agreement.max_rel_difference)} of the largest logit; "
        f"allowed {units.error(allowed)}"
    )
    return parity.model_copy(update={"passed": False, "reason": parity.reason or reason})


def _who_folded(
    fold: FoldReport, exported_nodes: int, passes: tuple[PassReport, ...]
) -> tuple[Folder, ...]:
    who: list[Folder] = []
    if fold.folded or fold.others or any(p.changed for p in passes if p.name == "fold_linear"):
        who.append("foldbench")
    if exported_nodes < fold.batchnorms_after:
        who.append("exporter")
    return tuple(who)


def _export_faithfully(
    network: nn.Module, example: Floats, options: ExportOptions, judge: Judge
) -> tuple[onnx.ModelProto, tuple[PassReport, ...]]:
    """Return the exported graph, and how it was exported where that was not as usual.

    torch's optimizer takes a small constant for zero, and its usual capture takes ``len(x)`` for a
    constant; where the outputs are wrong so, both are tried without. What
    `options.plain` asks for is what torch gives as usual.
    """
    usual = to_onnx(network, example, options)
    if options.plain or judge(usual).passed:
        return usual, ()
    for optimize, strict, detail in _OTHER_WAYS:
        with suppress(ExportError):
            other = to_onnx(network, example, options, optimize, strict)
            if judge(other).passed:
                return other, (PassReport(name="exporter", changed=0, detail=detail),)
    return usual, ()


_OTHER_WAYS = (
    (False, False, "without torch's optimizer, with which the outputs were wrong"),
    (None, True, "captured by torch.export in strict mode, without which the outputs were wrong"),
)


def _explain_batch(parity: Parity) -> Parity:
    """Return `parity` with what to do where a graph runs at the batch size of its trace alone."""
    if parity.passed or any(case.batch_size != _TRACED_BATCH for case in parity.cases):
        return parity
    hint = (
        f"{parity.reason}: if it runs at batch size {_TRACED_BATCH} alone, forward takes the batch "
        "size for a constant: use x.shape[0] in place of len(x), int(...) or .item()"
    )
    return parity.model_copy(update={"reason": hint})


def to_onnx(
    network: nn.Module,
    example: Floats,
    options: ExportOptions,
    optimize: bool | None = None,
    strict: bool = False,
) -> onnx.ModelProto:
    """Export with torch's current exporter, dynamic in the batch; `strict` is torch.export's.

    Its optimizer folds BatchNorm, too: it is off where that is to stay and `optimize` is None.
    """
    if optimize is None:
        optimize = options.fold_bn or options.plain
    images, shapes = (torch.from_numpy(example),), _dynamic_batch(network)
    captured: Any = network
    try:
        with _quiet(), torch.no_grad():  # with gradients, attention is captured in other layouts
            if strict:
                captured = torch.export.export(network, images, dynamic_shapes=shapes, strict=True)
            program = torch.onnx.export(
                captured,
                () if strict else images,
                dynamo=True,
                opset_version=options.opset,
                input_names=["input"],
                output_names=["logits"],
                dynamic_shapes=None if strict else shapes,
                optimize=optimize,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter wraps anything the network's own code can raise
        raise ExportError(
            f"torch could not export the network with a dynamic batch: {_explain(error)}"
        ) from error
    if program is None:
        raise ExportError("torch exported nothing: it needs dynamo=True, torch 2.9 or newer")
    NameFixPass()(program.model)  # torch gives a buffer's name to other values, too
    return program.model_proto


def _explain(error: Exception) -> str:
    cause = root_cause(error)
    if not isinstance(cause, GuardOnDataDependentSymNode):
        return one_line(cause)
    return (
        f"it decides by the values of a tensor{place_of(cause)}, and a graph is the same for all "
        "images: use torch.where in place of if, int(...) and .item()"
    )


def _dynamic_batch(network: nn.Module) -> tuple[Any, ...]:
    """Return which sizes of the input vary, in the form that the signature of forward asks for."""
    given = {0: torch.export.Dim("batch")}
    first = None
    with suppress(ValueError):  # TorchScript tells none
        first = next(iter(inspect.signature(network.forward).parameters.values()), None)
    takes_any_number = first is not None and first.kind is inspect.Parameter.VAR_POSITIONAL
    return ((given,),) if takes_any_number else (given,)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings and print-outs; what matters is checked on its result."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration without where data and weights lay on the machine that trained."""
    data = {k: v for k, v in config.get("data", {}).items() if k != "path"}
    model = {
        key: Path(value).name
        if key in ("from", "source", "weights") and isinstance(value, str)
        else value
        for key, value in config.get("model", {}).items()
    }
    transfer = config.get("transfer")
    if transfer is not None:
        transfer = {**transfer, "weights": Path(transfer["weights"]).name}
    return {**config, "model": model, "data": data, "transfer": transfer}


def describe_model(
    model: onnx.ModelProto, checkpoint: Checkpoint, variant: Variant, exporter: str
) -> None:
    """Write into the model where it comes from and how to feed it."""
    model.producer_name = "foldbench"
    model.producer_version = foldbench.__version__
    facts = {
        "checkpoint_sha256": checkpoint.sha256,
        "config": json.dumps(_without_paths(checkpoint.config)),
        "model": checkpoint.network,
        "variant": variant,
        "exporter": exporter,
        "versions": json.dumps(library_versions()),
        "classes": json.dumps(checkpoint.classes),
        "preprocessing": checkpoint.preprocessing.model_dump_json(),
    }
    kept = {p.key: p.value for p in model.metadata_props if p.key in _KEPT}
    del model.metadata_props[:]
    for key, value in kept.items():
        model.metadata_props.add(key=key, value=value)
    for key, value in facts.items():
        model.metadata_props.add(key=f"foldbench.{key}", value=value)
