"""Does an interval hold when the comparison is run again? Whole comparisons in fresh processes.

    python -m benchmarks.repeatability RUN --times 20 --out benchmarks/results -- --budget 2m

Runs `bench compare RUN` again and again, with the options after `--`, and counts, row by row, how
many intervals hold the pooled value and how many pairs of verdicts contradict one another. The run
keeps the comparisons, and each learns from those before it. What was found is in
`repeatability.jsonl`, a line for each comparison, and the same command resumes after the last one.
`--quick` makes three short ones: less than 5 minutes on 2 cores.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import combinations
from pathlib import Path

import click
import numpy as np
from tabulate import tabulate

from benchmarks.protocol_study import neighbour
from foldbench.bench.machine.environment import describe_environment
from foldbench.bench.records import Run
from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.store.finding import find_runs
from foldbench.reports.rows.latency import latency_rows

QUICK_TIMES = 3
QUICK = ("--batch-sizes", "1", "--budget", "40s", "--rounds", "9", "--set", "compare.processes=3")

Line = Mapping[str, float | int | str | bool | None]
"""One row of one comparison."""


def lines_of(record: Run) -> list[dict]:
    """Return the rows of a comparison that have an interval."""
    return [
        {
            "contender": row.contender,
            "batch_size": row.batch_size,
            "boundary": row.boundary,
            "ratio": row.speedup_ratio,
            "low": row.speedup_low,
            "high": row.speedup_high,
            "verdict": row.verdict,
            "claimed": row.is_claimed,
            "rounds": row.interval_rounds,
            "processes": row.interval_processes,
        }
        for row in latency_rows(record)
        if row.speedup_low is not None
    ]


def summarise(lines: Sequence[Line]) -> dict[str, float | int]:
    """Return what the comparisons' figures for one row agree on.

    The pooled value is the geometric mean of their ratios. Apart are pairs of intervals that do not
    touch, contradicting are pairs of verdicts, one faster and one slower.
    """
    ratios, low, high = (
        np.asarray([line[name] for line in lines], float) for name in ("ratio", "low", "high")
    )
    pooled = float(np.exp(np.log(ratios).mean()))
    pairs = list(combinations(range(len(lines)), 2))
    verdicts = [line["verdict"] for line in lines]
    return {
        "comparisons": len(lines),
        "pooled": pooled,
        "held": int(((low <= pooled) & (pooled <= high)).sum()),
        "apart": sum(low[i] > high[j] or low[j] > high[i] for i, j in pairs),
        "pairs": len(pairs),
        "contradicting": sum({verdicts[i], verdicts[j]} == {"faster", "slower"} for i, j in pairs),
        "spread": float(np.log(ratios).std(ddof=1)) if len(lines) > 1 else float("nan"),
        "half_width": float(np.median((high - low) / 2 / ratios)),
    }


def table_of(comparisons: Sequence[Sequence[Line]]) -> list[list[str]]:
    """Return a row for each contender, batch size and boundary."""
    by_row: dict[tuple, list[Line]] = {}
    for rows in comparisons:
        for line in rows:
            key = line["contender"], line["batch_size"], line["boundary"]
            by_row.setdefault(key, []).append(line)
    table = []
    for (contender, batch_size, boundary), lines in by_row.items():
        found = summarise(lines)
        verdicts = [str(line["verdict"]) for line in lines]
        told = [f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts)]
        table.append(
            [
                f"{contender}{', device' * (boundary == 'device')}",
                str(batch_size),
                f"{found['pooled']:.3f}",
                f"{found['held']} of {found['comparisons']}",
                f"{found['apart']} of {found['pairs']}",
                f"{100 * found['spread']:.1f} %",
                f"±{100 * found['half_width']:.1f} %",
                ", ".join(told),
                str(found["contradicting"]),
            ]
        )
    return table


HEADERS = (
    *("contender", "batch", "pooled", "hold it", "apart", "SD of runs", "± (median)"),
    *("verdicts", "contradicting"),
)


def compare(run: RunDirectory, options: Sequence[str]) -> list[dict]:
    """Return the rows of one comparison of `run`, made by a process of its own."""
    command = [sys.executable, "-m", "foldbench", "compare", run.name, "--fresh"]
    command += ["--runs", str(run.path.parent), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench compare ended with {done.returncode}:\n{done.stderr}")
    return lines_of(run.results())


def repeat(run: RunDirectory, times: int, options: Sequence[str], path: Path) -> list[list[dict]]:
    """Make the comparisons that are missing; return the rows of all."""
    settings = {"run": run.name, "options": list(options)}
    found: list[list[dict]] = []
    if path.is_file():
        first, *found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        if first != settings:
            raise SystemExit(f"{path} is of other settings ({first}): name another --out")
    else:
        path.write_text(json.dumps(settings) + "\n", "utf-8")
    for number in range(len(found) + 1, times + 1):
        click.echo(f"comparison {number} of {times}", err=True)
        found.append(compare(run, options))
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found[-1]) + "\n")
    return found


@click.command()
@click.argument("run_name", metavar="RUN")
@click.argument("options", nargs=-1)
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--times", default=20, show_default=True, type=click.IntRange(2))
@click.option("--quick", is_flag=True, help="Three short comparisons of batch 1.")
@click.option("--neighbour", "beside", is_flag=True, help="Beside a neighbour that comes and goes.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("repeatability"))
def main(
    run_name: str,
    options: tuple[str, ...],
    runs: Path,
    times: int,
    quick: bool,
    beside: bool,
    out: Path,
) -> None:
    """Repeat whole comparisons of RUN, with the options of `bench compare` after --."""
    (run,) = find_runs(runs, [run_name])
    times, asked = (QUICK_TIMES, (*QUICK, *options)) if quick else (times, options)
    out.mkdir(parents=True, exist_ok=True)
    name = "repeatability" + "_beside_a_neighbour" * beside
    with neighbour(seed=1) if beside else nullcontext():
        found = repeat(run, times, asked, out / f"{name}.jsonl")
    facts = describe_environment()
    table = tabulate(table_of(found), HEADERS, tablefmt="github", disable_numparse=True)
    told = f" -- {' '.join(options)}" if options else ""
    text = (
        "# Does an interval hold when the comparison is run again?\n\n"
        f"{len(found)} times `bench compare {' '.join((run.name, *asked))}`, each in fresh "
        f"processes{', beside a busy neighbour that comes and goes' * beside}. Pooled: geometric "
        "mean of the ratios, which each interval is to hold. Apart: pairs of intervals that do "
        "not touch. Contradicting: pairs of verdicts, one faster and one slower.\n\n"
        f"{table}\n\n"
        f"Machine: {facts['cpu']}, {facts['cores_usable']} usable cores; python {facts['python']}, "
        f"torch {facts['torch']}, onnxruntime {facts['onnxruntime']}.\n\n"
        f"    python -m benchmarks.repeatability {run.name} "
        f"{'--quick' if quick else f'--times {times}'}{' --neighbour' * beside}{told}\n"
    )
    sys.stdout.write(text)
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    stored = {"environment": facts, "options": list(asked), "comparisons": found}
    (out / f"{name}.json").write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
