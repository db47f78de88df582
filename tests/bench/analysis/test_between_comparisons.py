"""What a machine changes between comparisons, learned from those that are kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import ENVIRONMENT, make_row, make_run, make_timing, sha
from foldbench.bench.analysis.advice.rules import advise
from foldbench.bench.analysis.between_comparisons import (
    between_comparisons,
    with_between_comparisons,
)
from foldbench.bench.analysis.latency_change import latency_changes
from foldbench.bench.analysis.ratios import ratio_between
from foldbench.bench.analysis.speedups import measure_speedup
from foldbench.bench.records import BetweenComparisons, Run
from foldbench.bench.samples.ratios import ASSUMED_SD
from foldbench.reports.render import render

SERIES = 500
TORCH_S = 0.004


def coverage(drift_sd: float, assumed_sd: float, count: int) -> float:
    """Return the share of series whose last comparison's interval holds the truth."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(SERIES):
        logs = drift_sd * rng.standard_normal((count, 1)) + 0.03 * rng.standard_normal((count, 6))
        estimates = [(float(row.mean()), float(row.var(ddof=1)) / 6) for row in logs]
        found = between_comparisons(estimates[::-1], assumed_sd)
        ratio = ratio_between(logs[-1].tolist(), 18, [(found.sd**2, found.freedom)])
        held += (ratio.low or 0.0) <= 1 <= (ratio.high or 0.0)
    return held / SERIES


def test_what_is_assumed_covers_a_first_comparison() -> None:
    assert coverage(ASSUMED_SD, ASSUMED_SD, 1) >= 0.95
    assert coverage(ASSUMED_SD, 0.0, 1) < 0.75


@pytest.mark.parametrize("drift_sd", [0.01, 0.025, 0.04, 0.06])
def test_a_tenth_comparison_has_learned_what_the_machine_changes(drift_sd: float) -> None:
    assert coverage(drift_sd, ASSUMED_SD, 10) >= 0.93
    assert coverage(drift_sd, 0.0, 10) >= 0.92


estimates = st.tuples(st.floats(-2, 2), st.floats(0, 0.01))


@given(st.lists(estimates, min_size=1, max_size=12), st.sampled_from([0.0, ASSUMED_SD]))
def test_more_comparisons_are_more_certain_and_never_below_nothing(found, assumed_sd) -> None:
    between = between_comparisons(found, assumed_sd)
    logs = [log for log, _ in found]
    spread = float(np.std(logs, ddof=1)) if len(logs) > 1 else 0.0
    assert 0 <= between.sd <= max(assumed_sd, spread) + 1e-12
    assert (between.comparisons, between.freedom) == (len(found), 3 + len(found))


def compared(speedup: float, virtual: bool = True, **changes) -> Run:
    """Return a comparison in which `ort` was so much faster, in 5 processes of 2 rounds."""
    wobble = np.asarray([1.0, 1.01, 0.99, 1.005, 0.995]).repeat(2)

    def timing(seconds: float, sign: int):
        return make_timing(1, list(seconds * wobble**sign), processes=5)

    rows = (
        make_row("torch", "unfolded", timings=(timing(TORCH_S, 1),)),
        make_row("ort", "folded", timings=(timing(TORCH_S / speedup, -1),)),
    )
    environment = {**ENVIRONMENT, "virtual_machine": virtual}
    return make_run(**{"environment": environment, "measurements": rows, **changes})


def between_of(run: Run) -> BetweenComparisons | None:
    return run.measurements[1].timings[0].between_comparisons


def half_width_of(run: Run) -> float:
    found = measure_speedup(run, run.measurements[1], 1)
    assert found is not None
    assert found.ratio is not None
    assert found.ratio.high is not None
    return found.ratio.high / found.ratio.point - 1


def test_a_first_comparison_on_a_virtual_machine_is_wider_and_the_report_says_so() -> None:
    alone, told = compared(2.0), with_between_comparisons(compared(2.0), [])
    between = between_of(told)
    assert between == BetweenComparisons(sd=ASSUMED_SD, freedom=4, comparisons=1)
    assert half_width_of(told) > half_width_of(alone) + 0.02
    assert told.measurements[0].timings[0].between_comparisons is None
    assert "2.50 %" in render(told, "md")
    assert "2.50 %" not in render(alone, "md")


def test_where_no_hypervisor_is_known_nothing_is_assumed() -> None:
    alone = compared(2.0, virtual=False)
    assert half_width_of(with_between_comparisons(alone, [])) == pytest.approx(half_width_of(alone))


def test_earlier_comparisons_that_differ_widen_and_those_that_agree_narrow_it() -> None:
    first = half_width_of(with_between_comparisons(compared(2.0), []))
    apart = with_between_comparisons(compared(2.0), [compared(2.4), compared(1.7), compared(2.2)])
    alike = with_between_comparisons(compared(2.0), [compared(2.0)] * 6)
    assert half_width_of(alike) < first < half_width_of(apart)
    between = between_of(apart)
    assert between is not None
    assert between.comparisons == 4


def other_file(run: Run) -> Run:
    torch, ort = run.measurements
    return run.model_copy(
        update={"measurements": (torch, ort.model_copy(update={"source_sha256": sha("7")}))}
    )


@pytest.mark.parametrize(
    "other",
    [
        other_file(compared(3.0)),
        compared(3.0, environment={**ENVIRONMENT, "virtual_machine": True, "cpu": "another"}),
        compared(3.0, environment={**ENVIRONMENT, "virtual_machine": True, "torch": "1.0"}),
    ],
    ids=["file", "machine", "version"],
)
def test_comparisons_of_another_file_machine_or_version_teach_nothing(other: Run) -> None:
    between = between_of(with_between_comparisons(compared(2.0), [other]))
    assert between is not None
    assert between.comparisons == 1


def test_two_comparisons_that_drifted_apart_are_no_change() -> None:
    a, b = compared(2.0), compared(2.06)
    (change,) = latency_changes(a, b, ["ort/folded/cpu"])
    told = with_between_comparisons(a, []), with_between_comparisons(b, [a])
    (judged,) = latency_changes(*told, ["ort/folded/cpu"])
    assert change.ratio is not None
    assert judged.ratio is not None
    assert change.ratio.low is not None
    assert change.ratio.low > 1
    assert judged.ratio.low is not None
    assert judged.ratio.low < 1 < (judged.ratio.high or 0.0)


def test_more_time_is_not_advised_against_what_no_time_narrows() -> None:
    run = with_between_comparisons(compared(2.0), [])
    timings = [
        m.model_copy(
            update={"timings": tuple(t.model_copy(update={"stopped": "budget"}) for t in m.timings)}
        )
        for m in run.measurements
    ]
    run = run.model_copy(
        update={
            "measurements": tuple(timings),
            "config": {**run.config, "compare": {"interval": 0.03}},
        }
    )
    assert half_width_of(run) > 0.03
    assert "budget_spent" not in {advice.kind for advice in advise(run)}
