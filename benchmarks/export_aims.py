"""Does an export beat a hand-written one, and the fastest peers? The aims, with intervals.

    bench export RUN && bench export RUN --target host
    bench export RUN --quantize int8_tables && bench export RUN --quantize int8_tables --target host
    python -m benchmarks.export_aims RUN --data cifar10-images.tar.xz --out benchmarks/results

Everything that was exported, the plain export of the same checkpoint, torch.compile and OpenVINO
run on the CPU, each in a process of its own, in rounds of random order, by this project's own
timing loop. A ratio is over the rounds in which both were left alone. The plain export is timed a
second time, so that the table shows how far it comes out from itself. Accuracy is that on all test
images, from the sessions that are timed. Give the machine a quarter of an hour in which nothing
else runs.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from tabulate import tabulate

from benchmarks.export_passes import AGAIN, PLAIN, describe_job, make_steps, time_rounds
from foldbench.bench.analysis.clean import clean_pairs
from foldbench.bench.analysis.estimates import (
    MIN_CLEAN_ROUNDS,
    Ratio,
    judge,
    median_or_none,
    median_ratio,
)
from foldbench.bench.cli.options import data_option, shared_options, with_overrides
from foldbench.bench.errors import BackendError
from foldbench.bench.images.loading import load_data
from foldbench.bench.machine.environment import describe_environment, usable_cores
from foldbench.bench.measure.targets import files_for, target_of
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Block
from foldbench.bench.registry import BACKENDS
from foldbench.bench.stages.settings import settings_of
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.store.files import write_text
from foldbench.bench.store.finding import find_runs
from foldbench.bench.workers.client import WorkerClient

PEERS = ("torch_compile:freeze", "openvino")
OURS = ("ort", "ort:tuned")
QUANTIZED = "int8"


@dataclass(frozen=True)
class Entry:
    """One contender: what runs which file."""

    name: str
    backend: str
    variant: str
    path: Path
    precision: str = "float32"


@dataclass(frozen=True)
class Aim:
    """What a speed-up over another contender should be."""

    text: str
    subject: str
    other: str
    least: float


def list_entries(run: RunDirectory, folder: Path, images: Path) -> list[Entry]:
    """Return the plain export twice, what was exported, and the peers."""
    plain, again = make_steps(run, folder)[:2]
    entries = [Entry(step.name, "ort", "folded", step.path) for step in (plain, again)]
    for backend in (*OURS, "openvino"):
        module = BACKENDS.load(backend.partition(":")[0])
        target = target_of(module, {}, "cpu")
        for artifact, row in files_for(run.artifacts(), target):
            whole = artifact.precision == "float32"
            if (backend == "ort:tuned" and artifact.target != "host") or (
                backend == "openvino" and not whole
            ):
                continue
            name = f"{backend}/{row}"
            path = run.path / artifact.path
            entries.append(Entry(name, backend, artifact.variant, path, artifact.precision))
    entries.append(Entry("torch_compile:freeze/folded", "torch_compile:freeze", "folded", images))
    return entries


def fastest(names: Sequence[str], blocks: Mapping[str, Sequence[Block]]) -> str:
    """Return the name with the least median of the medians of its blocks."""
    return min(names, key=lambda name: typical_s(blocks[name]) or float("inf"))


def typical_s(blocks: Sequence[Block]) -> float | None:
    """Return the median over clean rounds of a block's median, seconds."""
    candidate, _ = clean_pairs(blocks, blocks)
    return median_or_none([median_or_none(samples) or 0.0 for samples in candidate.values()])


def compare_blocks(
    blocks: Mapping[str, Sequence[Block]], subject: str, other: str
) -> tuple[Ratio | None, int]:
    """Return how many times faster `subject` is than `other`, and over how many clean rounds."""
    candidate, baseline = clean_pairs(blocks[subject], blocks[other])
    return (median_ratio(baseline, candidate) if len(candidate) >= MIN_CLEAN_ROUNDS else None), len(
        candidate
    )


def list_aims(
    entries: Sequence[Entry], blocks: Mapping[str, Sequence[Block]], size: int
) -> list[Aim]:
    """Return what is aimed at; the best of ours stands for all of them at this batch size."""
    ran = [entry for entry in entries if entry.name in blocks]
    candidate = [e for e in ran if e.backend in OURS and e.name not in (PLAIN, AGAIN)]
    whole = [e.name for e in candidate if e.precision == "float32"]
    lower = [e.name for e in candidate if e.precision == QUANTIZED]
    best = fastest(whole, blocks)
    any_cpu = next(name for name in whole if name == "ort/folded")
    aims = [
        Aim("file for any CPU against the plain export", any_cpu, PLAIN, 1.5),
        Aim("best float32 file against the plain export", best, PLAIN, 2.0),
    ]
    for peer in PEERS:
        name = next((e.name for e in ran if e.backend == peer), None)
        within = {"openvino": 1 / (1.2 if size == 1 else 1.15)}.get(peer, 1.0)
        if name is not None:
            aims.append(Aim(f"best float32 file against {peer}", best, name, within))
    if lower:
        aims.append(Aim("int8 against the best float32 file", fastest(lower, blocks), best, 1.6))
    return aims


def measure(
    run: RunDirectory,
    entries: Sequence[Entry],
    images: Path,
    sizes: Sequence[int],
    rounds: int,
    budget_s: float,
) -> tuple[dict[int, dict[str, list[Block]]], dict[str, Any], dict[str, str]]:
    """Return blocks by batch size and name, the logits of each, and why some did not run."""
    workers: dict[str, WorkerClient] = {}
    logits, missing = {}, {}
    try:
        for entry in entries:
            job = describe_job(run, entry.path, images)
            worker = WorkerClient(replace(job, backend=entry.backend, variant=entry.variant))
            try:
                worker.open()
                logits[entry.name] = worker.evaluate()
            except BackendError as error:
                worker.close()
                missing[entry.name] = str(error)
                continue
            workers[entry.name] = worker
            click.echo(f"{entry.name}: opened", err=True)
        timed = {size: time_rounds(workers, size, rounds, budget_s) for size in sizes}
    finally:
        for worker in workers.values():
            worker.close()
    return timed, logits, missing


