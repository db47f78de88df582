"""The table of two versions of a runtime, from records."""

import builders as B
from benchmarks import versions
from foldbench.bench.records import Block, Timing


def timings(seconds: float) -> tuple[Timing, ...]:
    """Twelve clean rounds in three processes that differ by 1 %, for each batch size."""
    blocks = tuple(
        Block(round=n, process=1 + n // 4, samples_s=(seconds * (1 + n // 4 / 100),))
        for n in range(12)
    )
    return tuple(
        Timing(batch_size=size, first_call_s=None, warmup_calls=0, blocks=blocks)
        for size in versions.SIZES
    )


def test_a_row_has_both_medians_and_the_speed_up_of_the_newer_one() -> None:
    rows = tuple(
        B.make_row(backend, "folded", timings=timings(seconds), accuracy=None)
        for backend, seconds in (("ort@1.0.0", 4e-3), ("ort@2.0.0", 2e-3))
    )
    run = B.make_run(name="net-001", baseline="ort@1.0.0/folded", rounds=12, measurements=rows)
    text = versions.to_report([run], ("1.0.0", "2.0.0"))
    (first, second) = [line.split("|")[1:-1] for line in text.splitlines() if "2.00 (" in line]
    assert [cell.strip() for cell in first[1:4]] == ["1", "4.04", "2.02"]
    assert second[1].strip() == "8"
