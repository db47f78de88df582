"""The operations of a network, and the machine's own rate of matrix products."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

from builders import QUICK
from foldbench.bench.machine.interference import Counters
from foldbench.bench.measure import roofline
from foldbench.bench.measure.roofline import (
    count_flops,
    count_traffic,
    measure_copies,
    measure_peak_throughput,
    measure_rates,
    product_kinds,
)
from foldbench.bench.progress import NullListener, ProgressListener
from foldbench.bench.stages.compare import compare_run
from foldbench.bench.store.directory import Paths, RunDirectory


def test_operations_are_those_of_convolutions_and_matrix_products() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Mish(), nn.Flatten())
    network.append(nn.Linear(4 * 6 * 6, 10)).eval()
    convolution, product = 2 * (3 * 3 * 3) * 4 * 36, 2 * (4 * 36) * 10
    assert count_flops(network, (3, 8, 8)) == convolution + product


def test_grouped_convolutions_have_only_the_operations_of_their_group() -> None:
    assert count_flops(nn.Conv2d(4, 4, 3, groups=4), (4, 8, 8)) == 2 * 9 * 4 * 36


def test_traffic_is_inputs_weights_and_results_of_the_same_operators() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Mish(), nn.Flatten())
    network.append(nn.Linear(4 * 6 * 6, 10)).eval()
    found = count_traffic(network, (3, 8, 8))
    assert found.numbers_per_call == (4 * 27 + 4) + (10 * 144 + 10)
    assert found.numbers_per_image == (3 * 64 + 4 * 36) + (144 + 10)


def contender(backend: str, device: str = "cpu", status: str = "ok") -> SimpleNamespace:
    return SimpleNamespace(backend=backend, device=device, status=status)


def test_products_are_measured_in_the_precisions_that_contenders_are_to_compute_in() -> None:
    rows = [contender("torch"), contender("torch:bf16+channels_last"), contender("ort", "cuda")]
    rows += [contender("ort:tf32", "cuda"), contender("torch:fp16", "cuda", status="skipped")]
    assert product_kinds(rows) == (
        ("cpu", "float32"),
        ("cpu", "bfloat16"),
        ("cuda", "float32"),
        ("cuda", "tf32"),
    )


def counters(run_delay_s: float) -> Callable[[], Counters]:
    """A kernel that counts so many seconds of waiting between any two looks, 1 s apart."""
    looks = count()

    def look() -> Counters:
        n = next(looks)
        return Counters(
            wall_s=n, cpu_s=n, run_delay_s=n * run_delay_s, pressure_s=None, steal_s=None
        )

    return look


def test_each_kind_is_timed_in_every_turn() -> None:
    ticks = count(step=0.03)
    kinds = [("cpu", "float32"), ("cpu", "bfloat16")]
    rates = measure_rates(kinds, 1, lambda: next(ticks), 8, counters(0.0))
    assert [(rate.precision, rate.size, rate.threads) for rate in rates] == [
        ("float32", 8, 1),
        ("bfloat16", 8, 1),
    ]
    for rate in rates:
        # began at 0, looked after one product at 0.03, after two at 0.06, and noted 0.09
        assert rate.samples_s == (pytest.approx(0.09 / 2),) * 7
        assert rate.clean == (True,) * 7


def test_copies_are_timed_as_products_are() -> None:
    ticks = count(step=0.03)
    (rate,) = measure_copies(["cpu"], 2, lambda: next(ticks), 16, counters(0.0))
    assert (rate.device, rate.size_bytes, rate.threads) == ("cpu", 16, 2)
    assert rate.samples_s == (pytest.approx(0.09 / 2),) * 7
    assert rate.clean == (True,) * 7


def test_disturbed_blocks_are_made_again_and_told_from_the_others() -> None:
    ticks = count(step=0.03)
    (rate,) = measure_rates([("cpu", "float32")], 1, lambda: next(ticks), 8, counters(0.5))
    assert rate.clean == (False,) * 28


def test_it_does_not_go_on_for_ever_beside_a_neighbour() -> None:
    ticks = count(step=3.0)
    (rate,) = measure_rates([("cpu", "float32")], 1, lambda: next(ticks), 8, counters(0.5))
    assert rate.clean == (False,) * 7


@pytest.mark.usefixtures("in_process")
def test_a_comparison_records_both_and_the_report_shows_the_share(
    own_run: RunDirectory, trained_paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roofline, "run_isolated", lambda call, *arguments: call(*arguments))
    monkeypatch.setitem(roofline._SIZE, "cpu", 64)
    monkeypatch.setitem(roofline._COPY_BYTES, "cpu", 2**16)
    monkeypatch.setattr(roofline, "_SAMPLE_S", 0.001)
    overrides = [*QUICK, "compare.arithmetic=true", "compare.backends=[torch]"]
    record = compare_run(own_run, overrides, trained_paths, NullListener())
    assert record.arithmetic is not None
    assert record.arithmetic.flops_per_image > 1e6
    (rate,) = record.arithmetic.matmul_rates
    assert (rate.device, rate.precision) == ("cpu", "float32")
    assert all(seconds > 0 for seconds in rate.samples_s)
    text = (own_run.path / "report.md").read_text(encoding="utf-8")
    assert "peak matmul throughput" in text
    assert record.arithmetic.traffic is not None
    assert [rate.device for rate in record.arithmetic.copy_rates] == ["cpu"]
    assert "memory bandwidth (roofline)" in text


def test_when_it_cannot_be_measured_a_note_says_why(own_run: RunDirectory) -> None:
    said: list[str] = []

    class Notes(NullListener):
        def note(self, text: str) -> None:
            said.append(text)

    listener: ProgressListener = Notes()
    checkpoint = own_run.checkpoint()
    found = measure_peak_throughput(checkpoint, Path("/nowhere"), [("cpu", "float32")], 1, listener)
    assert found is None
    assert "peak throughput" in said[-1]
    assert "/nowhere" in said[-1]
