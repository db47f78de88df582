"""Linear layers as numbers, and what becomes of them when they are joined; all in float64.

A layer is y = W * x + b, where * is a convolution, or a matrix product when there is no kernel. All
functions return a new layer that computes the same for every input, or raise FoldRefusedError.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd, prod

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

ZEROS, SAME = "zeros", "same"
"""Borders: zeros around the input, and as many zeros as the size of the input asks for."""
_ROUNDING = 1e-6
"""By which what a network has computed in float32 may be off, as a share of the largest."""


class FoldRefusedError(Exception):
    """Something that stays as it is; its text says why."""


@dataclass(frozen=True, eq=False)
class Linear:
    """A convolution, a transposed convolution, or without a kernel a matrix product."""

    weight: Doubles
    """(out, in / groups, *kernel), of a transposed convolution (in, out / groups, *kernel)."""
    bias: Doubles
    """(out,)"""
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    """Before and after, by dimension of the kernel."""
    dilation: tuple[int, ...] = ()
    groups: int = 1
    borders: str = ZEROS
    """``zeros``, ``same``, or another mode of torch's (reflect, replicate, circular)."""
    transposed: bool = False

    @property
    def kernel(self) -> tuple[int, ...]:
        """Taps by dimension."""
        return self.weight.shape[2:]

    @property
    def inputs(self) -> int:
        """Channels of the input."""
        return self.weight.shape[0] if self.transposed else self.weight.shape[1] * self.groups

    @property
    def macs(self) -> int:
        """Multiplications for each position of the output, or of the input when transposed."""
        return self.weight.size

    @property
    def is_pointwise(self) -> bool:
        """Whether each position of the output follows from one position of the input alone."""
        return prod(self.kernel) == 1 and not self.transposed and not self.is_padded

    @property
    def is_padded(self) -> bool:
        """Whether anything is put around the input."""
        return self.borders == SAME or any(any(pair) for pair in self.padding)

    @property
    def geometry(self) -> tuple[object, ...]:
        """All that says how it moves over the input."""
        moves = (self.stride, self.padding, self.dilation)
        return (self.kernel, *moves, self.groups, self.borders, self.transposed)


def pointwise(scale: Doubles, shift: Doubles, dimensions: int) -> Linear:
    """Return y = x * scale + shift by channel as a layer for inputs with `dimensions` sides."""
    weight = scale.reshape(-1, 1, *[1] * dimensions)
    ones = (1,) * dimensions
    return Linear(weight, shift, ones, ((0, 0),) * dimensions, ones, groups=len(scale))


def scale_outputs(layer: Linear, scale: Doubles, shift: Doubles) -> Linear:
    """Return `layer` followed by y * scale + shift, both (out,).

    w' = w s, b' = b s + t (Jacob et al. 2018, "Quantization and Training of Neural Networks",
    section 3.2).
    """
    rest = [1] * len(layer.kernel)
    with np.errstate(all="ignore"):
        if layer.transposed:
            rows = layer.inputs // layer.groups
            by_row = scale.reshape(layer.groups, -1).repeat(rows, axis=0)
            weight = layer.weight * by_row.reshape(layer.inputs, -1, *rest)
        else:
            weight = layer.weight * scale.reshape(-1, 1, *rest)
        return replace(layer, weight=weight, bias=layer.bias * scale + shift)


def scale_inputs(layer: Linear, scale: Doubles, shift: Doubles) -> Linear:
    """Return x * scale + shift, both (in,), followed by `layer`.

    Zeros that are put around the input come after the shift: exact without them, or without a
    shift. Borders that repeat the input are shifted as it is.
    """
    if (layer.transposed or (layer.is_padded and layer.borders in (ZEROS, SAME))) and shift.any():
        raise FoldRefusedError(
            "it shifts its input before zeros are put around it, so the borders would differ"
        )
    rest = [1] * len(layer.kernel)
    with np.errstate(all="ignore"):
        if layer.transposed:
            return replace(layer, weight=layer.weight * scale.reshape(-1, 1, *rest))
        by_input = _by_group(scale, layer)
        moved = (layer.weight * _by_group(shift, layer)).reshape(len(layer.weight), -1).sum(1)
        return replace(layer, weight=layer.weight * by_input, bias=layer.bias + moved)


def _by_group(values: Doubles, layer: Linear) -> Doubles:
    """Return `values` (in,) in a shape that multiplies the weight of a convolution."""
    outputs = len(layer.weight) // layer.groups
    by_output = values.reshape(layer.groups, -1).repeat(outputs, axis=0)
    return by_output.reshape(*layer.weight.shape[:2], *[1] * len(layer.kernel))


def add(first: Linear, second: Linear) -> Linear:
    """Return the layer that computes `first` + `second` of the same input.

    Kernels are put into one that covers both (Ding et al. 2021, "RepVGG", section 3.3).
    """
    if first.geometry == second.geometry:
        return replace(first, weight=first.weight + second.weight, bias=first.bias + second.bias)
    if first.transposed or second.transposed or {first.borders, second.borders} != {ZEROS}:
        raise FoldRefusedError("the borders of the input are not zeros in both")
    if first.stride != second.stride:
        raise FoldRefusedError(f"strides {first.stride} and {second.stride} differ")
    dilation = tuple(map(_common_dilation, *_dilations(first, second)))
    spans = [_reach(layer, dilation) for layer in (first, second)]
    before = [max(pair[0] for pair in pairs) for pairs in zip(*spans, strict=True)]
    after = [max(pair[1] for pair in pairs) for pairs in zip(*spans, strict=True)]
    moved = [_surplus(layer, dilation) for layer in (first, second)]
    if moved[0] != moved[1]:
        raise FoldRefusedError("they read different borders of the input")
    groups = gcd(first.groups, second.groups)
    weight = sum(
        _embed(regroup(layer, groups), dilation, before, after) for layer in (first, second)
    )
    padding = tuple(
        (b * d, m + a * d) for b, a, d, m in zip(before, after, dilation, moved[0], strict=True)
    )
    if any(min(pair) < 0 for pair in padding):
        raise FoldRefusedError("they read different borders of the input")
    assert not isinstance(weight, int)
    bias = first.bias + second.bias
    return Linear(weight, bias, first.stride, padding, dilation, groups)


