"""Speed-ups from stored blocks: clean rounds alone, or the floors, and what they may be called."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from foldbench.bench.analysis.clean import clean_blocks, clean_pairs
from foldbench.bench.analysis.estimates import Ratio, best_case_ratio, judge, largest_gap
from foldbench.bench.analysis.speedups import find_reference, measure_speedup
from foldbench.bench.records import Block, Measurement, Timing


def blocks(seconds: list[float], dirty: set[int] = frozenset(), repeat: int = 1) -> list[Block]:
    """Rounds from 1 on (from 101 on in a second repetition), with the rounds in `dirty` loaded."""
    return [
        Block(
            round=number + 100 * (repeat - 1),
            repeat=repeat,
            samples_s=(value * (3 if number in dirty else 1),) * 10,
            run_delay_ratio=0.9 if number in dirty else 0.01,
        )
        for number, value in enumerate(seconds, start=1)
    ]


def row(variant: str, of: list[Block], role: str = "contender", device: str = "cpu") -> Measurement:
    return Measurement(
        contender=f"torch/{variant}/{device} {role}",
        role=role,
        backend="torch",
        variant=variant,
        requested_device=device,
        actual_device="cpu" if device == "cpu" else "cuda:0",
        status="ok",
        timings=(Timing(batch_size=1, first_call_s=None, warmup_calls=0, blocks=tuple(of)),),
    )


def run_of(*measurements: Measurement, rounds: int = 20) -> SimpleNamespace:
    return SimpleNamespace(measurements=measurements, rounds=rounds, baseline="torch/unfolded")


def steady(value: float, count: int = 20) -> list[float]:
    return [value * (1 + 0.002 * (k % 5)) for k in range(count)]


def test_a_round_counts_when_both_were_left_alone() -> None:
    candidate, baseline = blocks(steady(1.0), {1, 2}), blocks(steady(2.0), {2, 3})
    mine, clean = clean_pairs(candidate, baseline)
    assert sorted(mine) == sorted(clean) == list(range(4, 21))


def test_dirty_rounds_do_not_move_the_ratio() -> None:
    reference = row("unfolded", blocks(steady(2.0)))
    quiet = row("folded", blocks(steady(1.0)))
    loaded = row("folded", blocks(steady(1.0), set(range(1, 11))))
    for other in (quiet, loaded):
        found = measure_speedup(run_of(reference, other), other, 1)
        assert found is not None
        assert found.ratio is not None
        assert found.ratio.point == pytest.approx(2.0, rel=0.01)
        assert found.verdict == "faster"
    assert (found.rounds, found.clean_rounds) == (20, 10)


@pytest.mark.parametrize(("processes", "is_estimate"), [(3, True), (2, False)])
def test_one_clean_round_in_each_of_three_processes_is_enough(
    processes: int, is_estimate: bool
) -> None:
    sides = [
        [replace(block, process=block.round) for block in blocks(steady(seconds, processes))]
        for seconds in (1.0, 2.0)
    ]
    fast, baseline = row("folded", sides[0]), row("unfolded", sides[1])
    found = measure_speedup(run_of(fast, baseline), fast, 1)
    assert found is not None
    assert (found.verdict == "faster") == (found.ratio is not None) == is_estimate


def test_with_too_few_clean_rounds_there_is_only_the_ratio_of_the_floors() -> None:
    reference = row("unfolded", blocks(steady(2.0)))
    other = row("folded", blocks(steady(1.0), set(range(1, 15))))
    found = measure_speedup(run_of(reference, other), other, 1)
    assert found is not None
    assert (found.ratio, found.verdict, found.clean_rounds) == (None, None, 6)
    assert found.floor_ratio == pytest.approx(2.0, rel=0.02)


def test_the_reference_is_unfolded_torch_on_the_same_device_and_no_self_check() -> None:
    again = row("unfolded", blocks(steady(2.0)), role="again")
    cpu = row("unfolded", blocks(steady(2.0)))
    cuda = row("unfolded", blocks(steady(0.2)), device="cuda")
    folded = row("folded", blocks(steady(0.1)), device="cuda")
    run = run_of(again, cpu, cuda, folded)
    assert find_reference(run, folded) is cuda
    assert find_reference(run, again) is cpu
    assert find_reference(run_of(again, cpu, folded), folded) is None


def test_no_claim_is_made_below_what_the_reference_differs_from_itself() -> None:
    reference, again = row("unfolded", blocks(steady(2.0))), None
    other = row("folded", blocks(steady(1.85)))
    found = measure_speedup(run_of(reference, other), other, 1)
    assert found is not None
    assert found.verdict == "faster"
    again = row("unfolded", blocks(steady(2.3)), role="again")
    found = measure_speedup(run_of(reference, again, other), other, 1)
    assert found is not None
    assert found.noise_floor == pytest.approx(1 - 2.0 / 2.3, rel=0.01)
    assert found.verdict == "no difference resolved"


def test_each_repetition_gives_a_ratio_of_its_own() -> None:
    reference = row("unfolded", blocks(steady(2.0)) + blocks(steady(2.0), repeat=2))
    other = row("folded", blocks(steady(1.0)) + blocks(steady(1.25), repeat=2))
    found = measure_speedup(run_of(reference, other), other, 1)
    assert found is not None
    assert found.repeats == pytest.approx((2.0, 1.6), rel=0.01)


def test_the_reference_itself_is_one_without_an_interval() -> None:
    reference = row("unfolded", blocks(steady(2.0)))
    found = measure_speedup(run_of(reference), reference, 1)
    assert found is not None
    assert (found.ratio, found.verdict) == (Ratio(1.0, None, None, 20), None)


def test_without_any_clean_block_all_are_used_for_latency() -> None:
    dirty = row("folded", blocks([1.0, 1.0], {1, 2})).timings[0]
    mixed = row("folded", blocks([1.0, 1.0], {1})).timings[0]
    assert len(clean_blocks(dirty)) == 2
    assert [block.round for block in clean_blocks(mixed)] == [2]


@pytest.mark.parametrize(
    ("ratio", "floor", "verdict"),
    [
        (Ratio(1.5, 1.4, 1.6, 20), 0.01, "faster"),
        (Ratio(0.5, 0.4, 0.6, 20), 0.01, "slower"),
        (Ratio(1.02, 1.01, 1.03, 20), 0.0, "no difference resolved"),
        (Ratio(1.2, 0.99, 1.3, 20), 0.0, "no difference resolved"),
        (Ratio(1.2, 1.1, 1.3, 20), 0.25, "no difference resolved"),
        (Ratio(1.2, 1.13, 1.26, 20), 0.17, "no difference resolved"),
        (Ratio(1.2, 1.18, 1.26, 20), 0.17, "faster"),
        (Ratio(0.8, 0.75, 0.9, 20), 0.17, "no difference resolved"),
        (Ratio(0.8, 0.75, 0.82, 20), 0.17, "slower"),
        (Ratio(1.2, None, None, 3), 0.0, None),
    ],
)
def test_a_verdict_needs_an_interval_beside_one_and_a_difference_above_the_floor(
    ratio: Ratio, floor: float, verdict: str | None
) -> None:
    assert judge(ratio, floor) == verdict


def test_two_states_show_as_a_gap_and_one_outlier_does_not() -> None:
    one = [1.0 + 0.001 * k for k in range(20)]
    assert largest_gap(one) == pytest.approx(0.001, rel=0.05)
    assert largest_gap([*one[:-1], 2.0]) == pytest.approx(0.001, rel=0.05)
    assert largest_gap(one[:10] + [1.4 + 0.001 * k for k in range(10)]) > 0.3
    assert largest_gap(one[:9]) is None


def test_the_floor_ratio_ignores_what_load_adds() -> None:
    candidate, baseline = [1.0] * 20 + [9.0] * 80, [2.0] * 30 + [30.0] * 70
    assert best_case_ratio(baseline, candidate) == pytest.approx(2.0)
    assert best_case_ratio([], candidate) is None
