"""What does each export pass gain? The plain export, the folded one, and one pass more at a time.

    python -m benchmarks.export_passes deep_mish mish_cnn bn_cnn --out benchmarks/results

Every file is run by onnxruntime on the CPU in a process of its own, in rounds of random order, by
this project's own timing loop; a speed-up is over what torch.onnx.export gives by itself, in the
rounds in which both were left alone. That file is timed twice, so that the table shows how far it
comes out from itself. Needs trained runs (bench train), and about four minutes for each in which
nothing else runs. Accuracy is not measured here: `bench export` proves that no pass changes it.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
import onnx
from tabulate import tabulate

from foldbench.bench.analysis.clean import clean_pairs
from foldbench.bench.analysis.estimates import (
    MIN_CLEAN_ROUNDS,
    best_case_ratio,
    judge,
    median_or_none,
    median_ratio,
)
from foldbench.bench.errors import BackendError
from foldbench.bench.machine.environment import describe_environment, usable_cores
from foldbench.bench.records import Block
from foldbench.bench.registry import PASSES
from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.store.finding import find_runs
from foldbench.bench.timing.loop import BlockOptions
from foldbench.bench.timing.schedule import RoundPlan, run_rounds
from foldbench.bench.workers.client import WorkerClient
from foldbench.bench.workers.protocol import Job
from foldbench.exporters.export import ExportOptions, to_onnx
from foldbench.exporters.folding.fold import fold_linear
from foldbench.exporters.rewriting import choose_passes
from foldbench.models.building.checkpoint import load_checkpoint

IMAGES = 256
BLOCK = BlockOptions(calls=10, block_s=0.3, settle_s=0.2)
WARM_UP_S = 1.0
PLAIN, AGAIN = "torch.onnx.export by itself", "the same again"


@dataclass(frozen=True)
class Step:
    """A file on the way from the plain export to the one with every pass."""

    name: str
    path: Path
    nodes: int
    detail: str = ""


def make_steps(run: RunDirectory, folder: Path) -> list[Step]:
    """Export the run's network step by step; passes that change nothing are no steps."""
    import torch

    checkpoint = run.checkpoint()
    module = load_checkpoint(checkpoint, run.path)
    example = np.zeros((2, *checkpoint.preprocessing.input_shape), np.float32)
    options = ExportOptions(fold_bn=True, opset=20, passes=())
    plain = to_onnx(module, example, options)  # its own optimizer is on, as it is by default
    folded, _ = fold_linear(module, torch.from_numpy(example))
    model = to_onnx(folded, example, options)
    steps = [save(plain, PLAIN, folder), save(plain, AGAIN, folder)]
    steps.append(save(model, "BatchNorm folded before", folder))
    for name in choose_passes(["default"], "host", True):
        model, report = PASSES.load(name).apply(model)
        if report.changed and name != "strip_metadata":
            steps.append(save(model, f"+ {name}", folder, report.detail))
    return steps


def save(model: onnx.ModelProto, name: str, folder: Path, detail: str = "") -> Step:
    """Write the model to a file of its own."""
    path = folder / f"{len(list(folder.glob('*.onnx')))}.onnx"
    onnx.save(model, path)
    return Step(name, path, len(model.graph.node), detail)


def measure(
    run: RunDirectory,
    steps: Sequence[Step],
    images: Path,
    batch_sizes: Sequence[int],
    rounds: int,
    budget_s: float,
) -> dict[int, dict[str, list[Block]]]:
    """Return the blocks of every step at every batch size."""
    workers: dict[str, WorkerClient] = {}
    try:
        expected = None
        for step in steps:
            workers[step.name] = WorkerClient(describe_job(run, step.path, images))
            workers[step.name].open()
            logits = workers[step.name].evaluate()
            expected = logits if expected is None else expected
            if np.abs(logits - expected).max() > 1e-4 * np.abs(expected).max():
                raise SystemExit(f"{step.name}: computes something else than {steps[0].name}")
        return {size: time_rounds(workers, size, rounds, budget_s) for size in batch_sizes}
    finally:
        for worker in workers.values():
            worker.close()


def describe_job(run: RunDirectory, path: Path, images: Path) -> Job:
    """Return what a worker needs to run the file at `path`."""
    checkpoint = run.checkpoint()
    return Job(
        backend="ort",
        device="cpu",
        threads=usable_cores(),
        variant="folded",
        folder=run.path,
        path=path,
        images=images,
        mean=checkpoint.preprocessing.mean,
        std=checkpoint.preprocessing.std,
        classes=len(checkpoint.classes),
        batch_size=64,
    )


