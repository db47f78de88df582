"""How far logits are apart, and what is no number."""

import numpy as np

from foldbench.bench.analysis.logits import measure_agreement


def test_logits_that_are_no_numbers_agree_on_no_class() -> None:
    good = np.eye(4, 3, dtype=np.float32)
    bad = good.copy()
    bad[1] = np.nan
    assert measure_agreement(good, good).top1_equal == 4
    assert measure_agreement(good, bad).top1_equal == 3
    assert measure_agreement(bad, bad).top1_equal == 3
    assert measure_agreement(bad * np.nan, bad * np.nan).top1_equal == 0
