"""Is the ratio right on a noisy machine? This protocol against the usual way, beside a neighbour.

    python -m benchmarks.protocol_study RUN --trials 20 --out benchmarks/results

Compares torch eager with the folded file in onnxruntime (batch 1) over and over while a busy
neighbour comes and goes, in turns with this protocol and the usual way: all calls of the one, then
all of the other, in one process, and an interval from resampled calls. Before and after, a long
comparison on the quiet machine says what is right. Needs a run that is trained and exported
(`bench run digits`), and about 20 minutes in which nothing else runs.
"""

import json
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
from tabulate import tabulate

from foldbench.bench.analysis.clean import round_ratios
from foldbench.bench.analysis.estimates import Ratio, largest_gap
from foldbench.bench.analysis.speedups import Speedup, measure_speedup
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.machine.environment import describe_environment, usable_cores
from foldbench.bench.measure.contenders import Subject, contenders_of, list_self_checks
from foldbench.bench.measure.latency import measure_latency
from foldbench.bench.measure.running import Contender
from foldbench.bench.measure.series import MeasurementSeries, Times, to_timing
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Measurement
from foldbench.bench.store.finding import find_runs
from foldbench.bench.workers.client import WorkerClient
from foldbench.bench.workers.protocol import Job

BATCH_SIZE = 1
IMAGES = 256
ON_S, OFF_S = 1.5, 2.5
USUAL_S = 5.0


@dataclass(frozen=True)
class Trial:
    """One estimate of the speed-up."""

    ratio: float
    low: float
    high: float
    flagged: str
    """What the harness itself says against it; empty for nothing."""
    duration_s: float
    clean_rounds: int = 0
    rounds: int = 0
    noise_floor: float | None = None


def spin(active) -> None:
    """Keep a core busy while `active` is set, and end with the process that began it."""
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():
        if active.wait(1.0):
            for _ in range(200_000):
                pass


def switch(actives, seed: int, stop) -> None:
    """Let one or two neighbours come and go, for exponentially distributed times."""
    chance = random.Random(seed)
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive() and not stop.wait(chance.expovariate(1 / OFF_S)):
        chosen = actives[: chance.choice((1, 2))]
        for active in chosen:
            active.set()
        stop.wait(chance.expovariate(1 / ON_S))
        for active in chosen:
            active.clear()


@contextmanager
def neighbour(seed: int) -> Iterator[None]:
    """Have busy neighbours come and go."""
    context = multiprocessing.get_context("spawn")
    actives, stop = [context.Event(), context.Event()], context.Event()
    processes = [context.Process(target=spin, args=(a,), daemon=True) for a in actives]
    processes.append(context.Process(target=switch, args=(actives, seed, stop), daemon=True))
    for process in processes:
        process.start()
    time.sleep(2)
    try:
        yield
    finally:
        stop.set()
        for process in processes:
            process.kill()
            process.join()


def measure_ours(contenders: Sequence[Contender], rounds: int, budget_s: float, seed: int) -> Trial:
    """Return one comparison by this project's protocol, on workers that are alive already."""
    for contender in contenders:
        contender.result.times = Times()
    settings = CompareSection(
        batch_sizes=(BATCH_SIZE,), rounds=rounds, budget_s=budget_s, seed=seed
    )
    started = time.monotonic()
    measure_latency(contenders, settings, NullListener())
    duration_s = time.monotonic() - started
    measured = [to_row(contender) for contender in contenders]
    run = SimpleNamespace(measurements=measured, rounds=rounds)
    subject = next(m for m in measured if m.backend == "ort")
    found = measure_speedup(run, subject, BATCH_SIZE)
    if found is None:
        raise SystemExit(f"a contender failed: {[c.result.reason for c in contenders]}")
    ratio = found.ratio or Ratio(found.floor_ratio or float("nan"), None, None, 0)
    return Trial(
        ratio=ratio.point,
        low=ratio.low or ratio.point,
        high=ratio.high or ratio.point,
        flagged=flags(measured, found),
        duration_s=duration_s,
        clean_rounds=found.clean_rounds,
        rounds=found.rounds,
        noise_floor=found.noise_floor,
    )


def to_row(contender: Contender) -> Measurement:
    """Return the contender's record, without accuracy."""
    return Measurement(
        contender=contender.name,
        role=contender.spec.role,
        backend=contender.spec.backend,
        variant=contender.spec.variant,
        requested_device=contender.spec.device,
        actual_device=contender.spec.device,
        status=contender.result.status,
        timings=(to_timing(contender.result.times, MeasurementSeries(BATCH_SIZE)),),
    )


