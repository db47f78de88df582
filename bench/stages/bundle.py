"""Bundle a run: one file that measures its networks on a machine with numpy and a runtime alone."""

import ast
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import foldbench
from foldbench.bench.arrays import Floats
from foldbench.bench.carried import unpacking
from foldbench.bench.errors import RunError
from foldbench.bench.images.classes import match_classes
from foldbench.bench.images.loading import load_data
from foldbench.bench.images.normalization import normalize
from foldbench.bench.measure.contenders import ContenderSpec, Subject, contenders_of
from foldbench.bench.measure.evaluation import prepare_evaluation
from foldbench.bench.measure.resume import now
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import FLOAT64, Device, Run
from foldbench.bench.stages.settings import settings_of
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.store.files import write_with
from foldbench.bench.workers.isolated import run_isolated
from foldbench.bench.workers.protocol import Job

IMAGES = 512
"""Of the test split, at the most."""
_BATCH = 64
_ENTRIES = ("foldbench.bench.carried.main", "foldbench.bench.workers.child")
"""What a bundle's own process starts with, and what those that it starts do."""
_BACKENDS = ("ort", "openvino")
_LEFT_OUT = {"foldbench.bench.workers.torch_module", "foldbench.bench.timing.loadgen"}
"""What only torch or LoadGen needs."""
_SAME_SETTINGS = ("batch_sizes", "rounds", "budget_s", "processes", "calls", "block_s", "settle_s")


@dataclass(frozen=True)
class Bundled:
    """What was written."""

    path: Path
    rows: tuple[str, ...]
    left_out: tuple[str, ...]
    """Rows that are for another machine or did not pass their checks, with the reasons."""
    images: int


def bundle_run(
    run: RunDirectory,
    devices: Sequence[Device],
    target: Path,
    overrides: Sequence[str],
    paths: Paths,
    listener: ProgressListener,
) -> Bundled:
    """Write the run's exported files as a bundle to `target`.

    Files that are for this machine alone are left out. Raises RunError where nothing is exported.
    """
    checkpoint = run.checkpoint()
    config = settings_of(run, checkpoint, overrides)
    data = load_data(config.data, paths.cache, listener, needs_train=False)
    data = match_classes(checkpoint.classes, data, listener, checkpoint.class_ids)
    artifacts = tuple(a for a in run.artifacts() if a.target != "host")
    subject = Subject(run.path, checkpoint, artifacts)
    specs = [s for d in devices for b in _BACKENDS for s in contenders_of(subject, b, d)]
    reasons = {spec: _refuse(spec) for spec in specs}
    kept = [spec for spec, reason in reasons.items() if reason is None]
    lost = [f"{spec.name}: {reason}" for spec, reason in reasons.items() if reason is not None]
    lost += [f"{a.variant}: for this machine alone" for a in run.artifacts() if a.target == "host"]
    if not kept:
        raise RunError(f"{run.name}: nothing to bundle: {'; '.join(lost)}")
    with run.locked(), prepare_evaluation(config.evaluate, data.test) as (evaluation, _):
        whole = np.load(evaluation.images, mmap_mode="r", allow_pickle=False)
        count = min(IMAGES, evaluation.count)
        images = np.ascontiguousarray(whole[:count])
        labels = None if evaluation.labels is None else evaluation.labels[:count]
        mean, std = checkpoint.preprocessing.mean, checkpoint.preprocessing.std
        given = subject.is_file_alone
        way = "ort/given" if given else _baseline_of(kept)
        job = Job(
            *("torch", "cpu", 1, "given" if given else "unfolded", run.path),
            run.path / checkpoint.weights,
            *(evaluation.images, mean, std, len(checkpoint.classes), _BATCH),
            fixed_batch=kept[0].fixed_batch if given else None,
        )
        listener.note(f"computing the answers to {count} images in float64")
        expected = run_isolated(compute_truth, job, count)
        digest = hashlib.sha256(images.data)
        if labels is not None:
            digest.update(np.ascontiguousarray(labels).data)
        compare = config.compare
        record = Run(
            name=run.name,
            created=now(),
            config=config.model_dump(mode="json"),
            environment={},
            command=(),
            checkpoint=checkpoint,
            artifacts=artifacts,
            data=data.info,
            evaluation_protocol=evaluation.protocol,
            evaluation_sha256=digest.hexdigest(),
            labels=None if labels is None else tuple(labels.tolist()),
            rounds=compare.rounds,
            budget_s=compare.budget_s,
            reference=FLOAT64,
            baseline=way,
            measurements=(),
        )
    files = {_name_of(spec): spec.path for spec in kept if spec.path}
    again = [s for s in kept if s.way == way and s.device == "cpu"]
    manifest = {
        "title": f"{run.name} ({checkpoint.network})",
        "file": target.name,
        "protocol": evaluation.protocol,
        "settings": {
            **{name: getattr(compare, name) for name in _SAME_SETTINGS},
            "warm_up_s": compare.warm_up_s,
            "seed": compare.seed,
        },
        "mean": mean,
        "std": std,
        "classes": len(checkpoint.classes),
        "batch_size": _BATCH,
        "rows": [_describe(s) for s in kept] + [_describe(s, " again") for s in again],
        "record": record.model_dump(mode="json"),
    }
    parts: dict[str, bytes] = {
        "manifest.json": json.dumps(manifest).encode(),
        "images.npy": _npy(images),
        "expected.npy": _npy(expected),
        **({} if labels is None else {"labels.npy": _npy(labels)}),
        **{name: path.read_bytes() for name, path in files.items()},
        **dict(_code()),
    }
    write_with(target, lambda path: _write(path, parts))
    return Bundled(target, tuple(spec.name for spec in kept), tuple(lost), count)


