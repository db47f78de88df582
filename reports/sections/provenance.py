"""Where the figures come from: machine, software, images, method, and how to have them again."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from foldbench.bench import units
from foldbench.bench.analysis.clean import DIRTY_RUN_DELAY
from foldbench.bench.analysis.ratios import count_processes
from foldbench.bench.analysis.speedups import completed
from foldbench.bench.errors import cut
from foldbench.bench.records import Run, StopReason, Timing
from foldbench.bench.records.published import PublishedRun
from foldbench.reports.rows.scenarios import scenarios_of
from foldbench.reports.sections.images import describe_input
from foldbench.reports.sections.processors import (
    describe_clocks,
    describe_fact,
    describe_gpu,
    join_facts,
)
from foldbench.reports.sections.scenarios import describe_method
from foldbench.reports.sections.transfer import describe_transfer
from foldbench.reports.text.document import ReportSection, left, tabulated
from foldbench.reports.text.labels import Labelled, label_in
from foldbench.reports.text.machines import by_machine

_SHORT = 12
"""Digits of a hash where people only tell hashes apart."""

STOPPED: dict[StopReason, str] = {
    "rounds": "all clean rounds made",
    "narrow": "intervals narrow enough",
    "budget": "budget spent",
    "interrupted": "interrupted",
}
"""Why the rounds ended, as text."""
OF_MACHINE = ("machine", "clocks", "GPU", "software")
"""Headings of the lines about a machine, which has a section of its own where there are several."""
_WIDEST = 200
"""Characters of a fact in the environment's table, at most; the JSON report has all of them."""


def build_provenance(labelled: Labelled) -> Iterator[ReportSection]:
    """Yield the digest of the environment, the whole of it, and the commands."""
    yield ReportSection("How this was measured", pairs=_digest(labelled), key="provenance")
    for label, run in labelled:
        title = f"Environment{label_in(labelled, label, before=' of ')}"
        facts = ((str(key), units.plain(value)) for key, value in sorted(run.environment.items()))
        rows = [[key, cut(fact, _WIDEST)] for key, fact in facts]
        table = tabulated((left("what"), left("value")), rows)
        yield ReportSection(title, table=table, detail=True)
    commands = tuple(dict.fromkeys(shlex.join(run.command) for _, run in labelled if run.command))
    yield ReportSection("To repeat", commands=commands, key="repeat")


def _digest(labelled: Labelled) -> tuple[tuple[str, str], ...]:
    """Return pairs of a heading and a line; a line that differs by run names the runs."""
    digests = [(label, _lines(run)) for label, run in labelled]
    elsewhere = OF_MACHINE if len(by_machine(labelled)) > 1 else ()
    pairs = []
    for heading in digests[0][1]:
        if heading in elsewhere:
            continue
        lines = {label: lines[heading] for label, lines in digests if lines[heading]}
        if len(set(lines.values())) == 1 and len(lines) == len(digests):
            pairs.append((heading, next(iter(lines.values()))))
        elif lines:
            pairs.append((heading, "; ".join(f"{label}: {line}" for label, line in lines.items())))
    return tuple(pairs)


def describe_machine(run: Run) -> tuple[tuple[str, str], ...]:
    """Return pairs of a heading and a line about the machine and its software."""
    lines = _lines(run)
    found = ((heading, lines.get(heading, "")) for heading in OF_MACHINE)
    return tuple((heading, line) for heading, line in found if line)


def _lines(run: Run) -> dict[str, str]:
    if isinstance(run, PublishedRun):
        return {
            "machine": _machine(run.environment),
            "GPU": describe_fact(run.environment, "gpu"),
            "software": _software(run.environment),
            "record": f"run {run.name} of {run.created}, checkpoint "
            f"{run.checkpoint.sha256[:_SHORT]}; a published summary, without the timed calls",
        }
    return {
        "machine": _machine(run.environment),
        "clocks": describe_clocks(run),
        "GPU": describe_gpu(run) if run.environment.get("gpu") else "",
        "software": _software(run.environment),
        "settings": _settings(run),
        "images": _images(run),
        "transfer": describe_transfer(run),
        "method": describe_method(run) if scenarios_of(run) else _method(run),
        "rounds": "" if scenarios_of(run) else _ending(run),
        "record": f"run {run.name} of {run.created}, "
        f"checkpoint {run.checkpoint.sha256[:_SHORT]}, seed {run.checkpoint.seed}",
    }


def _machine(environment: Mapping[str, Any]) -> str:
    return join_facts(
        [
            describe_fact(environment, "cpu"),
            describe_fact(environment, "cores_usable", after=" usable cores"),
            units.size(environment.get("memory_bytes")),
            describe_fact(environment, "machine"),
            describe_fact(environment, "os"),
            "virtual machine" if environment.get("virtual_machine") else "",
        ]
    )