def flags(measured: Sequence[Measurement], found: Speedup) -> str:
    """Return what the stored blocks say against the estimate."""
    said = []
    if found.ratio is None:
        said.append("floor ratio")
    if found.noise_floor is None or found.noise_floor > 0.03:
        said.append("reference differs from itself")
    reference = next(m for m in measured if m.role == "contender" and m.backend == "torch")
    for one in (m for m in measured if m.role == "one_thread"):
        gap = largest_gap(round_ratios(one.timings[0], reference.timings[0]))
        if gap is not None and gap > 0.05:
            said.append("state changed")
    return ", ".join(said)


def measure_usual(calls, seconds: float, seed: int) -> Trial:
    """Return the ratio of medians of all calls, one contender after the other, in this process."""
    started = time.monotonic()
    samples = [time_all(call, seconds) for call in calls]
    generator = np.random.default_rng(seed)
    draws = [
        [np.median(generator.choice(s, len(s))) for _ in range(500)] for s in map(np.array, samples)
    ]
    low, high = np.quantile(np.array(draws[0]) / np.array(draws[1]), (0.025, 0.975))
    ratio = statistics.median(samples[0]) / statistics.median(samples[1])
    return Trial(ratio, float(low), float(high), "", time.monotonic() - started)


def time_all(call, seconds: float) -> list[float]:
    """Return the seconds of each call, made back to back after a short warm-up."""
    for _ in range(20):
        call()
    samples, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        call()
        samples.append(time.perf_counter() - started)
    return samples


