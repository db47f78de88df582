"""Explain a run: time, operations, bytes and error of each module, on several backends."""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foldbench.bench.analysis.explaining import by_module
from foldbench.bench.analysis.origins import GraphNode, Modules, Origin, trace_origins
from foldbench.bench.arrays import Floats
from foldbench.bench.config.backend_spec import load_backend, parse_spec
from foldbench.bench.errors import BenchError, ConfigError, ExportError, nearest, one_line
from foldbench.bench.images.preprocessing import preprocess
from foldbench.bench.measure.comparison import describe_job
from foldbench.bench.measure.contenders import ContenderSpec, Subject, contenders_of
from foldbench.bench.measure.evaluation import prepare_evaluation
from foldbench.bench.measure.profiling import profile_contenders
from foldbench.bench.measure.roofline import measure_copies, measure_rates
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import GIVEN, Artifact
from foldbench.bench.records.explanation import Explanation, ModuleFacts
from foldbench.bench.samples.timing import OperatorTime
from foldbench.bench.stages.measured import load_measured
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.workers.isolated import run_isolated
from foldbench.exporters.explaining import (
    NodeFacts,
    measure_errors,
    measure_nodes,
    optimised_nodes,
    read_nodes,
)

AS_WRITTEN = "unfolded"
"""What torch stands for: folding calls functions of inner modules from the outermost one."""
SHIPPED = ("folded", "optimized", GIVEN, AS_WRITTEN)
"""Variants that other backends stand for: the first that there is."""


@dataclass(frozen=True)
class _File:
    """An exported file whose nodes are known by module."""

    artifact: Artifact
    nodes: Sequence[GraphNode]
    owners: Mapping[str, Modules]


def explain_run(
    run: RunDirectory,
    contenders: Sequence[str],
    overrides: Sequence[str],
    paths: Paths,
    listener: ProgressListener,
) -> Explanation:
    """Profile `contenders` of a run by module; store the record in the run.

    Each is a backend, or a backend and a variant such as ``ort/int8``. Raises ConfigError for one
    that there is not, RunError or ExportError where there is no exported file to take apart.
    """
    measured = load_measured(run, overrides, paths, listener)
    checkpoint, config, threads = measured.checkpoint, measured.config, measured.threads
    subject = Subject(run.path, checkpoint, run.artifacts())
    specs = [_choose(subject, text) for text in contenders]
    batch_size = config.compare.batch_sizes[0]
    images = preprocess(measured.test.images[:batch_size], checkpoint.preprocessing)
    if len(images) < batch_size:
        images = np.resize(images, (batch_size, *images.shape[1:]))
    base = _base_file(run, subject.artifacts)
    fixed = base.artifact.fixed_batch
    if fixed not in (None, batch_size):
        raise ConfigError(
            f"{run.name}: its file runs at batch size {fixed} alone, not at {batch_size}: give "
            f"--batch-size {fixed}"
        )
    with run.locked(), prepare_evaluation(config.evaluate, measured.test) as (evaluation, _):
        profile = profile_contenders(
            run.name,
            specs,
            lambda spec: describe_job(subject, spec, evaluation, threads),
            [batch_size],
            threads,
            listener,
        )
        listener.note("taking the exported file apart, in float32 and in float64")
        costs = measure_nodes(run.path / base.artifact.path, images)
        facts = _facts(base, costs)
        flops = {one.module: one.flops for one in facts}
        files = {a.variant: a for a in subject.artifacts}
        explained = []
        for spec, found in zip(specs, profile.profiles, strict=True):
            artifact = files.get(spec.variant) if _runs_a_file(spec) else None
            origins = _origins(run, spec, artifact, base)
            explained.append(by_module(found, origins, flops))
        facts, error_of, missing = _with_errors(run, specs, files, base, facts, images)
        rates = _rates(threads, listener)
        result = Explanation(
            name=run.name,
            created=profile.created,
            threads=threads,
            batch_size=batch_size,
            by_node=not base.artifact.modules,
            modules=tuple(facts),
            contenders=tuple(explained),
            error_of=error_of,
            error_missing=missing,
            flops_per_s=rates[0] if rates else None,
            bytes_per_s=rates[1] if rates else None,
        )
        run.write_explanation(result)
    return result


def _choose(subject: Subject, text: str) -> ContenderSpec:
    """Return the contender on the CPU that `text` means."""
    backend, _, variant = text.partition("/")
    spec = parse_spec(backend)
    if spec.version is not None:
        load_backend(spec)
    rows = list(contenders_of(subject, backend, "cpu"))
    found = {row.variant: row for row in rows}
    usual = (AS_WRITTEN, *SHIPPED) if backend == "torch" else SHIPPED
    wanted = [variant] if variant else [*usual, *found]
    row = next((found[name] for name in wanted if name in found), None)
    if row is None:
        ways = [f"{backend}/{name}" for name in found]
        raise ConfigError(
            f"there is no contender {text!r}{nearest(text, ways)} (there are: {', '.join(ways)})"
        )
    return row


def _runs_a_file(spec: ContenderSpec) -> bool:
    return spec.path is not None and spec.path.suffix == ".onnx"


def _base_file(run: RunDirectory, artifacts: Sequence[Artifact]) -> _File:
    """Return the shipped file for any CPU, by whose nodes costs are counted."""
    found = {artifact.variant: artifact for artifact in artifacts}
    artifact = next((found[name] for name in SHIPPED if name in found), None)
    if artifact is None:
        raise ExportError(f"{run.name} has no exported file to take apart: bench export {run.name}")
    nodes = read_nodes(run.path / artifact.path)
    owners = artifact.modules or {
        value: (node.name or node.outputs[0],) for node in nodes for value in node.outputs
    }
    return _File(artifact, nodes, owners)