def time_rounds(
    workers: Mapping[str, WorkerClient], batch_size: int, rounds: int, budget_s: float
) -> dict[str, list[Block]]:
    """Time all files in rounds, until enough are clean or the budget is spent."""
    for worker in workers.values():
        worker.warm_up(batch_size, WARM_UP_S)

    def time_one(name: str, number: int) -> Block | None:
        try:
            block, _ = workers[name].time(batch_size, BLOCK)
        except BackendError as error:
            raise SystemExit(f"{name} at batch {batch_size}: {error}") from error
        return replace(block, round=number)

    plan = RoundPlan(rounds, budget_s)
    order = random.Random(batch_size)
    done = run_rounds(list(workers), lambda _: PLAIN, time_one, plan, order, time.monotonic)
    return done.blocks


def to_row(step: Step, blocks: Mapping[str, Sequence[Block]], batch_size: int) -> list[str]:
    """Return a row of the table; nothing is called faster within what PLAIN is from itself."""
    again = median_ratio(*clean_pairs(blocks[AGAIN], blocks[PLAIN]))
    noise_floor = abs(again.point - 1) if again else 0.0
    candidate, baseline = clean_pairs(blocks[step.name], blocks[PLAIN])
    cells = [step.name, str(step.nodes), str(batch_size)]
    if len(candidate) < MIN_CLEAN_ROUNDS:
        samples = {n: [s for b in blocks[n] for s in b.samples_s] for n in (PLAIN, step.name)}
        found = best_case_ratio(samples[PLAIN], samples[step.name])
        return [
            *cells,
            "",
            f"≈{found:.2f} (best case)" if found else "",
            "",
            "",
            str(len(candidate)),
        ]
    middle = (
        median_or_none([median_or_none(samples) or 0.0 for samples in candidate.values()]) or 0.0
    )
    cells.append(f"{1000 * middle:.3g}")
    ratio = median_ratio(baseline, candidate)
    if step.name == PLAIN or ratio is None:
        return [*cells, "1", "", "", str(len(candidate))]
    interval = f"{ratio.low:.2f}–{ratio.high:.2f}" if ratio.low and ratio.high else ""
    return [*cells, f"{ratio.point:.2f}", interval, judge(ratio, noise_floor), str(len(candidate))]


@click.command()
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--batch-sizes", default="1,64", show_default=True)
@click.option("--rounds", default=20, show_default=True, help="Clean rounds wanted.")
@click.option("--budget", default=120.0, show_default=True, help="Seconds for one batch size.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the table and the JSON.")
def main(
    names: tuple[str, ...],
    runs: Path,
    batch_sizes: str,
    rounds: int,
    budget: float,
    out: Path | None,
) -> None:
    """Measure what each export pass gains on trained runs."""
    sizes = [int(size) for size in batch_sizes.split(",")]
    headers = ["file", "nodes", "batch", "median ms", "speed-up", "95 %", "verdict", "clean rounds"]
    parts, stored = [], {}
    for run in find_runs(runs, names):
        shape = run.checkpoint().preprocessing.input_shape
        pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape)).astype(np.uint8)
        with tempfile.TemporaryDirectory(prefix="foldbench-") as folder:
            images = Path(folder) / "images.npy"
            np.save(images, pixels)
            steps = make_steps(run, Path(folder))
            blocks = measure(run, steps, images, sizes, rounds, budget)
        rows = [to_row(step, blocks[size], size) for size in sizes for step in steps]
        table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
        done = "\n".join(f"* {step.name[2:]}: {step.detail}" for step in steps if step.detail)
        parts.append(f"## {run.name}\n\n{table}\n\n{done}\n")
        stored[run.name] = {
            str(size): {name: [asdict(b) for b in found] for name, found in by_name.items()}
            for size, by_name in blocks.items()
        }
        click.echo(parts[-1], err=True)
    write("\n".join(parts), stored, names, out)


def write(tables: str, stored: object, names: Sequence[str], out: Path | None) -> None:
    """Print the tables and store them with every block."""
    facts = describe_environment()
    text = (
        "# What does each export pass gain?\n\nSpeed-ups over what torch.onnx.export gives by "
        f"itself, in onnxruntime on the CPU, {usable_cores()} threads, float32; the same again "
        "shows how far that comes out from itself.\n\n"
        f"{tables}\nMachine: {facts['cpu']}, {facts['cores_usable']} usable cores; python "
        f"{facts['python']}, torch {facts['torch']}, onnxruntime {facts['onnxruntime']}.\n\n"
        f"    python -m benchmarks.export_passes {' '.join(names)}\n"
    )
    sys.stdout.write(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "export_passes.md").write_text(text, encoding="utf-8")
        dumped = json.dumps({"environment": facts, "blocks": stored}, indent=1)
        (out / "export_passes.json").write_text(dumped + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