def to_tables(
    entries: Sequence[Entry],
    timed: Mapping[int, Mapping[str, Sequence[Block]]],
    logits: Mapping[str, Any],
    labels: Any,
) -> str:
    """Return the contenders and the aims as Markdown tables."""
    rows = []
    for size, blocks in timed.items():
        for entry in (e for e in entries if e.name in blocks):
            seconds = typical_s(blocks[entry.name])
            ratio, count = compare_blocks(blocks, entry.name, PLAIN)
            correct = 100 * float((logits[entry.name].argmax(1) == labels).mean())
            rows.append(
                [
                    entry.name,
                    entry.precision,
                    f"{correct:.2f}",
                    str(size),
                    f"{1000 * seconds:.3g}" if seconds else "",
                    *show(ratio if entry.name != PLAIN else None),
                    str(count),
                ]
            )
    headers = ["contender", "precision", "accuracy %", "batch", "median ms"]
    headers += ["speed-up over the plain export", "95 %", "clean rounds"]
    parts = [tabulate(rows, headers, tablefmt="github", disable_numparse=True)]
    rows = []
    for size, blocks in timed.items():
        again, _ = compare_blocks(blocks, AGAIN, PLAIN)
        floor = abs(again.point - 1) if again else 0.0
        for aim in list_aims(entries, blocks, size):
            ratio, _ = compare_blocks(blocks, aim.subject, aim.other)
            reached = "" if ratio is None else "yes" if ratio.point >= aim.least else "no"
            verdict = judge(ratio, floor) if ratio else ""
            cells = [str(size), aim.text, aim.subject, *show(ratio)]
            rows.append([*cells, f"{aim.least:.2f}", reached, verdict])
    headers = ["batch", "what", "the best is", "ratio", "95 %", "aim", "reached", "verdict"]
    parts.append(tabulate(rows, headers, tablefmt="github", disable_numparse=True))
    return "\n\n".join(parts)


def shorten(block: Block) -> dict[str, Any]:
    """Return the block with its samples to 0.1 µs."""
    samples = [round(sample_s, 7) for sample_s in block.samples_s]
    delay = block.run_delay_ratio
    return {"round": block.round, "samples_s": samples, "run_delay_ratio": delay}


def show(ratio: Ratio | None) -> tuple[str, str]:
    """Return a ratio and its interval as text, blank where there is none."""
    if ratio is None:
        return "", ""
    interval = f"{ratio.low:.2f}–{ratio.high:.2f}" if ratio.low and ratio.high else ""
    return f"{ratio.point:.2f}", interval


@click.command()
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@data_option
@click.option("--batch-sizes", default="1,64", show_default=True)
@click.option("--rounds", default=20, show_default=True, help="Clean rounds wanted.")
@click.option("--budget", default=240.0, show_default=True, help="Seconds for one batch size.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the table and the JSON.")
@shared_options
@with_overrides
def main(
    names: tuple[str, ...],
    overrides: tuple[str, ...],
    batch_sizes: str,
    rounds: int,
    budget: float,
    out: Path | None,
    paths: Paths,
    as_json: bool,
) -> None:
    """Measure exported runs against the plain export, torch.compile and OpenVINO."""
    sizes = [int(size) for size in batch_sizes.split(",")]
    parts, stored = [], {}
    for run in find_runs(paths.runs, names):
        config = settings_of(run, run.checkpoint(), overrides)
        images = load_data(config.data, paths.cache, NullListener())
        with tempfile.TemporaryDirectory(prefix="foldbench-") as folder:
            path = Path(folder) / "images.npy"
            np.save(path, images.test.images)
            entries = list_entries(run, Path(folder), path)
            nodes = len(onnx.load(entries[0].path).graph.node)
            timed, logits, missing = measure(run, entries, path, sizes, rounds, budget)
        table = to_tables(entries, timed, logits, images.test.labels)
        absent = "".join(f"\n* {name}: {reason}" for name, reason in missing.items())
        parts.append(
            f"## {run.name}, {images.info.title}\n\nThe plain export has {nodes} nodes.\n\n"
            f"{table}\n{absent}"
        )
        stored[run.name] = {
            str(size): {name: [shorten(b) for b in found] for name, found in by_name.items()}
            for size, by_name in timed.items()
        }
    facts = describe_environment()
    text = (
        "# Exports against a plain one and against peers\n\nonnxruntime, torch.compile and "
        f"OpenVINO on the CPU, {usable_cores()} threads. The plain export is what "
        "torch.onnx.export gives by itself; the same again shows how far that comes out from "
        "itself. A ratio is how many times faster, the median over rounds of the ratio within a "
        "round.\n\n"
        + "\n".join(parts)
        + f"\nMachine: {facts['cpu']}, {facts['cores_usable']} usable cores; python "
        f"{facts['python']}, torch {facts['torch']}, onnxruntime {facts['onnxruntime']}.\n\n"
        f"    python -m benchmarks.export_aims {' '.join(names)} --data PATH\n"
    )
    dumped = json.dumps({"environment": facts, "blocks": stored}) + "\n"
    sys.stdout.write(dumped if as_json else text)
    if out is not None:
        write_text(out / "export_aims.md", text)
        write_text(out / "export_aims.json", dumped)


if __name__ == "__main__":
    main()
