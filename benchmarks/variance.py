"""Where does the variance of a speed-up live: in calls, blocks, sessions, processes or minutes?

    python -m benchmarks.variance RUN... --out benchmarks/results

A nested study (T. Kalibera, R. Jones, Rigorous benchmarking in reasonable time, ISMM 2013): on
several occasions, minutes apart, several processes of each contender in a row, in each of
them the network opened anew several times, then blocks of calls in turns with unfolded torch.
Prints the standard deviation that each level adds to the logarithm of the speed-up. What was
measured is in `variance.jsonl`, a line for each process, and the same command resumes after the
last one. Needs runs that are trained and exported (`bench run digits`) and a machine on which
nothing else runs: about 20 minutes for each run; `--quick` takes less than 5 minutes on 2 cores.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from foldbench.bench.machine.environment import describe_environment, usable_cores
from foldbench.bench.measure.contenders import ContenderSpec, Subject, contenders_of
from foldbench.bench.samples.timing import is_clean
from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.store.finding import find_runs
from foldbench.bench.timing.loop import BlockOptions
from foldbench.bench.workers.client import WorkerClient
from foldbench.bench.workers.protocol import Job

BASELINE = "torch/unfolded"
SUBJECTS = ("torch/folded", "ort/folded", "openvino/folded")
LEVELS = ("occasion", "process", "session", "block")
"""From the outermost inwards; a call is within a block."""
IMAGES = 256
TRIES = 6
OPTIONS = BlockOptions(calls=5, block_s=0.15, settle_s=0.1)


@dataclass(frozen=True)
class Plan:
    """How many of each there are."""

    occasions: int = 4
    processes: int = 3
    sessions: int = 2
    blocks: int = 4
    pause_s: float = 180.0
    batch_sizes: tuple[int, ...] = (1, 64)
    subjects: tuple[str, ...] = SUBJECTS
    options: BlockOptions = OPTIONS


QUICK = Plan(2, 2, 2, 3, 5.0, (1,), SUBJECTS[:2])

Key = tuple[str, int, str]
"""Run, batch size and contender."""
Samples = dict[Key, npt.NDArray[np.float64]]
"""The seconds of (occasions, processes, sessions, blocks) block medians, by key."""


def variance_components(values: npt.NDArray[np.float64]) -> list[float | None]:
    """Return the variance that each axis of `values` adds, outermost first; at least 0.

    The variance of means at a level is what the level adds and what is left of those below: their
    variance divided by how many were averaged. None for an axis of one element.
    """
    found: list[float | None] = []
    means, left = values, 0.0
    while means.ndim:
        count = means.shape[-1]
        variance = float(means.var(axis=-1, ddof=1).mean()) if count > 1 else None
        found.append(None if variance is None else max(0.0, variance - left))
        left = (left if variance is None else variance) / count
        means = means.mean(axis=-1)
    return found[::-1]


def log_ratios(samples: Samples, key: Key) -> npt.NDArray[np.float64]:
    """Return the logarithm of the speed-up over the baseline, block by block."""
    run, batch_size, _ = key
    return np.log(samples[run, batch_size, BASELINE] / samples[key])


def gather(lines: Sequence[Mapping], plan: Plan) -> tuple[Samples, dict[Key, float]]:
    """Return block medians, and the variance of the logarithm of calls within blocks.

    Occasions that are not complete are left out.
    """
    medians: dict[Key, dict[tuple[int, int], list]] = {}
    calls: dict[Key, list[float]] = {}
    for line in lines:
        key = line["run"], line["batch_size"], line["contender"]
        place = line["occasion"], line["process"]
        medians.setdefault(key, {})[place] = line["median_s"]
        calls.setdefault(key, []).append(line["call_variance"])
    samples: Samples = {}
    for key, found in medians.items():
        whole = [
            [found[occasion, process] for process in range(plan.processes)]
            for occasion in range(plan.occasions)
            if all((occasion, process) in found for process in range(plan.processes))
        ]
        if whole:
            samples[key] = np.asarray(whole, float)
    return samples, {key: float(np.mean(values)) for key, values in calls.items()}


def table_of(lines: Sequence[Mapping], plan: Plan) -> list[list[str]]:
    """Return a row for each run, batch size and contender: what each level adds, in percent."""
    samples, calls = gather(lines, plan)
    rows = []
    for run, batch_size, contender in samples:
        key = run, batch_size, contender
        if contender == BASELINE or (run, batch_size, BASELINE) not in samples:
            continue
        logs = log_ratios(samples, key)
        added = variance_components(logs)
        call = calls[key] + calls[run, batch_size, BASELINE]
        cells = ["" if v is None else f"{100 * sqrt(v):.2f}" for v in [*added, call]]
        rows.append([run, contender, str(batch_size), f"{np.exp(logs.mean()):.3f}", *cells])
    return rows


def specs_of(run: RunDirectory, plan: Plan) -> list[ContenderSpec]:
    """Return the baseline and the subjects that the run has, on the CPU."""
    subject = Subject(run.path, run.checkpoint(), run.artifacts())
    wanted = (BASELINE, *plan.subjects)
    backends = dict.fromkeys(name.partition("/")[0] for name in wanted)
    found = [s for backend in backends for s in contenders_of(subject, backend, "cpu")]
    return [s for s in found if s.way in wanted and s.status == "ok" and s.path is not None]


def write_images(run: RunDirectory, folder: Path) -> Path:
    """Write random pixels that the run's network takes; return the file."""
    shape = run.checkpoint().preprocessing.input_shape
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape)).astype(np.uint8)
    np.save(folder / "images.npy", pixels)
    return folder / "images.npy"


