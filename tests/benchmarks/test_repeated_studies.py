"""The studies of variance and of repeatability: their arithmetic, on made-up times."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import repeatability, variance


def test_the_variance_that_each_level_adds_is_found_again() -> None:
    rng = np.random.default_rng(0)
    sds, shape = (0.03, 0.02, 0.01, 0.005), (60, 20, 8, 6)
    values = np.zeros(shape)
    for level, sd in enumerate(sds):
        values += sd * rng.standard_normal(shape[: level + 1] + (1,) * (3 - level))
    found = variance.variance_components(values)
    assert np.sqrt(np.asarray(found, float)) == pytest.approx(sds, rel=0.15)


def test_a_level_of_one_adds_what_is_not_known_and_none_adds_less_than_nothing() -> None:
    assert variance.variance_components(np.full((1, 3, 2), 5.0)) == [None, 0.0, 0.0]
    alternating = np.tile([1.0, -1.0], (4, 1))
    assert variance.variance_components(alternating) == [0.0, 2.0]


def lines(plan: variance.Plan, contender: str, seconds: float, left_out=()) -> list[dict]:
    return [
        {
            "run": "digits-001",
            "batch_size": 1,
            "contender": contender,
            "occasion": occasion,
            "process": process,
            "median_s": [
                [seconds * (1 + 0.1 * (process % 2))] * plan.blocks for _ in range(plan.sessions)
            ],
            "call_variance": 0.0001,
        }
        for occasion in range(plan.occasions)
        for process in range(plan.processes)
        if (occasion, process) not in left_out
    ]


def test_the_table_has_a_row_of_each_contender_with_the_level_that_varies() -> None:
    plan = variance.Plan(occasions=2, processes=4, sessions=3, blocks=5)
    steady = [line | {"median_s": [[0.002] * 5] * 3} for line in lines(plan, variance.BASELINE, 1)]
    ((run, contender, size, ratio, *cells),) = variance.table_of(
        [*steady, *lines(plan, "ort/folded", 0.001)], plan
    )
    assert (run, contender, size) == ("digits-001", "ort/folded", "1")
    assert float(ratio) == pytest.approx(2 / 1.1**0.5, abs=1e-3)
    spread = 100 * np.log([1, 1.1, 1, 1.1]).std(ddof=1)
    assert [float(cell) for cell in cells] == pytest.approx(
        [0, spread, 0, 0, 100 * 0.0002**0.5], abs=0.01
    )


def test_an_occasion_that_is_not_complete_does_not_count() -> None:
    plan = variance.Plan(occasions=2, processes=2, sessions=3, blocks=5)
    samples, _ = variance.gather(lines(plan, "ort/folded", 1.0, left_out={(1, 1)}), plan)
    assert samples["digits-001", 1, "ort/folded"].shape == (1, 2, 3, 5)


def test_a_study_goes_on_only_with_the_plan_that_it_was_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = variance.Plan(occasions=1, processes=2, pause_s=0.0)
    measured: list[int] = []

    def measure(run, specs, plan, seed):
        measured.append(seed)
        if len(measured) == 2:
            raise KeyboardInterrupt
        yield {"batch_size": 1, "contender": "ort/folded", "median_s": [], "call_variance": 0.0}

    monkeypatch.setattr(variance, "measure_processes", measure)
    monkeypatch.setattr(variance, "specs_of", lambda run, plan: [])
    runs, path = [type("Named", (), {"name": "digits-001"})()], tmp_path / "variance.jsonl"
    with pytest.raises(KeyboardInterrupt):
        variance.study(runs, plan, path)
    assert len(variance.study(runs, plan, path)) == 2
    assert measured == [0, 1, 1]
    with pytest.raises(SystemExit, match="another plan"):
        variance.study(runs, variance.QUICK, path)


def row(ratio: float, half: float, verdict: str = "faster") -> dict:
    return {
        "contender": "ort/folded/cpu",
        "batch_size": 1,
        "boundary": "host",
        "ratio": ratio,
        "low": ratio - half,
        "high": ratio + half,
        "verdict": verdict,
    }


def test_intervals_that_hold_the_pooled_value_and_pairs_that_contradict_are_counted() -> None:
    found = repeatability.summarise(
        [row(2.0, 0.1), row(2.1, 0.1), row(2.2, 0.05, "slower"), row(2.1, 0.2)]
    )
    assert found["pooled"] == pytest.approx(2.0988, abs=1e-3)
    assert (found["comparisons"], found["held"]) == (4, 3)
    assert (found["apart"], found["pairs"]) == (1, 6)
    assert found["contradicting"] == 3
    assert found["half_width"] == pytest.approx((0.05 + 0.1 / 2.1) / 2)
    ((name, size, pooled, held, *_, verdicts, _),) = repeatability.table_of(
        [[row(2.0, 0.1)], [row(2.1, 0.1)]]
    )
    assert (name, size, pooled, held) == ("ort/folded/cpu", "1", "2.049", "2 of 2")
    assert verdicts == "2 faster"


def test_comparisons_that_were_made_are_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def compare(run, options):
        made.append(len(made))
        if len(made) == 3:
            raise KeyboardInterrupt
        return [row(2.0, 0.1)]

    monkeypatch.setattr(repeatability, "compare", compare)
    run, path = type("Named", (), {"name": "digits-001"})(), tmp_path / "repeatability.jsonl"
    with pytest.raises(KeyboardInterrupt):
        repeatability.repeat(run, 4, (), path)
    assert len(repeatability.repeat(run, 4, (), path)) == 4
    assert len(made) == 5
    with pytest.raises(SystemExit, match="other settings"):
        repeatability.repeat(run, 4, ("--budget", "9s"), path)