def _dilations(first: Linear, second: Linear) -> tuple[Sequence[int], Sequence[int]]:
    """Return the dilations of both, 0 where one tap has none."""
    taken = [
        [d if k > 1 else 0 for d, k in zip(layer.dilation, layer.kernel, strict=True)]
        for layer in (first, second)
    ]
    return taken[0], taken[1]


def _common_dilation(first: int, second: int) -> int:
    if first and second and first != second:
        raise FoldRefusedError(f"dilations {first} and {second} differ")
    return first or second or 1


def _reach(layer: Linear, dilation: Sequence[int]) -> list[tuple[int, int]]:
    """Return how many taps lie before and after the position that the output belongs to."""
    found = []
    for taps, (before, _), step in zip(layer.kernel, layer.padding, dilation, strict=True):
        if before % step:
            raise FoldRefusedError("their taps do not meet")
        found.append((before // step, taps - 1 - before // step))
    return found


def _surplus(layer: Linear, dilation: Sequence[int]) -> list[int]:
    """Return how many positions more than the input's the output has, at stride 1."""
    sides = zip(layer.kernel, layer.padding, dilation, strict=True)
    return [sum(pair) - step * (taps - 1) for taps, pair, step in sides]


def _embed(
    layer: Linear, dilation: Sequence[int], before: Sequence[int], after: Sequence[int]
) -> Doubles:
    """Return the weight with zeros around its kernel, reaching as far as `before` and `after`."""
    spans = zip(_reach(layer, dilation), before, after, strict=True)
    return np.pad(layer.weight, [(0, 0), (0, 0), *((b - x, a - y) for (x, y), b, a in spans)])


def regroup(layer: Linear, groups: int) -> Linear:
    """Return the same convolution in fewer `groups`, which divide its own."""
    if groups == layer.groups:
        return layer
    outputs, inputs = len(layer.weight), layer.weight.shape[1]
    joined = layer.groups // groups
    weight = np.zeros((outputs, inputs * joined, *layer.kernel))
    rows = outputs // layer.groups
    for group in range(layer.groups):
        start = group % joined * inputs
        part = slice(group * rows, (group + 1) * rows)
        weight[part, start : start + inputs] = layer.weight[part]
    return replace(layer, weight=weight, groups=groups)


def compose(first: Linear, second: Linear, around: Doubles | float = 0.0) -> Linear:
    """Return the layer that computes `first` and then `second`; one of them is pointwise.

    `around` is what `second` puts around its input where it puts zeros, by channel. Zeros around
    the input of `first` give that only where it is the bias of `first`.
    """
    if first.transposed or second.transposed:
        raise FoldRefusedError("one of them is a transposed convolution")
    if second.is_pointwise:
        moving = first
        if first.borders == SAME and set(second.stride) - {1}:
            raise FoldRefusedError(
                "how many zeros the first puts around its input is up to strides"
            )
    elif first.is_pointwise and set(first.stride) <= {1}:
        moving = second
        if second.is_padded and second.borders in (ZEROS, SAME):
            _require_around(first, around)
    else:
        raise FoldRefusedError("neither works on each position alone")
    groups = gcd(first.groups, second.groups)
    a, b = regroup(first, groups), regroup(second, groups)
    weight = _product(a, b).reshape(len(b.weight), -1, *moving.kernel)
    bias = second.bias + _through(b, first.bias)
    stride = tuple(x * y for x, y in zip(first.stride, second.stride, strict=True))
    return replace(moving, weight=weight, bias=bias, stride=stride, groups=groups)


def _require_around(first: Linear, around: Doubles | float) -> None:
    """Raise FoldRefusedError unless `first` makes `around` of zeros, up to rounding in float32."""
    largest = np.abs(first.bias).max(initial=0.0)
    if not np.allclose(first.bias, around, rtol=0, atol=_ROUNDING * largest):
        what = "other numbers" if np.any(around) else "zeros"
        raise FoldRefusedError(f"{what} are put around what the first gives, and it has a bias")


def _product(first: Linear, second: Linear) -> Doubles:
    """Return (out, in / groups, taps): the product of the weights for each tap, by group."""
    flat = [w.reshape(*w.shape[:2], -1) for w in (second.weight, first.weight)]
    parts = zip(*(np.split(w, first.groups) for w in flat), strict=True)
    return np.concatenate([np.einsum("ohx,hix->oix", b, a, optimize=True) for b, a in parts])


def _through(layer: Linear, constant: Doubles) -> Doubles:
    """Return what `layer` without its bias makes of an input with the same numbers everywhere."""
    return (layer.weight * _by_group(constant, layer)).reshape(len(layer.weight), -1).sum(1)
