"""The tables of `benchmarks.zoo`, from what it stored of each network."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import exp, log
from pathlib import Path
from typing import Any

from tabulate import tabulate

from foldbench.bench import units
from foldbench.bench.analysis.clean import block_medians
from foldbench.bench.analysis.estimates import MIN_CLEAN_ROUNDS, Ratio, median_or_none
from foldbench.bench.analysis.ratios import estimated_ratio
from foldbench.bench.analysis.speedups import timing_at
from foldbench.bench.records import Measurement, Run

PLAIN, CPU, HOST, OPENVINO, COMPILED, INT8, DEPLOY = (
    "plain",
    "cpu",
    "host",
    "OpenVINO",
    "torch.compile",
    "int8",
    "own deploy form",
)
COLUMNS = (CPU, HOST, OPENVINO, COMPILED, INT8, DEPLOY)
OURS = (CPU, HOST)
NOT_SLOWER, MUCH_ELEMENTWISE, GONE, OPENVINO_WITHIN = 0.98, 0.10, 0.5, 1.1
"""The aims: against plain; share of the time from which it counts, and of that what is to go; times
as slow as OpenVINO at the most."""
_SHOWN = 4
"""Types of operators that are named, those that take longest first."""

ELEMENTWISE = frozenset(
    {
        "Abs",
        "Add",
        "And",
        "BiasGelu",
        "Cast",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "FastGelu",
        "Floor",
        "Gelu",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "PRelu",
        "Pow",
        "QuickGelu",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Sum",
        "Swish",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
        "Where",
        "Xor",
    }
)
"""Operators of ONNX and onnxruntime that compute each element by itself. Ours are marked by a star
in what is stored."""


@dataclass(frozen=True)
class Operators:
    """Time of each type of operator of one exported file, in one run of one image."""

    variant: str
    status: str
    reason: str | None
    seconds: dict[str, float]

    @property
    def total_s(self) -> float:
        """Seconds of all operators."""
        return sum(self.seconds.values())

    @property
    def elementwise_s(self) -> float:
        """Seconds of those that compute each element by itself."""
        return sum(s for name, s in self.seconds.items() if name in ELEMENTWISE or name[-1] == "*")


@dataclass(frozen=True)
class Stored:
    """What was measured of one network."""

    name: str
    runs: tuple[Run, ...] = ()
    """The network, and its own deploy form where it has one."""
    operators: tuple[Operators, ...] = ()
    deploy_failed: str | None = None
    failed: str | None = None
    """Why nothing was measured."""

    def to_json(self) -> str:
        """Return all of it; blocks are their medians."""
        value = {
            "name": self.name,
            "failed": self.failed,
            "deploy_failed": self.deploy_failed,
            "operators": [vars(one) for one in self.operators],
            "runs": [run.model_dump(mode="json", exclude_defaults=True) for run in self.runs],
        }
        return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def read_stored(path: Path) -> Stored:
    """Return what `Stored.to_json` wrote."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Stored(
        name=value["name"],
        runs=tuple(map(Run.model_validate, value["runs"])),
        operators=tuple(Operators(**one) for one in value["operators"]),
        deploy_failed=value["deploy_failed"],
        failed=value["failed"],
    )


def rows_of(stored: Stored) -> dict[str, Measurement]:
    """Return the row of each column that ran; of several files for one, the last."""
    found: dict[str, Measurement] = {}
    for row in stored.runs[0].measurements if stored.runs else ():
        column = _column(row)
        if row.role == "contender" and row.status == "ok" and column is not None:
            found[column] = row
    for run in stored.runs[1:]:
        for row in run.measurements:
            if (row.variant, row.status, row.role) == ("plain", "ok", "contender"):
                found[DEPLOY] = row
    return found


def _column(row: Measurement) -> str | None:
    if row.backend.startswith("torch_compile"):
        return COMPILED
    if row.backend == "openvino":
        return None if row.variant == "plain" or row.precision == "int8" else OPENVINO
    if row.precision == "int8":
        return INT8
    return {"plain": PLAIN, "folded": CPU, "folded.host": HOST}.get(row.variant)


def speedups(stored: Stored, size: int) -> dict[str, Ratio]:
    """Return how many times as fast as the plain export each column is."""
    found = {column: times_as_fast(stored, column, PLAIN, size) for column in COLUMNS}
    return {column: ratio for column, ratio in found.items() if ratio is not None}


def times_as_fast(stored: Stored, column: str, other: str, size: int) -> Ratio | None:
    """Return how many times as fast as `other` a `column` is, in the same rounds.

    None where too few of them have both. What comparisons differ by on this
    machine is the same for all columns.
    """
    found = {c: timing_at(row, size) for c, row in rows_of(stored).items()}
    mine, theirs = found.get(column), found.get(other)
    if mine is None or theirs is None:
        return None
    between = (timing.between_comparisons for timing in found.values() if timing)
    beyond = next(filter(None, between), None)
    return estimated_ratio(mine.blocks, theirs.blocks, MIN_CLEAN_ROUNDS, beyond)


