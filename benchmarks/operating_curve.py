"""How often does `bench gate` err, what does it find, and how long does that take?

    python -m benchmarks.operating_curve --tries 200 --minutes 60

Gates a small network against itself, and against itself with 5 % of work added on purpose, in whole
jobs of fresh processes that take turns. Each try is a line of `operating_curve.jsonl` in --out, and
the same command resumes after the last one, on another machine, too. What it came to is in
`operating_curve.md`.

The work that is added is a chain of further nodes after the second of four convolutions. Its length
is found once on each machine, before its first try, by timing both networks in turns in many
processes; the ratio that was found there is in the table.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import product
from math import log
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from foldbench.bench.analysis.estimates import wilson_interval
from foldbench.bench.config.gate import GateSection
from foldbench.bench.machine.environment import describe_environment

SLOWER = 0.05
"""What is put in on purpose."""
SIZE, WIDTH, CLASSES = 32, 64, 10
NARROW = 16
"""Channels of the convolutions that are added: one of them takes a few thousandths of a call."""
KINDS = ("identical", "slower")
WITHIN_S = 180.0
WHOLE_BUDGET = ("--max-slower", "5%", "--set", "gate.alpha=0.001", "--set", "gate.beta=0.001")
"""Of the calibration: whatever is near the limit goes on until the budget is spent."""

Options = Sequence[str]


def network(added: int) -> bytes:
    """Return a classifier as ONNX; `added` further convolutions of 1x1 change none of its answers.

    They begin after the second convolution, and what comes of them is multiplied by 0 and added:
    work that no graph optimisation leaves out, since 0 times an unknown number need not be 0.
    """
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes, weights = [], []

    def node(kind: str, inputs: Sequence[str], output: str, **attributes) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weight(name: str, values: npt.NDArray) -> str:
        weights.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def convolution(x: str, given: int, made: int, side: int, name: str) -> str:
        shape = made, given, side, side
        values = random.standard_normal(shape) / (side**2 * given) ** 0.5
        pads = [side // 2] * 4
        found = node("Conv", [x, weight(f"{name}.w", values)], name, pads=pads)
        return node("Relu", [found], f"{name}.relu")

    def classify(x: str, values: npt.NDArray, name: str) -> str:
        pooled = node("GlobalAveragePool", [x], f"{name}.pool")
        flat = node("Flatten", [pooled], f"{name}.flat")
        return node("MatMul", [flat, weight(f"{name}.w", values)], name)

    x = inner = convolution("images", 3, WIDTH, 3, "conv0")
    for number in range(1, 4):
        x = convolution(x, WIDTH, WIDTH, 3, f"conv{number}")
        inner = x if number == 1 else inner
    logits = classify(x, random.standard_normal((WIDTH, CLASSES)), "scores")
    for number in range(added):
        given = NARROW if number else WIDTH
        inner = convolution(inner, given, NARROW, 1, f"added{number}")
    if added:
        nothing = classify(inner, np.zeros((NARROW, CLASSES)), "nothing")
        logits = node("Add", [logits, nothing], "both")
    node("Identity", [logits], "logits")
    image = [None, 3, SIZE, SIZE]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, CLASSES])],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def run_gate(base: Path, head: Path, options: Options) -> dict:
    """Return the JSON of one gate, in processes of its own."""
    command = [sys.executable, "-m", "foldbench", "gate", str(base), str(head), "--json", *options]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3, 4):
        raise SystemExit(f"bench gate ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout) | {"wall_s": time.monotonic() - started}


def line_of(kind: str, found: Mapping) -> dict:
    """Return what is kept of one try: what it said of the latency, and how long it took."""
    latency = next(check for check in found["checks"] if check["what"] == "latency")
    kept = ("outcome", "change", "low", "high", "smallest", "generations", "reason")
    return {
        "kind": kind,
        **{name: latency[name] for name in kept},
        "any_worse": found["outcome"] == "worse",
        "processes": found["processes"],
        "most": found["most"],
        "wall_s": found["wall_s"],
    }


def calibrate(folder: Path, options: Options, tolerance: float = 0.004, tries: int = 6) -> dict:
    """Return how many convolutions to add for a slow-down of SLOWER, and what was measured of it.

    The time is taken to grow with their number: each try is nearer, until it is within `tolerance`.
    """
    base = folder / "base.onnx"
    base.write_bytes(network(0))
    added, tried = 10, []
    for _ in range(tries):
        head = folder / "slower.onnx"
        head.write_bytes(network(added))
        found = line_of("calibration", run_gate(base, head, options))
        tried.append({"added": added, "change": found["change"]})
        click.echo(f"{added} convolutions more: {100 * found['change']:+.1f} %", err=True)
        if abs(found["change"] - SLOWER) <= tolerance:
            break
        steps = np.polyfit([0, *(t["added"] for t in tried)], [0, *(t["change"] for t in tried)], 1)
        following = max(1, round((SLOWER - steps[1]) / steps[0])) if steps[0] > 0 else 2 * added
        if following in [t["added"] for t in tried]:
            break
        added = following
    best = min(tried, key=lambda one: abs(log(1 + one["change"]) - log(1 + SLOWER)))
    return {"kind": "calibration", "added": best["added"], "measured": best["change"]}


def summarise(lines: Sequence[Mapping]) -> list[list[str]]:
    """Return a row for each kind of pair on each machine, and on all of several."""
    machines = list(calibrations_of(lines))
    groups = [{m} for m in machines] + ([set(machines)] if len(machines) > 1 else [])
    rows = []
    for kind, group in product(KINDS, groups):
        mine = [line for line in lines if line["kind"] == kind and line["machine"] in group]
        if not mine:
            continue
        outcomes = [line["outcome"] for line in mine]
        within = [line["wall_s"] <= WITHIN_S for line in mine]
        walls = np.array([line["wall_s"] for line in mine])
        worse = outcomes.count("worse")
        low, high = wilson_interval(worse, len(mine))
        rows.append(
            [
                kind,
                "all" if len(group) > 1 else str(1 + machines.index(*group)),
                str(len(mine)),
                f"{worse} ({100 * low:.1f}–{100 * high:.1f} %)",
                str(outcomes.count("not worse")),
                str(outcomes.count("cannot tell")),
                str(sum(o == "worse" and w for o, w in zip(outcomes, within, strict=True))),
                f"{100 * np.median([line['change'] or 0.0 for line in mine]):+.1f} %",
                f"{np.median(walls):.0f} s",
                f"{np.quantile(walls, 0.95):.0f} s",
                f"{100 * np.median([line['smallest'] or np.nan for line in mine]):.1f} %",
            ]
        )
    return rows


HEADERS = (
    *("pairs", "machine", "tries", "worse (95 %)", "not worse", "cannot tell"),
    "worse within 3 min",
    *("change, median", "time, median", "time, 95 of 100", "smallest found"),
)


def read_lines(path: Path, settings: Mapping) -> list[dict]:
    """Return the calibrations and tries that are there; refuse those of other settings."""
    if not path.is_file():
        append_line(path, {"settings": settings})
    first, *lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    if first["settings"] != settings:
        raise SystemExit(f"{path} is of other settings, {first['settings']}: name another --out")
    return lines


def append_line(path: Path, line: Mapping) -> None:
    """Keep a line before the next try begins."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def calibrations_of(lines: Sequence[Mapping]) -> dict[str, Mapping]:
    """Return the calibration of each machine, in the order in which they came."""
    return {line["machine"]: line for line in lines if line["kind"] == "calibration"}


