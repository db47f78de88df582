"""The share of the machine's matrix-product rate, and what tuned contenders tried."""

import json

import pytest

from foldbench.bench.records import CopyRate, MatmulRate, PeakThroughput, Tactic, Traffic, Tuning
from foldbench.reports.render import render

FRACTION = "Share of peak matmul throughput (roofline)"


def rate(precision: str = "float32", size: int = 1000, clean=(True, True, False), **changes):
    fields = {"device": "cpu", "threads": 2, "samples_s": (0.02, 0.03, 0.025), **changes}
    return MatmulRate(precision=precision, size=size, clean=clean, **fields)


def measured(*rates: MatmulRate) -> PeakThroughput:
    return PeakThroughput(flops_per_image=50_000_000, matmul_rates=rates)


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


COPIES = "Share of memory bandwidth (roofline)"


def copying(**changes) -> PeakThroughput:
    """A network of 1,000 weights that moves 500 numbers an image, and copies at 1 GB/s."""
    copies = {"device": "cpu", "threads": 2, "size_bytes": 10**6, "samples_s": (0.002, 0.003)}
    return PeakThroughput(
        flops_per_image=50_000_000,
        matmul_rates=(rate(),),
        traffic=Traffic(numbers_per_call=1000, numbers_per_image=500),
        copy_rates=(CopyRate(**{**copies, "clean": (True, True), **changes}),),
    )


@pytest.mark.parametrize(("precision", "size"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_a_share_of_copies_is_what_has_to_be_moved_over_what_copies_move(
    build, precision: str, size: int
) -> None:
    row = one_row(build, 0.01, 4, precision=precision)
    run = build.run(measurements=(row,), arithmetic=copying())
    (found,) = rows_of(run)
    assert found["bytes_per_s"] == pytest.approx((1000 + 4 * 500) * size / 0.01, rel=1e-3)
    assert found["copy_bytes_per_s"] == pytest.approx(1e9), "a copy reads and writes"
    assert found["copy_share"] == pytest.approx(3e5 * size / 1e9, rel=1e-3)
    text = " ".join(render(run).split())
    assert COPIES in text
    assert "1.00 GB/s in the best" in text


def test_records_without_copies_have_no_section_of_them(build) -> None:
    run = build.run(measurements=(one_row(build, 0.01, 4),), arithmetic=measured(rate()))
    assert COPIES not in render(run)
    assert rows_of(run)[0]["copy_share"] is None


def test_what_runs_on_a_gpu_has_a_share_within_either_boundary(build) -> None:
    times = {"host": 0.01, "device": 0.005}
    timings = [build.timing(4, build.steady(s, 12), boundary=b) for b, s in times.items()]
    on_gpu = {"requested_device": "cuda", "actual_device": "cuda:0"}
    row = build.row("ort", "folded", timings=tuple(timings), **on_gpu)
    run = build.run(measurements=(row,), arithmetic=copying(device="cuda"))
    shares = {found["boundary"]: found["copy_share"] for found in rows_of(run)}
    assert shares["device"] == pytest.approx(2 * shares["host"], rel=1e-3)


def test_a_record_without_the_rate_has_no_such_section(build) -> None:
    run = build.run()
    assert rows_of(run) == []
    assert FRACTION not in render(run)


def test_the_caption_says_how_it_was_measured_and_whether_anything_else_ran(build) -> None:
    quiet = build.run(arithmetic=measured(rate()))
    text = " ".join(render(quiet).split())
    assert "50.0 MFLOP an image" in text
    assert "2 threads, 1,000 rows" in text
    assert "100 GFLOP/s in the best" in text
    assert "80.0 in the median" in text
    assert "something else ran" not in text
    busy = build.run(arithmetic=measured(rate(clean=(False, False, False))))
    assert "something else ran" in " ".join(render(busy).split())


def test_what_a_tuned_contender_tried_is_shown_with_its_choice(build) -> None:
    ways = (Tactic(name="whole batch", medians_s=(0.06, 0.062)),)
    ways += (Tactic(name="micro-batches of 16", medians_s=(0.05, 0.054)),)
    tuning = Tuning(batch_size=64, chosen="micro-batches of 16", ways=ways)
    text = render(build.run(measurements=(one_row(build, 0.05, 64, tunings=(tuning,)),)), "md")
    assert "| ort/folded/cpu |      64 | whole batch" in text
    (chosen,) = (line for line in text.splitlines() if line.rstrip(" |").endswith("chosen"))
    assert [cell.strip() for cell in chosen.strip("|").split("|")] == [
        "ort/folded/cpu",
        "64",
        "micro-batches of 16",
        "52.0",
        "50.0",
        "chosen",
    ]
