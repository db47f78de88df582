"""The data behind the pictures, to be embedded in a page as JSON."""

import json
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from foldbench.bench.analysis.clean import is_clean
from foldbench.bench.records import Block, Run
from foldbench.bench.records.published import PublishedRun
from foldbench.reports.figures.figure import STATISTICS, classes_id, samples_id
from foldbench.reports.formats.json_record import summary
from foldbench.reports.rows.confusion import confusion_of, predictions
from foldbench.reports.text.labels import Labelled


@dataclass(frozen=True)
class RawData:
    """One block of embedded JSON."""

    identity: str
    title: str
    says: str
    """What is in it, and how to read it."""
    json: Markup
    """Without any ``<``, so that nothing in it can end the element that holds it."""
    size_bytes: int


def embed(identity: str, title: str, says: str, value: Any) -> RawData:
    """Return `value` (JSON types) as a block; raises ValueError for infinities and NaN."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return RawData(identity, title, says, Markup(text), len(text))


def raw_blocks(labelled: Labelled) -> list[RawData]:
    """Return every block of a report: calls and classes of each run, and the statistics."""
    blocks = []
    for i, (label, run) in enumerate(labelled):
        if isinstance(run, PublishedRun):
            continue
        blocks.append(
            embed(
                samples_id(i),
                f"Timed calls of {label}",
                "Every timed call of every contender and self-check, in the order they were made, "
                "in nanoseconds (the clock's own step), by round; clean rounds are those that "
                "count.",
                _samples(run),
            )
        )
        counts = confusion_of(run)
        if counts is not None:
            blocks.append(
                embed(
                    classes_id(i),
                    f"Classes given by {label}",
                    "The true class of each test image and the class that each contender gave it, "
                    "as indices into classes.",
                    _classes(run),
                )
            )
    says = "What the tables hold, unrounded, in seconds, bytes and shares of 1."
    values = {"runs": [summary(run, with_called=False) for _, run in labelled]}
    blocks.append(embed(STATISTICS, "Statistics", says, values))
    return blocks


def _samples(run: Run) -> dict[str, Any]:
    return {
        "run": run.name,
        "created": run.created,
        "rows": [
            {
                "contender": m.contender,
                "role": m.role,
                "batch_size": timing.batch_size,
                "boundary": timing.boundary,
                "blocks": [_block(block) for block in timing.blocks],
            }
            for m in run.measurements
            for timing in m.timings
        ],
    }


def _block(block: Block) -> dict[str, Any]:
    return {
        "round": block.round,
        "repeat": block.repeat,
        "clean": is_clean(block.run_delay_ratio),
        "run_delay_ratio": block.run_delay_ratio,
        "samples_ns": [round(1e9 * seconds) for seconds in block.samples_s],
    }


def _classes(run: Run) -> dict[str, Any]:
    return {
        "run": run.name,
        "classes": list(run.checkpoint.classes),
        "labels": list(run.labels or ()),
        "top1": {name: top1.tolist() for name, top1 in predictions(run).items()},
    }
