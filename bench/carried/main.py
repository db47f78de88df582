"""Run a bundle: verify the answers, time in rounds, print a table, write a record."""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from foldbench.bench import units
from foldbench.bench.carried.intervals import estimate_speedup
from foldbench.bench.carried.rows import Row, Sample, Timed, agreement
from foldbench.bench.errors import BenchError
from foldbench.bench.machine.environment import describe_environment, usable_cores
from foldbench.bench.machine.interference import measure_foreign_load
from foldbench.bench.privacy import protect
from foldbench.bench.samples.ratios import ASSUMED_FREEDOM, assumed_sd
from foldbench.bench.samples.timing import Block
from foldbench.bench.store.files import write_text
from foldbench.bench.timing.loop import BlockOptions
from foldbench.bench.timing.schedule import RoundPlan, run_rounds
from foldbench.bench.workers.protocol import Job


@dataclass(frozen=True)
class Settings:
    """How a bundle is measured."""

    batch_sizes: tuple[int, ...]
    rounds: int
    budget_s: float
    processes: int
    calls: int
    block_s: float
    settle_s: float
    warm_up_s: float
    seed: int


@dataclass(frozen=True)
class _Bundle:
    """What a bundle holds, and how it is measured here."""

    folder: Path
    manifest: Mapping[str, Any]
    sample: Sample
    settings: Settings
    threads: int


