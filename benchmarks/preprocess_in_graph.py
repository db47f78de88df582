"""What does preprocessing inside the .onnx file cost, against preprocessing outside?

    bench export RUN --with-preprocess
    python -m benchmarks.preprocess_in_graph RUN photo.jpg --out benchmarks/results

Both ways get a decoded photo (H, W, 3) uint8 and end with probabilities in host memory. Outside:
Pillow resizes, numpy normalises, onnxruntime runs the exported network, scipy does softmax. Inside:
onnxruntime does all of it. Each way lives in a process of its own, and in every round each is timed
once, in random order. Rounds in which threads waited for a CPU are kept in the record and left out
of the ratio. Give the machine two minutes in which nothing else runs.
"""

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from scipy.special import softmax
from tabulate import tabulate

from foldbench.bench.analysis.clean import is_clean
from foldbench.bench.analysis.estimates import median_or_none, median_ratio
from foldbench.bench.backends import Closing, Floats, NetworkSource, Session
from foldbench.bench.errors import BenchError
from foldbench.bench.images.preprocessing import preprocess
from foldbench.bench.machine.environment import describe_environment, usable_cores
from foldbench.bench.predict.image_model import find_image_model, open_image_model
from foldbench.bench.predict.picture import fit_picture, open_picture
from foldbench.bench.registry import BACKENDS
from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.store.files import write_text
from foldbench.bench.store.finding import find_runs
from foldbench.bench.timing.loop import BlockOptions, TimedCalls, time_block

WAYS = ("outside", "inside")
OPTIONS = BlockOptions(calls=10, block_s=0.15, settle_s=0.1)


class Outside(Closing):
    """A session that takes images: preprocessing before the exported network, softmax behind it."""

    def __init__(self, run: RunDirectory, variant: str) -> None:
        (artifact,) = (a for a in run.artifacts() if a.variant == variant)
        source = NetworkSource(path=run.path / artifact.path, build_module=lambda: None)
        self._session: Session = BACKENDS.load("ort").open_session(
            source, device="cpu", threads=usable_cores()
        )
        self._preprocessing = run.checkpoint().preprocessing
        self.device, self.runtime = self._session.device, self._session.runtime
        self.threads, self.precision = self._session.threads, self._session.precision

    def bind(self, x: Any) -> None:
        """Take one image (1, H, W, 3) uint8."""
        pixels = fit_picture(Image.fromarray(x[0]), self._preprocessing, "the image")
        self._session.bind(preprocess(pixels, self._preprocessing))

    def step(self) -> None:
        """Run the network."""
        self._session.step()

    def synchronize(self) -> None:
        """Wait for the network."""
        self._session.synchronize()

    def output(self) -> Floats:
        """Return probabilities (1, classes)."""
        return softmax(self._session.output(), axis=1)

    def close(self) -> None:
        """Free the network."""
        self._session.__exit__(None, None, None)


def open_way(run: RunDirectory, way: str) -> Session:
    """Return the session for one way; raise BenchError when the run has no such file."""
    model = find_image_model(run)
    if model is None:
        raise BenchError(f"run bench export {run.name} --with-preprocess first")
    return open_image_model(run, model) if way == "inside" else Outside(run, model.variant)


@dataclass(frozen=True)
class TimedBlock:
    """One way in one round."""

    way: str
    round: int
    samples_s: tuple[float, ...]
    clean: bool


def serve(connection: Connection, folder: Path, way: str, photo: Path) -> None:
    """Time a block whenever the parent asks; runs in a process of its own."""
    image = np.asarray(open_picture(photo))[None]
    with open_way(RunDirectory(folder), way) as session:
        while connection.recv():
            images: Any = [image]
            connection.send(time_block(session, images, OPTIONS, time.perf_counter))


def measure(
    ask: Callable[[str], TimedCalls], rounds: int, budget_s: float, seed: int = 0
) -> list[TimedBlock]:
    """Return the blocks of at least `rounds` rounds with both ways clean, or of `budget_s`."""
    order, blocks, clean = random.Random(seed), [], 0
    started, number = time.monotonic(), 0
    while clean < rounds and time.monotonic() - started < budget_s:
        number += 1
        made = []
        for way in order.sample(WAYS, len(WAYS)):
            timed = ask(way)
            undisturbed = is_clean(timed.block.run_delay_ratio)
            made.append(TimedBlock(way, number, timed.block.samples_s, undisturbed))
        blocks += made
        clean += all(block.clean for block in made)
    return blocks


def summarise(blocks: list[TimedBlock]) -> dict[str, Any]:
    """Return medians and the ratio, outside over inside, of the rounds with both ways clean."""
    kept = {b.round for b in blocks} - {b.round for b in blocks if not b.clean}
    by_way = {
        w: {b.round: b.samples_s for b in blocks if b.way == w and b.round in kept} for w in WAYS
    }
    ratio = median_ratio(by_way["outside"], by_way["inside"])
    return {
        "rounds": len({b.round for b in blocks}),
        "clean_rounds": len(kept),
        "median_s": {
            w: median_or_none([s for block in by_way[w].values() for s in block]) for w in WAYS
        },
        "ratio": asdict(ratio) if ratio else None,
    }


def to_markdown(found: dict[str, Any], network: str, size: tuple[int, int]) -> str:
    """Return the result as a table with its conditions."""
    ratio = found["ratio"]
    rows = [
        [w, "" if found["median_s"][w] is None else f"{1e3 * found['median_s'][w]:.2f}"]
        for w in WAYS
    ]
    interval = (
        f"{ratio['point']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"
        if ratio and ratio["low"] is not None
        else "not enough clean rounds"
    )
    table = tabulate(rows, headers=["preprocessing", "median ms"], tablefmt="github")
    return (
        f"{network}, one photo of {size[0]}x{size[1]} pixels, uint8 in, probabilities out, "
        f"{usable_cores()} threads\n\n{table}\n\n"
        f"Time outside over time inside, 95 % interval: {interval}, "
        f"{found['clean_rounds']} of {found['rounds']} rounds clean.\n"
    )


@click.command(help=__doc__)
@click.argument("name")
@click.argument("photo", type=click.Path(path_type=Path, exists=True))
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True)
@click.option("--rounds", default=20, show_default=True)
@click.option("--budget", default=120.0, show_default=True, help="Seconds.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the result.")
def main(name: str, photo: Path, runs: Path, rounds: int, budget: float, out: Path | None) -> None:
    """Measure and print."""
    (run,) = find_runs(runs, [name])
    context = get_context("spawn")
    lines = {}
    for way in WAYS:
        lines[way], child_end = context.Pipe()
        process = context.Process(target=serve, args=(child_end, run.path, way, photo), daemon=True)
        process.start()
        child_end.close()

    def ask(way: str) -> TimedCalls:
        lines[way].send(True)
        answer: TimedCalls = lines[way].recv()
        return answer

    blocks = measure(ask, rounds, budget)
    for line in lines.values():
        line.send(False)
    found = summarise(blocks)
    text = to_markdown(found, run.checkpoint().network, open_picture(photo).size)
    click.echo(text)
    if out is not None:
        record = {**found, "environment": describe_environment(), "blocks": [*map(asdict, blocks)]}
        write_text(out / "preprocess_in_graph.json", json.dumps(record, indent=1) + "\n")
        write_text(out / "preprocess_in_graph.md", text)


if __name__ == "__main__":
    main()