def compute_truth(job: Job, count: int) -> npt.NDArray[np.float64]:
    """Return (count, classes) logits of the network in float64; runs in a process of its own."""
    batches = _batches(job, count)
    if job.variant == "given":
        from foldbench.exporters.onnx_truth import answer_in_float64

        return answer_in_float64(job.path, list(batches))[:count]
    import torch

    from foldbench.bench.workers.torch_module import build_module

    module = build_module(job).double()
    with torch.inference_mode():
        parts = [module(torch.from_numpy(x).double()).numpy().copy() for x in batches]
    found: npt.NDArray[np.float64] = np.concatenate(parts).astype(np.float64)
    return found


def _batches(job: Job, count: int) -> Iterator[Floats]:
    """Yield network inputs; the last batch is filled up where the file takes no smaller one."""
    images = np.load(job.images, mmap_mode="r", allow_pickle=False)
    size = job.fixed_batch or job.batch_size
    for start in range(0, count, size):
        rows = np.arange(start, min(start + size, count))
        filled = rows if job.fixed_batch is None else np.resize(rows, size)
        yield normalize(images[filled], job.mean, job.std)


def _refuse(spec: ContenderSpec) -> str | None:
    """Return why a bundle does not carry the row; None where it does."""
    if spec.status != "ok" or spec.path is None:
        return spec.reason or "it is no file"
    if spec.path.stat().st_size != spec.size_bytes:
        return "its weights lie in a file beside it, which a bundle does not carry"
    return None


def _baseline_of(kept: Sequence[ContenderSpec]) -> str:
    ways = [spec.way for spec in kept]
    known = [way for way in ("ort/plain", "ort/unfolded", "ort/folded") if way in ways]
    return (known or ways)[0]


def _name_of(spec: ContenderSpec) -> str:
    return f"networks/{spec.path.name}" if spec.path else ""


def _describe(spec: ContenderSpec, suffix: str = "") -> dict[str, Any]:
    return {
        "contender": spec.name + suffix,
        "role": "again" if suffix else "contender",
        "backend": spec.backend,
        "variant": spec.variant,
        "device": spec.device,
        "file": _name_of(spec),
        "source_sha256": spec.source_sha256,
        "size_bytes": spec.size_bytes,
        "fixed_batch": spec.fixed_batch,
    }


def _npy(array: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _write(path: Path, parts: Mapping[str, bytes]) -> None:
    """Write the zipapp: the parts, their hashes, and what checks these and starts them."""
    main = Path(unpacking.__file__).read_bytes()
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    contents = {"schema_version": unpacking.SCHEMA_VERSION, "sha256": hashes}
    with path.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("__main__.py", main)
            archive.writestr("contents.json", json.dumps(contents))
            for name, content in parts.items():
                archive.writestr(name, content)


def _code() -> Iterator[tuple[str, bytes]]:
    """Yield the modules of foldbench that a bundle needs, by their names in it."""
    root = Path(foldbench.__file__).parent
    todo = [*_ENTRIES, *(f"foldbench.bench.backends.{name}" for name in _BACKENDS)]
    seen = set(_LEFT_OUT)
    while todo:
        module = todo.pop()
        path = _find(root, module)
        if module in seen or path is None:
            continue
        seen.add(module)
        source = path.read_bytes()
        inside = module.split(".") + (["__init__"] if path.name == "__init__.py" else [])
        yield f"code/{'/'.join(inside)}.py", source
        todo += [module.rpartition(".")[0], *_imports_of(source, module)]


def _find(root: Path, module: str) -> Path | None:
    """Return the file of one of foldbench's modules; None for what is none."""
    if module.split(".")[0] != "foldbench":
        return None
    bases = {root.joinpath(*module.split(".")[1:])}
    bases |= {root.parent.joinpath(*module.split(".")[1:])} if "." in module else set()
    files = [f for base in bases for f in (base.with_suffix(".py"), base / "__init__.py")]
    return next((file for file in files if file.is_file()), None)


def _imports_of(source: bytes, module: str) -> Iterator[str]:
    """Yield what a module imports, but for what only a type checker reads."""
    todo: list[ast.AST] = [] if module == "foldbench" else [ast.parse(source)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            todo += ast.iter_child_nodes(node)