def usual_calls(job: Job, images: np.ndarray, onnx_path: Path):
    """Return the two contenders as plain functions, as a script in a notebook would have them."""
    import onnxruntime
    import torch

    from foldbench.bench.store.directory import RunDirectory
    from foldbench.models.building.checkpoint import load_checkpoint

    torch.set_num_threads(usable_cores())
    module = load_checkpoint(RunDirectory(job.folder).checkpoint(), job.folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    session = onnxruntime.InferenceSession(
        str(onnx_path), options, providers=["CPUExecutionProvider"]
    )
    x = images[:BATCH_SIZE]
    tensor = torch.from_numpy(x)

    def run_torch() -> None:
        with torch.inference_mode():
            module(tensor).numpy()

    return run_torch, lambda: session.run(None, {"input": x})


def summarise(name: str, trials: Sequence[Trial], truth: float) -> list[str]:
    """Return a row: spread, error and coverage of the estimates."""
    ratios = np.array([t.ratio for t in trials])
    if not len(ratios):
        return [name, "0"]
    errors = np.abs(ratios / truth - 1)
    misses = [max(t.low / truth - 1, 1 - t.high / truth) for t in trials]
    covered = sum(miss <= 0 for miss in misses)
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return [
        name,
        str(len(ratios)),
        f"{middle:.3f}",
        f"{100 * (high - low) / middle:.1f} %",
        f"{100 * ratios.std(ddof=1) / middle:.1f} %" if len(ratios) > 1 else "",
        f"{ratios.min():.2f} to {ratios.max():.2f}",
        f"{int((errors <= 0.03).sum())} of {len(ratios)}",
        f"{100 * errors.max():.1f} %",
        f"{covered} of {len(ratios)}",
        f"{100 * max(0.0, *misses):.2f} %",
        f"{100 * np.median([(t.high - t.low) / 2 / t.ratio for t in trials]):.1f} %",
    ]


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--trials", default=20, show_default=True)
@click.option("--budget", default=45.0, show_default=True, help="Seconds for one comparison.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the table and the JSON.")
def main(run_name: str, runs: Path, trials: int, budget: float, out: Path | None) -> None:
    """Repeat one comparison beside a busy neighbour, with this protocol and the usual way."""
    (run,) = find_runs(runs, [run_name])
    checkpoint = run.checkpoint()
    subject = Subject(
        run.path, checkpoint, tuple(a for a in run.artifacts() if a.variant == "folded")
    )
    threads = usable_cores()
    specs = [spec for spec in contenders_of(subject, "torch", "cpu") if spec.variant == "unfolded"]
    specs += contenders_of(subject, "ort", "cpu")
    specs += list_self_checks(specs, threads)
    contenders = [Contender(spec) for spec in specs]
    shape = checkpoint.preprocessing.input_shape
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.save(path, pixels)
        for contender in contenders:
            job = Job(
                contender.spec.backend,
                contender.spec.device,
                1 if contender.spec.role == "one_thread" else threads,
                contender.spec.variant,
                run.path,
                contender.spec.path or path,
                path,
                checkpoint.preprocessing.mean,
                checkpoint.preprocessing.std,
                len(checkpoint.classes),
                64,
            )
            contender.worker = WorkerClient(job)
            contender.require_worker().open()
            contender.require_worker().evaluate()
        try:
            results = study(contenders, job, pixels, trials, budget)
        finally:
            for contender in contenders:
                contender.close()
    report(results, run.name, trials, budget, out)


def study(contenders, job: Job, pixels: np.ndarray, trials: int, budget: float) -> dict:
    """Return the quiet comparisons and the trials of both ways."""
    from foldbench.bench.images.normalization import normalize

    images = normalize(pixels[:8], job.mean, job.std)
    calls = usual_calls(
        job, images, next(c.spec.path for c in contenders if c.spec.backend == "ort")
    )
    results: dict[str, list[Trial]] = {"quiet": [], "ours": [], "usual": [], "quiet usual": []}

    def quiet() -> None:
        for seed in range(3):
            results["quiet"].append(measure_ours(contenders, 20, 60.0, seed))
            say("quiet", results["quiet"][-1])
        results["quiet usual"].append(measure_usual(calls, USUAL_S, 0))
        say("quiet, usual way", results["quiet usual"][-1])

    quiet()
    with neighbour(seed=1):
        for seed in range(trials):
            ways = ["ours", "usual"]
            random.Random(seed).shuffle(ways)
            for way in ways:
                trial = (
                    measure_ours(contenders, 20, budget, seed)
                    if way == "ours"
                    else measure_usual(calls, USUAL_S, seed)
                )
                results[way].append(trial)
                say(way, trial)
    quiet()
    return results


def say(way: str, trial: Trial) -> None:
    """Write one line of progress."""
    click.echo(
        f"{way:>16}: {trial.ratio:.3f} [{trial.low:.3f}, {trial.high:.3f}]  "
        f"{trial.clean_rounds}/{trial.rounds} clean  {trial.duration_s:.0f} s  {trial.flagged}",
        err=True,
    )


def report(
    results: dict[str, list[Trial]], run: str, trials: int, budget: float, out: Path | None
) -> None:
    """Print the table and store it with every trial."""
    quiet = [t.ratio for t in results["quiet"]]
    truth = statistics.median(quiet)
    unflagged = [t for t in results["ours"] if not t.flagged]
    rows = [
        summarise("quiet, this protocol", results["quiet"], truth),
        summarise("neighbour, this protocol, not flagged", unflagged, truth),
        summarise("neighbour, this protocol, all", results["ours"], truth),
        summarise("quiet, usual way", results["quiet usual"], truth),
        summarise("neighbour, usual way", results["usual"], truth),
    ]
    headers = [
        "way",
        "trials",
        "median",
        "IQR",
        "SD",
        "range",
        "within 3 %",
        "worst",
        "covered",
        "missed by",
        "± (median)",
    ]
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    facts = describe_environment()
    # The median of normal values varies by sqrt(pi / 2) of what their mean does.
    error = 1.25 * statistics.stdev(quiet) / truth / len(quiet) ** 0.5
    text = (
        f"# Is the ratio right beside a busy neighbour?\n\n"
        f"Speed-up of the folded file in onnxruntime over torch eager, batch {BATCH_SIZE}, run "
        f"{run}. What is right: {truth:.3f}, the median of the quiet comparisons, "
        f"± {100 * error:.1f} % (1.25 of their standard error).\n\n{table}\n\n"
        "Spread: IQR and SD, in % of the median. Within 3 %, worst: distance from what is right. "
        "Covered: intervals that hold it; missed by: how far off the farthest of the others ends. "
        "±: half the interval.\n\n"
        f"Neighbours: one or two busy loops, on for {ON_S} s and off for {OFF_S} s on average "
        f"(exponential). Usual way: {USUAL_S:g} s of calls of the one, then of the other, in one "
        "process; interval from resampled calls.\n\n"
        f"Machine: {facts['cpu']}, {facts['cores_usable']} usable cores; python {facts['python']}, "
        f"torch {facts['torch']}, onnxruntime {facts['onnxruntime']}.\n\n"
        f"    python -m benchmarks.protocol_study {run} --trials {trials} --budget {budget:g}\n"
    )
    sys.stdout.write(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "protocol_study.md").write_text(text, encoding="utf-8")
        stored = {way: [asdict(t) for t in found] for way, found in results.items()}
        stored_text = json.dumps({"truth": truth, "environment": facts, "trials": stored}, indent=1)
        (out / "protocol_study.json").write_text(stored_text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
