"""Folding in the user's own process: the right answers, and nothing else changes."""

import doctest
import threading
import warnings

import pytest
import torch
from torch import nn

import foldbench
from foldbench.bench.api import folding
from foldbench.bench.errors import BenchError


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 3))


def test_the_example_of_the_docstring_runs() -> None:
    assert doctest.testmod(folding) == (0, 6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_folded_module_gives_the_same_answers(dtype: torch.dtype) -> None:
    module = network().to(dtype).train()
    x = torch.rand(5, 1, 8, 8, dtype=dtype)
    folded, report = foldbench.fold(module, x)
    assert module.training
    assert (report.batchnorms_before, report.batchnorms_after) == (1, 0)
    assert torch.allclose(folded(x), module.eval()(x), atol=1e-5)


def test_folding_leaves_the_process_as_it_was() -> None:
    def state() -> list[object]:
        return [
            torch.get_rng_state().tolist(),
            torch.is_grad_enabled(),
            list(warnings.filters),
            threading.active_count(),
        ]

    module = network()
    before = state()
    foldbench.fold(module, input_shape=(1, 8, 8))
    assert state() == before


def test_what_cannot_be_folded_is_refused() -> None:
    module = network()
    for arguments in (
        {"module": "net.py:Net", "input_shape": (1, 8, 8)},
        {"module": module},
        {"module": module, "input_shape": (8, 8)},
        {"module": module, "example": torch.rand(1, 1, 8, 8), "input_shape": (1, 8, 8)},
        {"module": module, "input_shape": (3, 8, 8)},
    ):
        with pytest.raises(BenchError) as caught:
            foldbench.fold(**arguments)
        assert "\n" not in str(caught.value)
