"""What does the harness itself add to a timed step?

    python -m benchmarks.harness_overhead --out benchmarks/results

The fake backend takes a step of known length: its clock spins until the time is over. Blocks timed
by foldbench's own loop and blocks of a bare loop (a look at the clock before and after the step,
nothing else) take turns in one process, in random order. Each block gives its floor, the 5 %
quantile of its samples, which a busy machine moves little: a step that is interrupted ends no later
unless that happens at its very end. Printed are the difference within a pair of blocks, the ratio,
and what lies between two samples of foldbench's loop. The aim: less than 5 µs or 1 % of the step,
whichever is larger. It takes about half a minute.
"""

import gc
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles

import click
import numpy as np
from tabulate import tabulate

from foldbench.bench.analysis.clean import is_clean
from foldbench.bench.backends import Floats
from foldbench.bench.machine.environment import describe_environment
from foldbench.bench.machine.interference import measure_between, read_counters
from foldbench.bench.timing.loop import BlockOptions, time_block
from foldbench.bench.timing.simulation import FakeClock, FakeSession

LIMIT_S, LIMIT_RATIO = 5e-6, 0.01
STEPS_S = (0.0, 20e-6, 100e-6, 1e-3, 10e-3)
BLOCK_S = 0.02
BATCHES = 32


class SpinningClock(FakeClock):
    """A clock that lets time pass by waiting for it."""

    def advance(self, seconds: float) -> None:
        """Keep the CPU busy for `seconds`."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass


@dataclass(frozen=True)
class Pair:
    """One block of each loop; seconds."""

    ours_s: float
    """Floor of the samples that foldbench's loop gives."""
    bare_s: float
    between_s: float
    """Median from the end of one sample of foldbench's loop to the start of the next."""
    clean: bool
    """Whether no thread had to wait for a CPU in either block."""


@dataclass(frozen=True)
class Overhead:
    """What came of one length of step."""

    step_s: float
    """Asked for; making up the answers comes on top, in both loops."""
    pairs: tuple[Pair, ...]

    def limit_s(self) -> float:
        """Return how much may be added."""
        return max(LIMIT_S, LIMIT_RATIO * self.step_s)


class Subject:
    """The step, as both loops are given it."""

    def __init__(self, step_s: float) -> None:
        self.session = FakeSession(lambda size: step_s, SpinningClock())
        self.batches: Sequence[Floats] = [
            np.full((1, 3, 32, 32), number % 10, np.float32) for number in range(BATCHES)
        ]
        self.calls = max(20, min(2000, round(BLOCK_S / max(step_s, 10e-6))))
        self.options = BlockOptions(calls=self.calls, block_s=0.0, settle_s=0.0)

    def time_ours(self) -> tuple[float, float | None]:
        """Return the floor of one block of foldbench's loop, and its run_delay."""
        timed = time_block(self.session, self.batches, self.options, time.perf_counter)
        return floor_of(timed.block.samples_s), timed.block.run_delay_ratio

    def time_bare(self) -> tuple[float, float | None]:
        """Return the floor of as many steps in a bare loop, and its run_delay."""
        session, batches, clock, samples = self.session, self.batches, time.perf_counter, []
        before = read_counters()
        for number in range(self.calls):
            session.bind(batches[number % BATCHES])
            started = clock()
            session.step()
            samples.append(clock() - started)
        return floor_of(samples), measure_between(before, read_counters()).run_delay_ratio

    def time_between(self) -> float:
        """Return the median time between two samples, from a clock that keeps what it showed."""
        shown: list[float] = []

        def clock() -> float:
            shown.append(time.perf_counter())
            return shown[-1]

        time_block(self.session, self.batches, self.options, clock)
        samples = shown[-2 * self.calls :]
        return median(b - a for a, b in zip(samples[1::2], samples[2::2], strict=False))


def floor_of(samples_s: Sequence[float]) -> float:
    """Return the 5 % quantile."""
    return float(np.quantile(samples_s, 0.05))