def job_of(run: RunDirectory, spec: ContenderSpec, images: Path) -> Job:
    """Return what a process of a contender is to open."""
    checkpoint = run.checkpoint()
    return Job(
        backend=spec.backend,
        device=spec.device,
        threads=usable_cores(),
        variant=spec.variant,
        folder=run.path,
        path=spec.path or images,
        images=images,
        mean=checkpoint.preprocessing.mean,
        std=checkpoint.preprocessing.std,
        classes=len(checkpoint.classes),
        batch_size=64,
    )


def measure_processes(
    run: RunDirectory, specs: Sequence[ContenderSpec], plan: Plan, seed: int
) -> Iterator[dict]:
    """Yield, for each batch size and contender, what one process of each gave."""
    order = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        images = write_images(run, Path(folder))
        workers: dict[str, WorkerClient] = {}
        for spec in order.sample(list(specs), len(specs)):
            workers[spec.way] = WorkerClient(job_of(run, spec, images))
            stack.callback(workers[spec.way].close)
        medians: dict[tuple[int, str], list[list[float]]] = {}
        calls: dict[tuple[int, str], list[float]] = {}
        for session in range(plan.sessions):
            for worker in workers.values():
                worker.open()
                if session == 0:
                    worker.evaluate()
            for size in plan.batch_sizes:
                for name, blocks in measure_session(workers, size, plan, order).items():
                    values = [float(np.median(block)) for block in blocks]
                    medians.setdefault((size, name), []).append(values)
                    spreads = [float(np.log(block).var(ddof=1)) for block in blocks]
                    calls.setdefault((size, name), []).extend(spreads)
        for (size, name), values in medians.items():
            yield {
                "batch_size": size,
                "contender": name,
                "median_s": values,
                "call_variance": float(np.mean(calls[size, name])),
            }


def measure_session(
    workers: Mapping[str, WorkerClient], size: int, plan: Plan, order: random.Random
) -> dict[str, list[tuple[float, ...]]]:
    """Return the seconds of the calls of each block, in turns, by contender."""
    for worker in workers.values():
        worker.warm_up(size, 0.5)
    made: dict[str, list[tuple[float, ...]]] = {name: [] for name in workers}
    for _ in range(plan.blocks):
        for name in order.sample(list(workers), len(workers)):
            made[name].append(time_clean(workers[name], size, plan.options))
    return made


def time_clean(worker: WorkerClient, size: int, options: BlockOptions) -> tuple[float, ...]:
    """Return the seconds of a block's calls, of the last try where none is left alone."""
    for _ in range(TRIES):
        block, _ = worker.time(size, options)
        if is_clean(block.run_delay_ratio):
            break
    return block.samples_s


