"""What makes two processes of one contender differ? Processes of each treatment, in turns.

    python -m benchmarks.causes RUN --processes 6 --batch-size 64 --out benchmarks/results

One process of each contender lives through the whole study, as the control. The others live for a
few blocks, which take turns with blocks of the control, and differ in what is done to them: large
pages for the heap (GLIBC_TUNABLES), addresses that are not random (setarch -R), a single heap that
keeps what it was given (MALLOC_*), threads pinned to a core each, and nothing. Printed for each
treatment: how much faster it is than nothing, and the standard deviation between its processes.
A study that was interrupted begins anew, since its control has ended.
"""

import json
import os
import random
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import click
import numpy as np
import numpy.typing as npt
from scipy import stats
from tabulate import tabulate

from benchmarks.variance import IMAGES, OPTIONS, Plan, job_of, specs_of, time_clean, write_images
from foldbench.bench.machine.environment import describe_environment
from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.store.finding import find_runs
from foldbench.bench.workers.client import WorkerClient
from foldbench.bench.workers.protocol import Job

CONTENDERS = ("torch/folded", "ort/folded")
BLOCKS = 6
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Treatment:
    """What is done to a process."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that it starts with."""
    wrapper: str = ""
    """The command that starts it."""
    pinned: bool = False
    """Whether each of its threads gets a core of its own once the network has run."""


TREATMENTS = {
    "nothing": Treatment(),
    "large pages": Treatment({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}),
    "fixed addresses": Treatment(wrapper="setarch -R"),
    "one heap": Treatment(
        {
            "MALLOC_ARENA_MAX": "1",
            "MALLOC_MMAP_THRESHOLD_": str(2**32),
            "MALLOC_TRIM_THRESHOLD_": str(2**40),
            "MALLOC_TOP_PAD_": str(2**26),
        }
    ),
    "pinned threads": Treatment(pinned=True),
}


@contextmanager
def treated(
    treatment: Treatment, job: Job, folder: Path, batch_size: int
) -> Iterator[WorkerClient]:
    """Yield a process that has been treated, with its network open."""
    if treatment.wrapper:
        script = folder / "python"
        script.write_text(f'#!/bin/sh\nexec {treatment.wrapper} {sys.executable} "$@"\n', "utf-8")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        job = replace(job, python=script)
    with patch.dict(os.environ, treatment.variables):
        worker = WorkerClient(job)
    try:
        worker.open()
        worker.evaluate()
        worker.warm_up(batch_size, 0.5)
        if treatment.pinned and worker.process_id is not None:
            pin(worker.process_id)
            worker.warm_up(batch_size, 0.2)
        yield worker
    finally:
        worker.close()


def pin(process_id: int) -> None:
    """Give the threads of a process a core each, in turn."""
    cores = sorted(os.sched_getaffinity(0))
    threads = sorted(int(task.name) for task in Path(f"/proc/{process_id}/task").iterdir())
    busy = sorted(threads, key=lambda thread: -cpu_ticks(process_id, thread))
    for number, thread in enumerate(busy):
        os.sched_setaffinity(thread, {cores[number % len(cores)]})


def cpu_ticks(process_id: int, thread: int) -> int:
    """Return the CPU time that a thread has used (proc(5), utime and stime)."""
    text = Path(f"/proc/{process_id}/task/{thread}/stat").read_text("utf-8")
    fields = text.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def measure(
    specs: Mapping[str, ContenderSpec],
    run: RunDirectory,
    due: Sequence[tuple[str, str]],
    batch_size: int,
) -> Iterator[dict]:
    """Yield, for each (contender, treatment), the logarithm of its speed-up over the control."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        images = write_images(run, folder)
        jobs = {contender: job_of(run, spec, images) for contender, spec in specs.items()}
        controls = {
            contender: stack.enter_context(treated(Treatment(), job, folder, batch_size))
            for contender, job in jobs.items()
        }
        for contender, treatment in due:
            with treated(TREATMENTS[treatment], jobs[contender], folder, batch_size) as worker:
                logs = []
                for _ in range(BLOCKS):
                    seconds = [
                        float(np.median(time_clean(one, batch_size, OPTIONS)))
                        for one in (controls[contender], worker)
                    ]
                    logs.append(float(np.log(seconds[0] / seconds[1])))
            yield {"contender": contender, "treatment": treatment, "log_speed": logs}


def spread(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the standard deviation of `values` and its 95 % interval (chi squared)."""
    freedom = len(values) - 1
    variance = float(values.var(ddof=1))
    tail = (1 - CONFIDENCE) / 2
    low, high = (freedom * variance / stats.chi2.ppf(q, freedom) for q in (1 - tail, tail))
    return variance**0.5, low**0.5, high**0.5