def measure(pairs: int, order: random.Random) -> list[Overhead]:
    """Return `pairs` pairs of blocks of each step; the steps take turns."""
    subjects = [Subject(step_s) for step_s in STEPS_S]
    found: list[list[Pair]] = [[] for _ in STEPS_S]
    for _ in range(pairs):
        for index in order.sample(range(len(STEPS_S)), len(STEPS_S)):
            found[index].append(time_pair(subjects[index], ours_first=order.random() < 0.5))
    return [Overhead(step_s, tuple(of)) for step_s, of in zip(STEPS_S, found, strict=True)]


def time_pair(subject: Subject, ours_first: bool) -> Pair:
    """Return a block of each loop, one right after the other."""
    ours = subject.time_ours() if ours_first else None
    bare = subject.time_bare()
    ours = ours or subject.time_ours()
    clean = is_clean(ours[1]) and is_clean(bare[1])
    return Pair(ours[0], bare[0], subject.time_between(), clean)


def summarise(overhead: Overhead) -> list[str]:
    """Return one row of the table."""
    pairs = overhead.pairs
    added_s = [pair.ours_s - pair.bare_s for pair in pairs]
    low_s, _, high_s = quantiles(added_s, n=4)
    return [
        f"{overhead.step_s * 1e6:,.0f}",
        f"{median(pair.bare_s for pair in pairs) * 1e6:,.2f}",
        f"{median(added_s) * 1e6:+.2f}",
        f"{low_s * 1e6:+.2f} to {high_s * 1e6:+.2f}",
        f"{median(pair.ours_s / pair.bare_s for pair in pairs):.4f}",
        f"{overhead.limit_s() * 1e6:,.0f}",
        "yes" if median(added_s) < overhead.limit_s() else "NO",
        f"{median(pair.between_s for pair in pairs) * 1e6:.2f}",
        f"{sum(pair.clean for pair in pairs)} of {len(pairs)}",
    ]


@click.command()
@click.option("--pairs", default=100, show_default=True, help="Pairs of blocks of each step.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the table and the JSON.")
def main(pairs: int, out: Path | None) -> None:
    """Hold foldbench's timing loop against a bare one."""
    gc.freeze()  # as a worker does
    report(measure(pairs, random.Random(0)), pairs, out)


def report(found: Sequence[Overhead], pairs: int, out: Path | None) -> None:
    """Print the table and store it with every pair."""
    headers = [
        "step µs",
        "bare loop µs",
        "added µs",
        "middle half µs",
        "ratio",
        "limit µs",
        "below",
        "between samples µs",
        "clean pairs",
    ]
    rows = [summarise(overhead) for overhead in found]
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True, stralign="right")
    facts = describe_environment()
    text = (
        "# What does the harness add to a timed step?\n\n"
        "A step of the fake backend, whose length is known, in foldbench's timing loop and in a "
        "bare loop around it, in turns.\n\n"
        f"{table}\n\n"
        "Each block gives its floor, the 5 % quantile of its samples. Added: median of the pairs' "
        "differences, foldbench's loop minus the bare one; the middle half shows the spread. "
        "Ratio: of the same. Limit: 5 µs or 1 % of the step, whichever is larger. Between samples: "
        "what a call costs of the budget and in no sample. The bare loop's time is above the "
        "step's because the fake backend makes up answers. Clean pairs: those in which no thread "
        "had to wait for a CPU, of all.\n\n"
        f"Machine: {facts['cpu']}, {facts['cores_usable']} usable cores, load average "
        f"{facts.get('load_1min')} at the end; python {facts['python']}, foldbench "
        f"{facts['foldbench']}.\n\n"
        f"    python -m benchmarks.harness_overhead --pairs {pairs}\n"
    )
    sys.stdout.write(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "harness_overhead.md").write_text(text, encoding="utf-8")
        stored = {"environment": facts, "steps": [asdict(overhead) for overhead in found]}
        (out / "harness_overhead.json").write_text(
            json.dumps(stored, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