def batch_sizes(found: Sequence[Stored]) -> list[int]:
    """Return the batch sizes that anything was timed at, in order."""
    rows = [row for stored in found for row in rows_of(stored).values()]
    return sorted({timing.batch_size for row in rows for timing in row.timings})


def elementwise(stored: Stored) -> tuple[float | None, float | None]:
    """Return what share of the plain export's time is element-wise, and how much of that is gone.

    The latter in the better of our two files; None where something did not run.
    """
    by_variant = {one.variant: one for one in stored.operators if one.total_s}
    plain = by_variant.get("plain")
    if plain is None:
        return None, None
    ours = [by_variant[v].elementwise_s for v in ("folded", "folded.host") if v in by_variant]
    gone = 1 - min(ours) / plain.elementwise_s if ours and plain.elementwise_s else None
    return plain.elementwise_s / plain.total_s, gone


def to_report(found: Sequence[Stored]) -> str:
    """Return the tables as Markdown."""
    ran = [stored for stored in found if stored.runs]
    parts = [_HEAD]
    sizes = batch_sizes(ran)
    columns = [c for c in COLUMNS if any(c in rows_of(stored) for stored in ran)]
    parts += [f"## Batch {size}\n\n{_latency(ran, columns, size)}" for size in sizes]
    parts += [f"## Aims\n\n{_aims(ran, sizes)}", f"## Proof and profile\n\n{_proof(ran)}"]
    if INT8 in columns:
        parts.append(f"## int8\n\n{_int8(ran, sizes)}")
    absent = list(_absent(found))
    if absent:
        parts.append("## What did not run\n\n" + "\n".join(f"* {text}" for text in absent))
    parts.append(_machine(ran))
    return "\n\n".join(parts) + "\n"


_HEAD = """# The zoo: exports of other people's networks

Random weights, random pixels of 224x224, float32 where no column says otherwise, on the CPU. plain
is what torch.onnx.export gives by itself, in onnxruntime; cpu and host are this project's files for
any CPU and for this one. Cells say how many times as fast as plain, in the rounds of `bench
compare`, with the 95 % interval where each contender ran in three processes or more. Without one a
cell is of fewer: processes differ by up to a tenth for as long as they live."""