def read_lines(path: Path, plan: Plan) -> list[dict]:
    """Return what is there of the same study; raise SystemExit for one of another plan."""
    if not path.is_file():
        return []
    first, *lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    if first != settings_of(plan):
        raise SystemExit(f"{path} is of another plan ({first}): name another folder with --out")
    return lines


def settings_of(plan: Plan) -> dict:
    """Return the plan as JSON types."""
    return json.loads(json.dumps({**vars(plan), "options": vars(plan.options)}))


def study(
    runs: Sequence[RunDirectory], plan: Plan, path: Path, minutes: float = float("inf")
) -> list[dict]:
    """Measure what is missing, a process of each contender at a time; return all lines.

    No further process is begun after `minutes`.
    """
    began, lines = time.monotonic(), read_lines(path, plan)
    if not lines:
        path.write_text(json.dumps(settings_of(plan)) + "\n", "utf-8")
    done = {(line["run"], line["occasion"], line["process"]) for line in lines}
    found = len(lines)
    for occasion in range(plan.occasions):
        due = [
            (run, process)
            for process in range(plan.processes)
            for run in runs
            if (run.name, occasion, process) not in done
        ]
        if due and len(lines) > found:
            click.echo(f"pausing {plan.pause_s:g} s before occasion {occasion + 1}", err=True)
            time.sleep(plan.pause_s)
        for run, process in due:
            if time.monotonic() - began > 60 * minutes:
                return lines
            click.echo(f"{run.name}: occasion {occasion + 1}, process {process + 1}", err=True)
            place = {"run": run.name, "occasion": occasion, "process": process}
            seed = 1000 * occasion + process
            made = [place | one for one in measure_processes(run, specs_of(run, plan), plan, seed)]
            with path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(line) + "\n" for line in made))
            lines += made
            done.add((run.name, occasion, process))
    return lines


@click.command()
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--quick", is_flag=True, help="Less than 5 minutes: batch 1, few of each.")
@click.option("--occasions", type=click.IntRange(1), help="How often, minutes apart.")
@click.option("--batch-sizes", default="1,64", show_default=True)
@click.option("--minutes", default=float("inf"), help="Begin no further process after that.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("variance"))
def main(
    names: tuple[str, ...],
    runs: Path,
    quick: bool,
    occasions: int | None,
    batch_sizes: str,
    minutes: float,
    out: Path,
) -> None:
    """Measure which level of a comparison its variance is from."""
    sizes = tuple(int(size) for size in batch_sizes.split(","))
    plan = QUICK if quick else replace(Plan(), batch_sizes=sizes)
    plan = replace(plan, occasions=occasions or plan.occasions)
    out.mkdir(parents=True, exist_ok=True)
    lines = study(find_runs(runs, list(names)), plan, out / "variance.jsonl", minutes)
    facts = describe_environment()
    headers = ["run", "contender", "batch", "speed-up", *(f"{level} %" for level in LEVELS)]
    table = tabulate(
        table_of(lines, plan), [*headers, "call %"], tablefmt="github", disable_numparse=True
    )
    flags = " --quick" * quick + (f" --occasions {occasions}" if occasions else "")
    flags += f" --batch-sizes {batch_sizes}" * (
        plan.batch_sizes != Plan().batch_sizes and not quick
    )
    text = (
        "# Where the variance of a speed-up lives\n\n"
        f"Speed-up over {BASELINE}. Standard deviation that each level adds to its logarithm, in "
        f"%: {plan.occasions} occasions {plan.pause_s:g} s apart, on each {plan.processes} "
        f"processes, in each {plan.sessions} sessions of {plan.blocks} blocks in turns (Kalibera "
        "and Jones, 2013). Call: of single calls within a block, of both contenders.\n\n"
        f"{table}\n\nMachine: {facts['cpu']}, {facts['cores_usable']} usable cores; python "
        f"{facts['python']}, torch {facts['torch']}, onnxruntime {facts['onnxruntime']}.\n\n"
        f"    python -m benchmarks.variance {' '.join(names)}{flags}\n"
    )
    sys.stdout.write(text)
    (out / "variance.md").write_text(text, encoding="utf-8")
    stored = {"environment": facts, "plan": settings_of(plan), "processes": lines}
    (out / "variance.json").write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