def name_machine() -> str:
    """Return what the times of this machine depend on."""
    facts = describe_environment()
    return (
        f"{facts['cpu']}, {facts['cores_usable']} usable cores; python {facts['python']}, "
        f"onnxruntime {facts['onnxruntime']}"
    )


def describe(lines: Sequence[Mapping]) -> str:
    """Return what was gated, the table and the machines, as Markdown."""
    table = tabulate(summarise(lines), HEADERS, tablefmt="github", disable_numparse=True)
    machines = "\n".join(
        f"{number}. {found['machine']}; {found['added']} convolutions added, which took "
        f"{100 * found['measured']:.1f} % longer when measured apart."
        for number, found in enumerate(calibrations_of(lines).values(), 1)
    )
    return (
        "# How often `bench gate` errs, and what it finds\n\n"
        f"A network of four convolutions of {WIDTH} channels, {SIZE}x{SIZE} pixels, batch 1: "
        f"against a copy of its file (identical), and with convolutions of 1x1 added (slower). "
        "Smallest found: what the jobs say that they find in 95 of 100 tries, the median.\n\n"
        f"{table}\n\nMachines:\n\n{machines}\n\n"
    )


def next_kind(lines: Sequence[Mapping], wanted: Mapping[str, int]) -> str | None:
    """Return the kind that is furthest behind what is wanted of it; None when all is done."""
    made = {kind: sum(line["kind"] == kind for line in lines) for kind in wanted}
    left = [kind for kind in wanted if made[kind] < wanted[kind]]
    return min(left, key=lambda kind: made[kind] / wanted[kind]) if left else None


@click.command()
@click.argument("options", nargs=-1)
@click.option("--tries", default=200, show_default=True, help="Identical pairs; slower: half.")
@click.option("--minutes", type=float, help="Begin no further try after that.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results"))
def main(options: tuple[str, ...], tries: int, minutes: float | None, out: Path) -> None:
    """Gate identical and slower pairs again and again, with options of `bench gate` after --."""
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    path = out / "operating_curve.jsonl"
    gated = {"options": list(options), "gate": GateSection().model_dump(mode="json")}
    lines = read_lines(path, {**gated, "slower": SLOWER, "width": WIDTH})
    machine = name_machine()

    def keep(line: dict) -> None:
        lines.append({"machine": machine, **line})
        append_line(path, lines[-1])

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if machine not in calibrations_of(lines):
            keep(calibrate(folder, (*options, *WHOLE_BUDGET)))
        (folder / "base.onnx").write_bytes(network(0))
        (folder / "identical.onnx").write_bytes(network(0))
        (folder / "slower.onnx").write_bytes(network(calibrations_of(lines)[machine]["added"]))
        wanted = {"identical": tries, "slower": max(1, tries // 2)}
        while (kind := next_kind(lines, wanted)) is not None:
            if minutes is not None and time.monotonic() - began > 60 * minutes:
                break
            found = run_gate(folder / "base.onnx", folder / f"{kind}.onnx", options)
            keep(line_of(kind, found))
            said = f"{lines[-1]['outcome']}, {lines[-1]['wall_s']:.0f} s"
            click.echo(f"{kind} {sum(x['kind'] == kind for x in lines)}: {said}", err=True)
    told = f" -- {' '.join(options)}" if options else ""
    text = describe(lines) + f"    python -m benchmarks.operating_curve --tries {tries}{told}\n"
    sys.stdout.write(text)
    (out / "operating_curve.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