def _latency(ran: Sequence[Stored], columns: Sequence[str], size: int) -> str:
    rows: list[list[str]] = []
    points: dict[str, list[float]] = {column: [] for column in columns}
    machines = _machines(ran)
    for stored in ran:
        plain = rows_of(stored).get(PLAIN)
        timing = timing_at(plain, size) if plain else None
        typical = median_or_none(block_medians(timing)) if timing else None
        ratios = speedups(stored, size)
        for column, ratio in ratios.items():
            points[column].append(ratio.point)
        cells = [_shown(ratios.get(column)) for column in columns]
        number = machines.index(_describe(stored)) + 1
        name = f"{stored.name} ({number})" if len(machines) > 1 else stored.name
        rows.append([name, units.milliseconds(typical), *cells])
    means = [
        f"{units.ratio(geometric_mean(values))} of {len(values)}" if values else ""
        for values in points.values()
    ]
    rows.append(["geometric mean", "", *means])
    return tabulate(rows, ["network", "plain ms", *columns], "github", disable_numparse=True)


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive numbers."""
    return exp(sum(map(log, values)) / len(values))


def _shown(ratio: Ratio | None) -> str:
    if ratio is None:
        return ""
    ends = (ratio.low, ratio.high) if ratio.covers_processes else (None, None)
    point, interval = units.estimate(ratio.point, *ends)
    return f"{point} ({interval})" if interval else point


def _aims(ran: Sequence[Stored], sizes: Sequence[int]) -> str:
    rows = [
        [aim.text, str(aim.reached), str(aim.unclear), "; ".join(aim.missed)]
        for aim in aims(ran, sizes)
    ]
    headers = ["aim", "reached", "cannot tell", "missed by"]
    return tabulate(rows, headers, "github", disable_numparse=True)


@dataclass
class Aim:
    """How often an aim was reached, and by which networks it was missed."""

    text: str
    reached: int = 0
    unclear: int = 0
    """The interval holds both, or covers no processes."""
    missed: list[str] = field(default_factory=list)

    def judge(self, where: str, ratio: Ratio | None, least: float) -> None:
        """Count a speed-up that is to be `least`; None was not measured."""
        if ratio is None:
            return
        low, high = ratio.low, ratio.high
        if not ratio.covers_processes or low is None or high is None or low < least <= high:
            self.unclear += 1
        elif high < least:
            self.missed.append(f"{where} ({units.ratio(ratio.point)})")
        else:
            self.reached += 1


def aims(ran: Sequence[Stored], sizes: Sequence[int]) -> list[Aim]:
    """Return each aim and what became of it; the better of our two files counts."""
    against = {
        PLAIN: (Aim("at most 2 % slower than plain"), NOT_SLOWER),
        DEPLOY: (Aim("at least as fast as its own deploy form"), 1.0),
        OPENVINO: (Aim("at most 1.1 times as slow as OpenVINO"), 1 / OPENVINO_WITHIN),
    }
    for stored, size in product(ran, sizes):
        ratios = speedups(stored, size)
        ours = [column for column in OURS if column in ratios]
        best = max(ours, key=lambda column: ratios[column].point, default=None)
        for other, (aim, least) in against.items():
            if best is not None:
                aim.judge(
                    f"{stored.name} at {size}", times_as_fast(stored, best, other, size), least
                )
    gone = Aim("half of the element-wise time gone, where it is 10 % or more")
    for stored in ran:
        share, less = elementwise(stored)
        if share is None or less is None or share < MUCH_ELEMENTWISE:
            continue
        if less < GONE:
            gone.missed.append(f"{stored.name} ({units.percent(less)} % gone)")
        else:
            gone.reached += 1
    return [*(aim for aim, _ in against.values()), gone]


def _proof(ran: Sequence[Stored]) -> str:
    rows = []
    for stored in ran:
        by_variant = {a.variant: a for a in stored.runs[0].artifacts}
        nodes = [
            str(by_variant[v].node_count) if v in by_variant else ""
            for v in ("plain", "folded", "folded.host")
        ]
        share, gone = elementwise(stored)
        errors = [_parity(stored.runs[0], v) for v in ("plain", "folded", "folded.host")]
        parameters = stored.runs[0].checkpoint.parameter_count
        rows.append(
            [
                stored.name,
                units.mega(parameters),
                *nodes,
                *errors,
                units.percent(share),
                units.percent(gone),
            ]
        )
    headers = [
        "network",
        "parameters, millions",
        "nodes: plain",
        "cpu",
        "host",
        "error: plain",
        "cpu",
        "host",
        "element-wise % of plain's time",
        "% of that gone",
    ]
    return tabulate(rows, headers, "github", disable_numparse=True) + (
        "\n\nError: the largest difference from the network in float64, divided by the largest "
        "logit, over images, noise and extreme inputs. Element-wise time is by onnxruntime's "
        "profiler, one image at a time, of the better of our files; an activation that "
        "onnxruntime puts into a convolution is no node of its own."
    )


def _int8(ran: Sequence[Stored], sizes: Sequence[int]) -> str:
    rows = []
    for stored in ran:
        row = rows_of(stored).get(INT8)
        profile = next((o for o in stored.operators if o.variant == "int8" and o.total_s), None)
        if row is None or profile is None:
            continue
        spent = Counter(profile.seconds).most_common(_SHOWN)
        told = ", ".join(f"{name} {units.percent(s / profile.total_s)}" for name, s in spent)
        ratios = [_shown(times_as_fast(stored, INT8, PLAIN, size)) for size in sizes]
        rows.append([stored.name, *ratios, told])
    headers = [
        "network",
        *(f"batch {size}" for size in sizes),
        "% of its time, one image at a time",
    ]
    return tabulate(rows, headers, "github", disable_numparse=True)


def _parity(run: Run, variant: str) -> str:
    for artifact in run.artifacts:
        if artifact.variant == variant:
            errors = [case.error for case in artifact.parity.cases]
            worst = max((e for e in errors if e is not None), default=None)
            return units.error(worst) if artifact.parity.passed else "failed"
    return ""


def _absent(found: Sequence[Stored]) -> Iterator[str]:
    for stored in found:
        if stored.failed:
            yield f"{stored.name}: {stored.failed}"
        if stored.deploy_failed:
            yield f"{stored.name}, its own deploy form: {stored.deploy_failed}"
        for run in stored.runs:
            for row in run.measurements:
                if row.status != "ok" and row.role == "contender":
                    yield f"{run.name}, {row.contender}: {row.reason}"
        for one in stored.operators:
            if one.status != "ok":
                yield f"{stored.name}, profile of {one.variant}: {one.reason}"


def _machine(ran: Sequence[Stored]) -> str:
    told = _machines(ran)
    if len(told) == 1:
        return f"Machine: {told[0]}"
    numbered = (f"* ({number}) {one}" for number, one in enumerate(told, start=1))
    return "\n".join(("Machines:", "", *numbered)) if told else "Nothing is measured yet."


def _machines(ran: Sequence[Stored]) -> list[str]:
    return list(dict.fromkeys(map(_describe, ran)))


def _describe(stored: Stored) -> str:
    facts = stored.runs[0].environment
    versions = ", ".join(
        f"{name} {facts[name]}"
        for name in ("torch", "onnxruntime", "openvino", "timm")
        if facts.get(name)
    )
    return f"{facts.get('cpu')}, {facts.get('cores_usable')} usable cores; {versions}."
