"""What do the processes that wait their turn do to the one that is timed?

    python -m benchmarks.idle_processes RUN

Times a block of each contender in turns, in rounds of random order: with the processes that wait
stopped, as `bench compare` has them, and running, after 20 and after 100 ms of untimed calls. The
four ways take turns in the same processes, which are started anew several times. Needs a run that
is trained and exported (`bench run digits`) and a machine on which nothing else runs: 3 minutes.
"""

import os
import random
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from tabulate import tabulate

from benchmarks.variance import BASELINE, Plan, job_of, specs_of, write_images
from foldbench.bench.machine.environment import describe_environment
from foldbench.bench.samples.timing import Block, is_clean
from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.store.finding import find_runs
from foldbench.bench.timing.loop import BlockOptions
from foldbench.bench.workers.client import WorkerClient

BLOCK_S, SETTLE_S = 0.05, (0.02, 0.1)
HEADERS = ("processes that wait", "untimed calls", "contender", "disturbed", "speed-up", "spread")


class Way(NamedTuple):
    """One of the four."""

    is_stopped: bool
    settle_s: float


WAYS = tuple(Way(*way) for way in product((True, False), SETTLE_S))

Rounds = dict[Way, list[dict[str, Block]]]
"""The block of each contender, round by round."""


def time_round(workers: Mapping[str, WorkerClient], way: Way, order: random.Random) -> dict:
    """Return a block of each worker, by name."""
    options = BlockOptions(calls=5, block_s=BLOCK_S, settle_s=way.settle_s)
    made = {}
    for name in order.sample(list(workers), len(workers)):
        made[name], _ = workers[name].time(1, options)
        if not way.is_stopped and workers[name].process_id is not None:
            os.kill(workers[name].process_id, signal.SIGCONT)
    return made


def time_generation(run: RunDirectory, rounds: int, order: random.Random) -> Rounds:
    """Return the rounds that one process of each contender made, in groups of one way."""
    found: Rounds = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        images = write_images(run, Path(folder))
        workers: dict[str, WorkerClient] = {}
        for spec in specs_of(run, Plan()):
            workers[spec.way] = WorkerClient(job_of(run, spec, images))
            stack.callback(workers[spec.way].close)
        for worker in workers.values():
            worker.open()
            worker.evaluate()
            worker.warm_up(1, 0.5)
        for way in order.sample(2 * WAYS, 2 * len(WAYS)):
            time_round(workers, way, order)  # brings the others into the state of this way
            found[way] += [time_round(workers, way, order) for _ in range(rounds)]
    return found


def table_of(found: Rounds) -> list[list[str]]:
    """Return a row for each way and contender.

    The spread is the standard deviation of the logarithm of a round's speed-up, over rounds in
    which both blocks were undisturbed.
    """
    rows = []
    for way, rounds in found.items():
        for name in sorted(rounds[0]):
            clean = [is_clean(made[name].run_delay_ratio) for made in rounds]
            cells = [f"{100 * (1 - np.mean(clean)):.0f} %", "", ""]
            logs = log_ratios(rounds, name)
            if name != BASELINE and len(logs) > 1:
                cells[1:] = [
                    f"{np.exp(np.median(logs)):.3f}",
                    f"{100 * np.std(logs, ddof=1):.1f} %",
                ]
            state = "stopped" if way.is_stopped else "running"
            rows.append([state, f"{1000 * way.settle_s:.0f} ms", name, *cells])
    return rows


def log_ratios(rounds: Sequence[Mapping[str, Block]], name: str) -> list[float]:
    """Return the logarithm of the speed-up over the baseline of each undisturbed round."""
    both = [(made[BASELINE], made[name]) for made in rounds]
    return [
        float(np.log(np.median(base.samples_s) / np.median(block.samples_s)))
        for base, block in both
        if is_clean(base.run_delay_ratio) and is_clean(block.run_delay_ratio)
    ]


@click.command()
@click.argument("name", metavar="RUN")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--generations", default=4, show_default=True, help="Processes of each contender.")
@click.option("--rounds", default=10, show_default=True, help="Of each way, twice a generation.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results"))
def main(name: str, runs: Path, generations: int, rounds: int, out: Path) -> None:
    """Time rounds with the processes that wait stopped and running."""
    order = random.Random(0)
    (run,) = find_runs(runs, [name])
    found: Rounds = {way: [] for way in WAYS}
    for number in range(generations):
        click.echo(f"processes {number + 1} of {generations}", err=True)
        for way, made in time_generation(run, rounds, order).items():
            found[way] += made
    facts = describe_environment()
    text = (
        "# What the processes that wait do to the one that is timed\n\n"
        f"Blocks of {1000 * BLOCK_S:.0f} ms in turns, {2 * rounds * generations} rounds each in "
        f"{generations} processes of each contender. Disturbed: blocks whose threads waited for a "
        f"CPU for 5 % of the time or more. Speed-up over {BASELINE} and the spread of a round's "
        "(standard deviation): of undisturbed blocks.\n\n"
        f"{tabulate(table_of(found), HEADERS, tablefmt='github', disable_numparse=True)}\n\n"
        f"Machine: {facts['cpu']}, {facts['cores_usable']} usable cores; python "
        f"{facts['python']}, torch {facts['torch']}, onnxruntime {facts['onnxruntime']}.\n\n"
        f"    python -m benchmarks.idle_processes {name}\n"
    )
    sys.stdout.write(text)
    out.mkdir(parents=True, exist_ok=True)
    (out / "idle_processes.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
