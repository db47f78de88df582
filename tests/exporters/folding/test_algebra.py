"""The algebra of linear layers, against torch in float64, on whatever layers hypothesis finds."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from foldbench.exporters.folding.algebra import (
    FoldRefusedError,
    Linear,
    add,
    compose,
    pointwise,
    scale_inputs,
    scale_outputs,
)

CHANNELS = 4


@st.composite
def convolutions(draw: st.DrawFn) -> Linear:
    """Return a convolution of two dimensions from 4 channels to 4, of any geometry."""
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    groups = draw(st.sampled_from([1, 2, 4]))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    return Linear(
        random.standard_normal((CHANNELS, CHANNELS // groups, *kernel)),
        random.standard_normal(CHANNELS) * draw(st.sampled_from([0, 1])),
        (draw(st.integers(1, 2)),) * 2,
        tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in kernel),
        (draw(st.integers(1, 2)),) * 2,
        groups,
    )


def run(layer: Linear, x: torch.Tensor) -> torch.Tensor:
    (top, bottom), (left, right) = layer.padding
    return F.conv2d(
        F.pad(x, (left, right, top, bottom)),
        torch.tensor(layer.weight),
        torch.tensor(layer.bias),
        layer.stride,
        0,
        layer.dilation,
        layer.groups,
    )


def image(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, CHANNELS, 11, 12, dtype=torch.float64, generator=generator)


def vectors(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.standard_normal(CHANNELS), random.standard_normal(CHANNELS)


def by_channel(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values).reshape(-1, 1, 1)


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(convolutions())
def test_a_scale_after_a_layer_is_in_its_weights(layer: Linear) -> None:
    scale, shift = vectors()
    x = image()
    expected = run(layer, x) * by_channel(scale) + by_channel(shift)
    assert_same(run(scale_outputs(layer, scale, shift), x), expected)


@settings(max_examples=20, deadline=None)
@given(convolutions(), st.booleans())
def test_a_scale_before_a_layer_is_in_its_weights_or_refused(layer: Linear, shifts: bool) -> None:
    scale, shift = vectors()
    shift = shift * shifts
    x = image()
    if shifts and layer.is_padded:
        with pytest.raises(FoldRefusedError, match="borders"):
            scale_inputs(layer, scale, shift)
        return
    expected = run(layer, x * by_channel(scale) + by_channel(shift))
    assert_same(run(scale_inputs(layer, scale, shift), x), expected)


@settings(max_examples=60, deadline=None)
@given(convolutions(), convolutions())
def test_a_sum_of_layers_is_a_layer_or_refused(first: Linear, second: Linear) -> None:
    try:
        joined = add(first, second)
    except FoldRefusedError:
        return
    x = image()
    one, two = run(first, x), run(second, x)
    assert one.shape[2:] == two.shape[2:]
    assert_same(run(joined, x), one + two)


@pytest.mark.parametrize("kernel", [(1, 1), (1, 3), (5, 3), (7, 7)])
@pytest.mark.parametrize("stride", [1, 2])
def test_kernels_around_one_centre_are_never_refused(kernel: tuple[int, int], stride: int) -> None:
    random = np.random.default_rng(0)
    layers = [
        Linear(
            random.standard_normal((CHANNELS, CHANNELS, *sides)),
            random.standard_normal(CHANNELS),
            (stride, stride),
            tuple((side // 2, side // 2) for side in sides),
            (1, 1),
        )
        for sides in ((3, 3), kernel)
    ]
    joined = add(*layers)
    assert joined.kernel == tuple(max(3, side) for side in kernel)
    x = image()
    assert_same(run(joined, x), run(layers[0], x) + run(layers[1], x))


@settings(max_examples=60, deadline=None)
@given(convolutions(), convolutions())
def test_layers_after_one_another_are_a_layer_or_refused(first: Linear, second: Linear) -> None:
    try:
        joined = compose(first, second)
    except FoldRefusedError:
        return
    x = image()
    assert_same(run(joined, x), run(second, run(first, x)))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_pointwise_layer_joins_the_one_after_it(groups: int) -> None:
    random = np.random.default_rng(0)
    ones, none = (1, 1), ((0, 0), (0, 0))
    first = Linear(random.standard_normal((6, 4, 1, 1)), np.zeros(6), ones, none, ones)
    weight = random.standard_normal((8, 6 // groups, 3, 3))
    second = Linear(weight, np.ones(8), ones, ((1, 1), (1, 1)), ones, groups)
    x = image()
    assert_same(run(compose(first, second), x), run(second, run(first, x)))


def test_a_matrix_product_has_no_kernel() -> None:
    random = np.random.default_rng(0)
    a, b = (Linear(random.standard_normal((4, 4)), random.standard_normal(4)) for _ in range(2))
    x = random.standard_normal((3, 4))
    scale, shift = vectors()

    def apply(layer: Linear) -> np.ndarray:
        return x @ layer.weight.T + layer.bias

    np.testing.assert_allclose(apply(add(a, b)), apply(a) + apply(b))
    np.testing.assert_allclose(apply(compose(a, b)), apply(a) @ b.weight.T + b.bias)
    expected = (x * scale + shift) @ a.weight.T + a.bias
    np.testing.assert_allclose(apply(scale_inputs(a, scale, shift)), expected)
    identity = add(pointwise(scale, shift, 0), a)
    np.testing.assert_allclose(apply(identity), x * scale + shift + apply(a))