def _software(environment: Mapping[str, Any]) -> str:
    names = ("python", "torch", "onnxruntime", "openvino", "onnx", "numpy")
    versions = [describe_fact(environment, name, before=f"{name} ") for name in names]
    foldbench = join_facts(
        [
            describe_fact(environment, "foldbench"),
            describe_fact(environment, "git_revision", "revision "),
        ]
    )
    return join_facts([*versions, f"foldbench {foldbench}" if foldbench else ""])


def _settings(run: Run) -> str:
    ran = completed(run)
    threads = sorted({m.threads for m in ran if m.threads is not None and m.actual_device == "cpu"})
    shown = " or ".join(map(str, threads)) or describe_fact(run.environment, "threads")
    return join_facts(
        [
            " or ".join(sorted({m.precision for m in ran})),
            f"{shown} threads on the CPU" if shown else "",
            describe_fact(
                run.environment, "load_1min", before="load average ", after=" at the start"
            ),
            _foreign_load(run),
        ]
    )


def _foreign_load(run: Run) -> str:
    cores = run.foreign_load_cores
    return (
        ""
        if cores is None
        else f"{units.ratio(cores)} cores busy with other programs before the rounds"
    )


def _images(run: Run) -> str:
    data = run.data
    return (
        f"{units.count(data.test_count)} test images of {data.title}{_form(run)}, "
        f"{describe_input(run)} (protocol {run.evaluation_protocol}){_skipped(run)}; sha256 "
        f"{run.evaluation_sha256[:_SHORT]}"
    )


def _form(run: Run) -> str:
    return f" ({run.data.form})" if run.data.form else ""


def _skipped(run: Run) -> str:
    reasons = [f"{units.count(count)} {reason}" for reason, count in run.data.skipped.items()]
    return f"; files skipped: {', '.join(reasons)}" if reasons else ""


def _method(run: Run) -> str:
    compare = run.config.get("compare") or {}
    text = f"{run.rounds} clean rounds wanted, each timing every contender once in random order"
    calls, block_s = compare.get("calls"), compare.get("block_s")
    if calls is not None and block_s is not None:
        text += f": at least {units.count(calls)} calls and {units.duration(block_s)}"
        if compare.get("settle_s"):
            text += f" after {units.duration(compare['settle_s'])} of untimed ones"
    if compare.get("warm_up_s"):
        text += f"; before the first round {units.duration(compare['warm_up_s'])} of warm-up or "
        text += "more, until the times settle"
    limit = f"{units.plain(100 * DIRTY_RUN_DELAY)} %"
    text += f"; a round in which threads waited for a CPU for {limit} of the time or more is kept "
    text += "in the record, left out here and replaced"
    if any(m.role == "again" for m in run.measurements):
        text += "; the reference is timed twice in each round"
    if any(timing.boundary == "device" for m in run.measurements for timing in m.timings):
        text += "; what runs on a GPU is also timed in rounds without transfers"
    made = [count_processes(t.blocks) for m in completed(run) for t in m.timings]
    own = "a process of its own"
    if made and max(made) > 1:
        own = f"{units.count(max(made))} processes of its own, one after the other"
    return f"{text}; each contender in {own}, the others idle"


def _ending(run: Run) -> str:
    """Return how long it might take, and why the rounds of each batch size ended."""
    repeats = (run.config.get("compare") or {}).get("repeat") or 1
    reasons: dict[str, set[str]] = {}
    many = len({m.actual_device for m in run.measurements if m.timings}) > 1
    for m in run.measurements:
        for timing in m.timings:
            if timing.stopped:
                resident = ", device-resident" if timing.boundary == "device" else ""
                where = f"batch {timing.batch_size}{resident}"
                where += f" on {m.actual_device}" if many else ""
                why = STOPPED[timing.stopped] + _shortage(timing)
                reasons.setdefault(where, set()).add(why)
    parts = [
        f"repeated as a whole, {repeats} times in all" if repeats > 1 else "",
        f"budget {units.duration(run.budget_s)}" if run.budget_s else "",
        *(f"{where}: {' or '.join(sorted(why))}" for where, why in reasons.items()),
    ]
    return "; ".join(part for part in parts if part)


def _shortage(timing: Timing) -> str:
    """Return how blocks were shortened to fit the budget, or by how much it was too small."""
    found = timing.shortage
    if found is None:
        return ""
    if found.needed_s > found.budget_s:
        needed, budget = units.duration(found.needed_s), units.duration(found.budget_s)
        return f" ({found.rounds} rounds need about {needed}, their share was {budget})"
    return f" (blocks shortened to {found.calls} calls and {units.duration(found.block_s)})"
