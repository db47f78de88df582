"""The text of `bench export`, `bench list` and `bench doctor`."""

from pathlib import Path

import pytest

from builders import make_fold
from foldbench.bench.records import Cost, LinearFold, Skip, Tried
from foldbench.bench.records.finding import Finding, State
from foldbench.reports.commands.doctor import render_findings
from foldbench.reports.commands.export import artifact_json, render_artifact
from foldbench.reports.commands.list import render_listing

FOLDER = Path("runs/bn_cnn-001")


def test_an_artifact_is_named_with_its_place_and_its_proof(build) -> None:
    artifact = build.artifact("folded")
    first, *rest = render_artifact(FOLDER, artifact).splitlines()
    assert first == str(FOLDER / artifact.path)
    assert all(line.startswith("  ") for line in rest)
    assert any(f"passed ({len(artifact.parity.cases)} kinds" in line for line in rest)
    found = artifact_json(FOLDER, artifact)
    assert (found["run"], found["path"]) == ("bn_cnn-001", first)
    assert found["artifact"] == artifact.model_dump(mode="json")


def test_folding_is_told_by_kind_with_its_cost_and_the_first_that_stayed(build) -> None:
    kinds = ("branches", "branches", "scale")
    fold = make_fold(
        "folded",
        others=[LinearFold(kind=kind, layer="conv", taken="other") for kind in kinds],
        skipped=[Skip(module=f"bn{n}", reason="it follows a pool") for n in range(9)],
        cost_before=Cost(flops_per_image=172_000_000, parameters=4_280_000),
        cost_after=Cost(flops_per_image=45_000_000, parameters=1_060_000),
    )
    text = render_artifact(FOLDER, build.artifact("folded", fold=fold))
    assert "2 parallel branches, 1 scale or shift\n" in text
    assert "172 → 45.0 MFLOP an image" in text
    assert "4,280,000 → 1,060,000 parameters" in text
    assert text.count("it follows a pool") == 3
    assert "6 more" in text


def test_passes_that_were_timed_are_told_with_their_intervals(build) -> None:
    known = Tried(passes=("mish",), batch_size=1, speedup=1.08, low=1.05, high=1.11)
    unknown = Tried(passes=(), batch_size=8, speedup=None, low=None, high=None)
    text = render_artifact(FOLDER, build.artifact("folded.host", tried=(known, unknown)))
    assert "with mish alone, at batch size 1: 1.08 times as fast (1.05–1.11)\n" in text
    assert "without them, at batch size 8: too few" in text


def test_a_file_in_lower_precision_is_told_with_its_budget(build) -> None:
    report = build.quantization(within_budget=False, reason="3 points lost")
    text = render_artifact(FOLDER, build.artifact("int8", quantization=report))
    assert "EXCEEDED: 3 points lost" in text
    assert text.count("ranges by") == len(report.trials)


def test_names_stand_in_columns_and_a_control_character_moves_nothing() -> None:
    text = render_listing({"models": {"a": "one", "long\x1b": "two"}, "runs": {}})
    assert text.splitlines()[1:3] == ["  a         one", "  long\\x1b  two"]
    assert "none yet" in text


@pytest.mark.parametrize(
    ("states", "counted"),
    [
        (("fired", "fired"), "2 of 2 testable guards"),
        (("fired", "not_testable"), "1 of 1 testable guards"),
        (("fired", "silent"), None),
    ],
)
def test_guards_are_counted_unless_one_stayed_silent(
    states: tuple[State, ...], counted: str | None
) -> None:
    text = render_findings([Finding(f"fault {n}", s, "said") for n, s in enumerate(states)])
    assert (counted is None) == ("testable guards" not in text)
    assert counted is None or counted in text