def _facts(base: _File, costs: Mapping[str, NodeFacts]) -> list[ModuleFacts]:
    """Return the modules in the order of the graph, with what their nodes cost together."""
    sums: dict[str, list[int]] = {}
    for node in base.nodes:
        cost = costs[node.outputs[0]]
        for module in base.owners.get(node.outputs[0], ())[:1]:
            found = sums.setdefault(module, [0, 0])
            found[0] += cost.flops
            found[1] += cost.size_bytes
    return [
        ModuleFacts(module=name, flops=flops, size_bytes=size)
        for name, (flops, size) in sums.items()
    ]


def _with_errors(
    run: RunDirectory,
    specs: Sequence[ContenderSpec],
    files: Mapping[str, Artifact],
    base: _File,
    facts: Sequence[ModuleFacts],
    images: Floats,
) -> tuple[list[ModuleFacts], str | None, str | None]:
    """Return the modules with the error of the last value of each, whose, or why there is none."""
    last = {
        module: value
        for node in base.nodes
        for value in node.outputs[:1]
        for module in base.owners.get(value, ())[:1]
    }
    chosen = [files[s.variant] for s in specs if s.variant in files and _runs_a_file(s)]
    artifact = chosen[0] if chosen else base.artifact
    path, exact = run.path / artifact.path, run.path / base.artifact.path
    try:
        errors = measure_errors(path, exact, images, list(last.values()))
    except BenchError as error:
        return list(facts), None, one_line(error)
    except Exception as error:  # whatever an operator trips over where its value is wanted
        return list(facts), None, f"{artifact.path} cannot be taken apart: {one_line(error)}"
    told = [one.model_copy(update={"error": errors.get(last[one.module])}) for one in facts]
    return told, artifact.variant, None


def _origins(
    run: RunDirectory, spec: ContenderSpec, artifact: Artifact | None, base: _File
) -> Callable[[OperatorTime], Origin]:
    """Return what says which modules an operator of a contender stands for."""
    if artifact is None:
        return lambda one: Origin(() if one.node is None else (one.node,))
    nodes, owners = base.nodes, base.owners
    if artifact.variant != base.artifact.variant:
        nodes = read_nodes(run.path / artifact.path)
        owners = artifact.modules or _carried(base, nodes)
    if spec.backend.partition(":")[0] == "ort":
        return _in_onnxruntime(optimised_nodes(run.path / artifact.path), nodes, owners)
    return _by_name(nodes, owners)


def _carried(base: _File, nodes: Sequence[GraphNode]) -> dict[str, Modules]:
    """Return the modules of the values of another file that was made from the base."""
    origins = trace_origins(base.nodes, base.owners, nodes)
    return {
        value: origin.modules
        for node, origin in zip(nodes, origins, strict=True)
        if origin.modules
        for value in node.outputs
    }


_NUMBERED = re.compile(r"(?P<operator>\w+)_(?P<number>\d+)")
"""How onnxruntime's profiler calls a node without a name."""


def _in_onnxruntime(
    optimised: Sequence[GraphNode], nodes: Sequence[GraphNode], owners: Mapping[str, Modules]
) -> Callable[[OperatorTime], Origin]:
    """Nodes without a name are taken in the order of their numbers, type by type."""
    origins = trace_origins(nodes, owners, optimised)
    named: dict[str, Origin] = {}
    unnamed: dict[str, list[Origin]] = defaultdict(list)
    for node, origin in zip(optimised, origins, strict=True):
        if node.name:
            named[node.name] = origin
        else:
            unnamed[node.operator].append(origin)
    seen: dict[str, dict[str, Origin]] = defaultdict(dict)

    def origin_of(one: OperatorTime) -> Origin:
        name = one.node or ""
        if name in named:
            return named[name]
        match = _NUMBERED.fullmatch(name)
        kind = match["operator"] if match else ""
        known = seen[kind]
        if match and name not in known and len(known) < len(unnamed[kind]):
            known[name] = unnamed[kind][len(known)]
        return known.get(name, Origin(()))

    return origin_of


def _by_name(
    nodes: Sequence[GraphNode], owners: Mapping[str, Modules]
) -> Callable[[OperatorTime], Origin]:
    """What a runtime says by the names of the file's nodes, or of their values."""
    modules: dict[str, Modules] = dict(owners)
    for node in nodes:
        if node.outputs and node.outputs[0] in owners:
            modules[node.name] = owners[node.outputs[0]]

    def origin_of(one: OperatorTime) -> Origin:
        names = one.fused or ((one.node,) if one.node else ())
        found = dict.fromkeys(m for name in names for m in modules.get(name, ()))
        is_put_in = one.operator in ("Reorder", "Convert")
        return Origin(tuple(found)[:1] if is_put_in else tuple(found), is_put_in)

    return origin_of


def _rates(threads: int, listener: ProgressListener) -> tuple[float, float] | None:
    listener.note("measuring this machine's peak throughput (matrix products, copies)")
    try:
        return run_isolated(_measure_rates, threads)
    except (BenchError, RuntimeError, MemoryError) as error:
        listener.note(f"peak throughput is left out: {one_line(error)}")
        return None


def _measure_rates(threads: int) -> tuple[float, float]:
    import torch

    torch.set_num_threads(threads)
    (product,) = measure_rates([("cpu", "float32")], threads, time.perf_counter)
    (copy,) = measure_copies(["cpu"], threads, time.perf_counter)
    return 2 * product.size**3 / min(product.samples_s), 2 * copy.size_bytes / min(copy.samples_s)