def table_of(lines: Sequence[Mapping]) -> list[list[str]]:
    """Return a row for each contender and treatment."""
    means: dict[tuple[str, str], list[float]] = {}
    for line in lines:
        key = line["contender"], line["treatment"]
        means.setdefault(key, []).append(float(np.mean(line["log_speed"])))
    rows = []
    for (contender, treatment), values in means.items():
        found, nothing = (np.asarray(v) for v in (values, means[contender, "nothing"]))
        if min(len(found), len(nothing)) < 2:
            continue
        deviation, low, high = spread(found)
        row = [contender, treatment, str(len(found)), f"{100 * deviation:.2f}"]
        row.append(f"{100 * low:.2f}–{100 * high:.2f}")
        if treatment == "nothing":
            rows.append([*row, "", "", ""])
            continue
        compared = stats.ttest_ind(found, nothing, equal_var=False)
        within = compared.confidence_interval(CONFIDENCE)
        change = float(found.mean() - nothing.mean())
        row.append(f"{np.exp(change):.3f}")
        row.append(f"{np.exp(within.low):.3f}–{np.exp(within.high):.3f}")
        rows.append([*row, f"{stats.levene(found, nothing).pvalue:.2f}"])
    return rows


HEADERS = (
    *("contender", "treatment", "processes", "SD between them %", "95 % CI"),
    *("speed-up over nothing", "95 % CI", "p of another SD (Levene)"),
)


def turns_of(contenders: Sequence[str], processes: int) -> list[tuple[str, str]]:
    """Return each contender with each treatment, `processes` times, at random within a turn."""
    order = random.Random(0)
    pairs = [(contender, treatment) for contender in contenders for treatment in TREATMENTS]
    return [pair for _ in range(processes) for pair in order.sample(pairs, len(pairs))]


@click.command()
@click.argument("name", metavar="RUN")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--processes", default=12, show_default=True, type=click.IntRange(2))
@click.option("--batch-size", default=1, show_default=True, type=click.IntRange(1, IMAGES))
@click.option("--out", type=click.Path(path_type=Path), default=Path("causes"))
def main(name: str, runs: Path, processes: int, batch_size: int, out: Path) -> None:
    """Measure what makes processes of one contender differ."""
    (run,) = find_runs(runs, [name])
    plan = replace(Plan(), subjects=CONTENDERS)
    specs = {spec.way: spec for spec in specs_of(run, plan) if spec.way in CONTENDERS}
    out.mkdir(parents=True, exist_ok=True)
    due, lines = turns_of(list(specs), processes), []
    for number, line in enumerate(measure(specs, run, due, batch_size), 1):
        lines.append(line)
        click.echo(f"{number} of {len(due)}: {line['contender']}, {line['treatment']}", err=True)
    facts = describe_environment()
    table = tabulate(table_of(lines), HEADERS, tablefmt="github", disable_numparse=True)
    text = (
        "# What makes two processes of one contender differ?\n\n"
        "Each process is timed in turns with one that lives through the study. Standard deviation "
        f"of the logarithm of its speed-up, between processes; batch size {batch_size}.\n\n"
        f"{table}\n\n"
        f"Machine: {facts['cpu']}, {facts['cores_usable']} usable cores; python {facts['python']}, "
        f"torch {facts['torch']}, onnxruntime {facts['onnxruntime']}.\n\n"
        f"    python -m benchmarks.causes {name} --processes {processes} "
        f"--batch-size {batch_size}\n"
    )
    sys.stdout.write(text)
    (out / "causes.md").write_text(text, encoding="utf-8")
    stored = {"environment": facts, "processes": lines}
    (out / "causes.json").write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
