"""The benchmark that holds exports against the plain one and against peers: its sums."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import export_aims as study
from benchmarks.export_aims import Entry
from benchmarks.export_passes import AGAIN, PLAIN
from foldbench.bench.records import Block

ENTRIES = [
    Entry(PLAIN, "ort", "folded", Path("plain.onnx")),
    Entry(AGAIN, "ort", "folded", Path("plain.onnx")),
    Entry("ort/folded", "ort", "folded", Path("cpu.onnx")),
    Entry("ort:tuned/folded.host", "ort:tuned", "folded.host", Path("host.onnx")),
    Entry("ort/int8", "ort", "int8", Path("int8.onnx"), "int8"),
    Entry("openvino/folded", "openvino", "folded", Path("cpu.onnx")),
]
SECONDS = dict(
    zip([entry.name for entry in ENTRIES], (4e-3, 4e-3, 2.5e-3, 1.6e-3, 1.25e-3, 1e-3), strict=True)
)


def rounds(seconds: float, count: int = 9, busy: tuple[int, ...] = ()) -> list[Block]:
    """Blocks of three calls, a busy one ten times as slow and marked by the kernel."""
    return [
        Block(
            round=number,
            samples_s=(seconds * (10 if number in busy else 1),) * 3,
            run_delay_ratio=0.5 if number in busy else 0.0,
        )
        for number in range(count)
    ]


@pytest.fixture
def blocks() -> dict[str, list[Block]]:
    return {name: rounds(seconds) for name, seconds in SECONDS.items()}


def test_each_aim_is_a_ratio_of_the_best_of_ours_and_says_whether_it_is_reached(
    blocks: dict[str, list[Block]],
) -> None:
    aims = study.list_aims(ENTRIES, blocks, 1)
    found = {
        aim.text: (aim.subject, study.compare_blocks(blocks, aim.subject, aim.other)[0].point)
        for aim in aims
    }
    best = "ort:tuned/folded.host"
    assert found["file for any CPU against the plain export"] == ("ort/folded", 1.6)
    assert found["best float32 file against the plain export"] == (best, 2.5)
    assert found["best float32 file against openvino"] == (best, 0.625)
    assert found["int8 against the best float32 file"] == ("ort/int8", pytest.approx(1.28))
    table = study.to_tables(
        ENTRIES, {1: blocks}, dict.fromkeys(SECONDS, np.eye(4)), np.array([0, 1, 2, 0])
    )
    rows = [line.split("|") for line in table.splitlines() if "against" in line]
    assert [row[7].strip() for row in rows] == ["yes", "yes", "no", "no"]
    assert "75.00" in table


def test_a_round_in_which_something_else_ran_counts_for_neither(
    blocks: dict[str, list[Block]],
) -> None:
    blocks["ort/folded"] = rounds(2.5e-3, busy=(3,))
    ratio, count = study.compare_blocks(blocks, "ort/folded", PLAIN)
    assert (ratio.point, count) == (1.6, 8)
    assert study.typical_s(blocks["ort/folded"]) == 2.5e-3


def test_too_few_rounds_give_no_ratio_and_no_verdict(blocks: dict[str, list[Block]]) -> None:
    few = {name: found[:3] for name, found in blocks.items()}
    assert study.compare_blocks(few, "ort/folded", PLAIN) == (None, 3)
    table = study.to_tables(
        ENTRIES, {64: few}, dict.fromkeys(SECONDS, np.eye(4)), np.array([0, 1, 2, 3])
    )
    assert "yes" not in table
    assert "faster" not in table


def test_a_contender_that_did_not_run_has_no_aim(blocks: dict[str, list[Block]]) -> None:
    del blocks["openvino/folded"], blocks["ort/int8"]
    texts = [aim.text for aim in study.list_aims(ENTRIES, blocks, 64)]
    assert texts == [
        "file for any CPU against the plain export",
        "best float32 file against the plain export",
    ]