def main(folder: Path, arguments: Sequence[str]) -> int:
    """Measure the bundle that lies unpacked in `folder`; return the exit code."""
    protect()
    try:
        return _run(folder, _parse(arguments))
    except BenchError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("Interrupted: nothing was written", file=sys.stderr)  # noqa: T201
        return 130


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 NAME.pyz",
        description="Verify the answers of the networks in this file here, and time them in turns.",
    )
    parser.add_argument("--output", metavar="FILE", help="write the record there (bench report)")
    parser.add_argument("--threads", type=int, metavar="N", help="for one operator [all cores]")
    parser.add_argument(
        "--budget", type=seconds, metavar="SECONDS", help="most time for the rounds"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="undisturbed rounds wanted")
    parser.add_argument("--batch-sizes", metavar="N[,N]...", help="images in one call")
    options = parser.parse_args(arguments)
    sizes = options.batch_sizes.split(",") if options.batch_sizes else []
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        parser.error("--batch-sizes: give numbers, such as 1,16")
    for name in ("threads", "budget", "rounds"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            parser.error(f"--{name} has to be more than 0")
    options.batch_sizes = tuple(map(int, sizes))
    return options


def seconds(text: str) -> float:
    """Return the seconds of ``200s``, as notes in reports have it, or of ``200``."""
    return float(text.removesuffix("s"))


def _run(folder: Path, options: argparse.Namespace) -> int:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    asked = {"budget_s": options.budget, "rounds": options.rounds}
    asked |= {"batch_sizes": options.batch_sizes}
    settings = Settings(**manifest["settings"] | {k: v for k, v in asked.items() if v})
    labels = folder / "labels.npy"
    sample = Sample(
        folder / "images.npy",
        np.load(labels, allow_pickle=False) if labels.exists() else None,
        np.load(folder / "expected.npy", allow_pickle=False),
    )
    threads = min(options.threads or usable_cores(), usable_cores())
    bundle = _Bundle(folder, manifest, sample, settings, threads)
    rows = [Row(about, folder) for about in manifest["rows"]]
    environment, foreign = describe_environment(), measure_foreign_load()
    try:
        _measure(bundle, rows)
    finally:
        for row in rows:
            row.close()
    record = manifest["record"] | {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment,
        "command": ["python3", manifest["file"], *_shown(options)],
        "rounds": settings.rounds,
        "budget_s": settings.budget_s,
        "foreign_load_cores": foreign,
        "measurements": _measurements(bundle, rows, environment),
    }
    print("\n".join(_table(bundle, rows, environment)))  # noqa: T201
    if options.output:
        write_text(Path(options.output), json.dumps(record) + "\n")
        print(f"written: {options.output}", file=sys.stderr)  # noqa: T201
    failed = any(row.status == "failed" for row in rows)
    return 1 if failed or not any(row.is_ok for row in rows) else 0


def _measurements(
    bundle: _Bundle, rows: Sequence[Row], environment: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the rows of the record, each with what comparisons here are assumed to differ by."""
    found = [row.to_record(bundle.sample, bundle.manifest["protocol"]) for row in rows]
    base = _baseline(bundle.manifest, {row.name: row for row in rows})
    for measurement in found:
        if base and measurement["role"] == "contender" and measurement["contender"] != base:
            sd = assumed_sd(environment, measurement.get("actual_device"))
            between = {"sd": sd, "freedom": ASSUMED_FREEDOM, "comparisons": 1}
            measurement["timings"] = [
                {**timing, "between_comparisons": between} for timing in measurement["timings"]
            ]
    return found


def _shown(options: argparse.Namespace) -> list[str]:
    """Return the options that say how it was measured, without any path."""
    sizes = ",".join(map(str, options.batch_sizes))
    asked = {"threads": options.threads, "budget": options.budget, "rounds": options.rounds}
    named = {**asked, "batch-sizes": sizes}
    return [text for key, value in named.items() if value for text in (f"--{key}", f"{value}")]


def _measure(bundle: _Bundle, rows: Sequence[Row]) -> None:
    """Verify the answers, then time by one generation of processes after the other."""
    settings = bundle.settings
    order = random.Random(settings.seed)
    left_s = settings.budget_s
    for process in range(1, settings.processes + 1):
        started = time.monotonic()
        for row in rows:
            if row.is_ok:
                _say(f"process {process} of {settings.processes}: {row.name}")
                row.start(_job(bundle, row))
                if process == 1:
                    row.verify(bundle.sample.expected)
        if process > 1:
            left_s -= time.monotonic() - started
        if process > 1 and left_s <= 0:
            break
        left = settings.processes - process + 1
        left_s -= _time_generation(bundle, rows, process, left_s / left, order)
    for row in rows:
        if row.worker is not None:
            row.memory_bytes = row.worker.memory()


def _time_generation(
    bundle: _Bundle, rows: Sequence[Row], process: int, share_s: float, order: random.Random
) -> float:
    """Time the rounds of one generation; return the seconds that they took."""
    settings, began = bundle.settings, time.monotonic()
    for done, size in enumerate(settings.batch_sizes):
        alive = {row.name: row for row in rows if row.is_ok and _takes(row, size)}
        for row in alive.values():
            _warm_up(row, size, settings.warm_up_s if process == 1 else settings.settle_s)
        alive = {name: row for name, row in alive.items() if row.is_ok}
        spent_s = time.monotonic() - began
        here_s = max(0.0, share_s - spent_s) / (len(settings.batch_sizes) - done)
        plan = RoundPlan(max(1, ceil(settings.rounds / settings.processes)), here_s)
        base = _baseline(bundle.manifest, alive)
        before = max((b.round for r in alive.values() for b in r.timed[size].blocks), default=0)
        options = BlockOptions(settings.calls, settings.block_s, settings.settle_s)

        def reference(name: str, base: str | None = base) -> str | None:
            return base

        def time_one(
            name: str,
            number: int,
            size: int = size,
            alive: Mapping[str, Row] = alive,
            before: int = before,
            options: BlockOptions = options,
        ) -> Block | None:
            row = alive[name]
            try:
                block, calls = _worker(row).time(size, options)
            except BenchError as error:
                row.fail(str(error))
                return None
            block = replace(block, round=before + number, process=process)
            row.timed[size].blocks.append(block)
            row.timed[size].untimed_calls += calls
            return block

        _say(f"batch {size}, process {process} of {settings.processes}")
        made = run_rounds(list(alive), reference, time_one, plan, order, _now)
        for name in made.blocks:
            alive[name].timed[size].stopped = made.stopped
    return time.monotonic() - began


def _warm_up(row: Row, size: int, least_s: float) -> None:
    try:
        warm = _worker(row).warm_up(size, least_s)
    except BenchError as error:
        row.fail(str(error))
        return
    row.timed.setdefault(size, Timed(warm)).untimed_calls += warm.calls


def _worker(row: Row) -> Any:
    if row.worker is None:
        raise BenchError("no process runs it any more")
    return row.worker


def _now() -> float:
    return time.monotonic()


def _takes(row: Row, size: int) -> bool:
    return row.about["fixed_batch"] in (None, size)


def _baseline(manifest: Mapping[str, Any], rows: Mapping[str, Row]) -> str | None:
    """Return the row that others are held against; None where it does not run."""
    name = f"{manifest['record']['baseline']}/cpu"
    return name if name in rows else None


def _job(bundle: _Bundle, row: Row) -> Job:
    manifest = bundle.manifest
    return Job(
        backend=row.about["backend"],
        device=row.about["device"],
        threads=bundle.threads,
        variant=row.about["variant"],
        folder=bundle.folder,
        path=row.path,
        images=bundle.sample.images,
        mean=tuple(manifest["mean"]),
        std=tuple(manifest["std"]),
        classes=manifest["classes"],
        batch_size=manifest["batch_size"],
        first_batch_size=bundle.settings.batch_sizes[0],
        fixed_batch=row.about["fixed_batch"],
    )


def _table(bundle: _Bundle, rows: Sequence[Row], environment: Mapping[str, Any]) -> list[str]:
    """Return the lines that are printed."""
    cpu, cores = environment.get("cpu") or "unknown CPU", environment.get("cores_usable")
    lines = [f"{bundle.manifest['title']} on {cpu}, {cores} usable cores", ""]
    heads = f"{'contender':32} {'batch':>5} {'median ms':>10} {'images/s':>9}"
    lines += [f"{heads} {'speed-up':>9} {'95 % CI':>10}"]
    by_name = {row.name: row for row in rows}
    base = by_name.get(_baseline(bundle.manifest, by_name) or "")
    for size in bundle.settings.batch_sizes:
        for row in rows:
            if size in row.timed and row.timed[size].blocks:
                lines.append(_line(row, size, base, environment))
    lines += [""]
    for row in rows:
        if row.about["role"] != "contender":
            continue
        if row.reason is not None:
            lines.append(f"{row.status}: {row.name}: {row.reason}")
        elif row.logits is not None:
            found = agreement(row.logits, bundle.sample.expected)
            lines.append(
                f"answers: {row.name}: same class on {found['top1_equal']} of {found['images']}, "
                f"largest difference {units.short_error(found['max_abs_difference'])}"
            )
    return [*lines, *_unseen(rows)]


def _line(row: Row, size: int, base: Row | None, environment: Mapping[str, Any]) -> str:
    blocks = row.timed[size].blocks
    theirs = base.timed[size].blocks if base and size in base.timed else []
    middle = median(median(block.samples_s) for block in blocks)
    assumed = assumed_sd(environment, row.opened.device if row.opened else None)
    found = (1.0, None, None) if row is base else estimate_speedup(blocks, theirs, assumed)
    ratio, interval = units.estimate(*found) if found else ("", "")
    shown = f"{units.milliseconds(middle):>10} {units.count(round(size / middle)):>9}"
    return f"{row.name:32} {size:>5} {shown} {ratio:>9} {interval:>10}".rstrip()


def _unseen(rows: Sequence[Row]) -> list[str]:
    """Say what this machine does not tell about itself."""
    blocks = [b for row in rows for timed in row.timed.values() for b in timed.blocks]
    if not blocks:
        return []
    missing = []
    for name, what in (
        ("run_delay_ratio", "how long threads waited for a CPU"),
        ("pressure_ratio", "whether other programs waited (PSI)"),
    ):
        if all(asdict(block)[name] is None for block in blocks):
            missing.append(what)
    if all(block.clocks is None or block.clocks.cpu_mhz is None for block in blocks):
        missing.append("the processor's clock")
    return [f"not to be seen here: {', '.join(missing)}"] if missing else []


def _say(text: str) -> None:
    if os.environ.get("FOLDBENCH_QUIET") is None:
        print(text, file=sys.stderr)  # noqa: T201
