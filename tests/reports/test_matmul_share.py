"""The share of the machine's matrix-product rate, and what tuned contenders tried."""

import json

import pytest

from bench.records_machine import Arithmetic, MatmulRate, Tuning, Way
from reports.render import render

FRACTION = "Fraction of the matrix-product rate"


def rate(precision: str = "float32", size: int = 1000, clean=(True, True, False), **changes):
    fields = {"device": "cpu", "threads": 2, "samples_s": (0.02, 0.03, 0.025), **changes}
    return MatmulRate(precision=precision, size=size, clean=clean, **fields)


def measured(*rates: MatmulRate) -> Arithmetic:
    return Arithmetic(flops_per_image=50_000_000, matmul_rates=rates)


def rows_of(run):
    return json.loads(render(run, "json"))["runs"][0]["matmul_share"]


def one_row(build, median_s: float, batch_size: int, **changes):
    timing = build.timing(batch_size, build.steady(median_s, 12))
    return build.row("ort", "folded", timings=(timing,), **changes)


def test_a_share_is_operations_per_second_over_those_of_the_fastest_products(build) -> None:
    run = build.run(measurements=(one_row(build, 0.01, 4),), arithmetic=measured(rate()))
    (row,) = rows_of(run)
    assert row["flops_per_s"] == pytest.approx(4 * 50e6 / 0.01, rel=1e-3)
    assert row["matmul_flops_per_s"] == pytest.approx(2e9 / 0.02)
    assert row["share"] == pytest.approx(0.2, rel=1e-3)
    words = next(
        line
        for line in render(run)[render(run).index(FRACTION) :].splitlines()
        if line.startswith("ort/folded/cpu")
    ).split()
    assert words == ["ort/folded/cpu", "4", "20.0", "100", "20.00"]


def test_a_row_is_held_against_products_in_its_own_precision(build) -> None:
    run = build.run(
        measurements=(one_row(build, 0.01, 4, precision="bfloat16"),),
        arithmetic=measured(rate(), rate("bfloat16", samples_s=(0.005, 0.005, 0.005))),
    )
    assert rows_of(run)[0]["share"] == pytest.approx(0.05, rel=1e-3)


def test_without_products_in_its_precision_a_row_has_no_share(build) -> None:
    run = build.run(
        measurements=(one_row(build, 0.01, 4, precision="int8"),), arithmetic=measured(rate())
    )
    (row,) = rows_of(run)
    assert row["flops_per_s"] > 0
    assert (row["matmul_flops_per_s"], row["share"]) == (None, None)


def test_a_record_without_the_rate_has_no_such_section(build) -> None:
    run = build.run()
    assert rows_of(run) == []
    assert FRACTION not in render(run)


def test_the_caption_says_how_it_was_measured_and_whether_anything_else_ran(build) -> None:
    quiet = build.run(arithmetic=measured(rate()))
    text = " ".join(render(quiet).split())
    assert "50.0 MFLOP an image" in text
    assert "float32 on cpu, 2 threads, 1,000 rows and columns: 100 GFLOP/s in the best of" in text
    assert "80.0 in the median" in text
    assert "something else ran" not in text
    busy = build.run(arithmetic=measured(rate(clean=(False, False, False))))
    assert "(something else ran in all of them: too low)" in " ".join(render(busy).split())


def test_what_a_tuned_contender_tried_is_shown_with_its_choice(build) -> None:
    ways = (Way(name="whole batch", medians_s=(0.06, 0.062)),)
    ways += (Way(name="pieces of 16", medians_s=(0.05, 0.054)),)
    tuning = Tuning(batch_size=64, chosen="pieces of 16", ways=ways)
    text = render(build.run(measurements=(one_row(build, 0.05, 64, tunings=(tuning,)),)), "md")
    assert "| ort/folded/cpu |      64 | whole batch" in text
    (chosen,) = (line for line in text.splitlines() if line.rstrip(" |").endswith("chosen"))
    assert [cell.strip() for cell in chosen.strip("|").split("|")] == [
        "ort/folded/cpu",
        "64",
        "pieces of 16",
        "52.0",
        "50.0",
        "chosen",
    ]
