"""The range of least divergence: that of onnxruntime's own search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.quantization.calibrate import HistogramCollector

from foldbench.exporters.quantization.entropy import entropy_threshold

CODES = 16
COLLECTOR = HistogramCollector("entropy", False, 64, CODES, 99.9, "same")


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 2000),
    bins=st.integers(CODES, 90),
    form=st.sampled_from(["bell", "rectified", "clipped", "few values", "far outliers", "zeros"]),
)
def test_it_is_the_one_that_onnxruntime_finds(seed: int, count: int, bins: int, form: str) -> None:
    numbers = np.random.default_rng(seed).standard_normal(count).astype(np.float32)
    numbers = {
        "bell": numbers,
        "rectified": np.maximum(numbers, 0),
        "clipped": np.clip(numbers, -0.5, 1),
        "few values": np.round(numbers),
        "far outliers": np.where(numbers > 1.5, numbers * 20, numbers),
        "zeros": np.zeros_like(numbers),
    }[form]
    most = np.abs(numbers).max()
    counts, edges = np.histogram(numbers, bins, range=(-most, most))
    histogram = (counts, edges, numbers.min(), numbers.max(), most)
    expected = COLLECTOR.get_entropy_threshold(histogram, CODES)
    found = entropy_threshold(histogram, CODES)
    assert found == expected
    assert [value.dtype for value in found] == [value.dtype for value in expected]


def test_a_range_that_holds_the_numbers_is_not_wider_than_they_are() -> None:
    counts, edges = np.histogram([0.0, 0.25, 1.0], 64, range=(-1.0, 1.0))
    low, high = entropy_threshold((counts, edges, np.float64(0.0), np.float64(1.0)), CODES)
    assert low == 0.0
    assert high == pytest.approx(1.0)
