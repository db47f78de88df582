"""Training with compiled code: Mish alone, or the whole network."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foldbench.bench.errors import TrainingError, one_line

Compiled = Literal["none", "mish", "model"]
NetworkCall = Callable[[Tensor], Tensor]


@contextmanager
def compiled(model: nn.Module, what: Compiled) -> Iterator[NetworkCall]:
    """Yield what trains `model`: itself, itself with a compiled Mish, or itself compiled whole.

    Parameters and buffers stay those of `model`, which is as it was afterwards. Raises
    TrainingError where torch cannot compile, as it cannot without a C++ compiler.
    """
    if what == "none":
        yield model
        return
    _require_compiler(what, next(model.parameters()).device)
    if what == "model":
        yield torch.compile(model, dynamic=False)
        return
    activations = [module for module in model.modules() if type(module) is nn.Mish]
    try:
        for module in activations:
            module.forward = compiled_mish  # type: ignore[method-assign]
        yield model
    finally:
        for module in activations:
            del module.forward


def compiled_mish(x: Tensor) -> Tensor:
    """Return Mish of `x`, a floating-point tensor of any shape, in its dtype and layout.

    One pass over the data each way, where torch's own takes an exponential, a logarithm and a
    tangent per element: with n = e(e + 2), e = exp(x), mish(x) = x n / (n + 2). Computed in
    float32; differs from torch's by a few units in the last place.
    """
    y: Tensor = _Mish.apply(x)
    return y


class _Mish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = _dense(x)
        ctx.save_for_backward(x)
        return _kernel(_mish)(_flat(x)).as_strided(x.shape, x.stride())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gradient = torch.empty_like(x).copy_(gradients[0])
        return _kernel(_mish_backward)(_flat(gradient), _flat(x)).as_strided(x.shape, x.stride())


def _dense(x: Tensor) -> Tensor:
    """Return `x` in a layout without gaps, its own where that has none."""
    if x.is_contiguous() or x.is_contiguous(memory_format=_layout_of(x)):
        return x
    return x.contiguous()


def _layout_of(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.ndim == 4 else torch.contiguous_format


def _flat(x: Tensor) -> Tensor:
    """Return the elements of a dense tensor as they lie in memory: one kernel for every shape."""
    return x.as_strided((x.numel(),), (1,))


@cache
def _kernel(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `function` compiled for any number of elements; the compiler is loaded here."""
    return torch.compile(function, dynamic=True)


_MOST = 20.0
"""From here on Mish is its argument, to the last bit of float32, and exp(x) squared is finite."""


def _mish(x: Tensor) -> Tensor:
    wide = x.float()
    e = wide.clamp(max=_MOST).exp()
    n = e * (e + 2)
    return (wide * (n / (n + 2))).to(x.dtype)


def _mish_backward(gradient: Tensor, x: Tensor) -> Tensor:
    """Return `gradient` times dy/dx = t + x t', t = n / (n + 2), t' = 4 e (e + 1) / (n + 2)²."""
    wide = x.float()
    e = wide.clamp(max=_MOST).exp()
    n = e * (e + 2)
    share = 1 / (n + 2)
    slope = n * share + wide * (4 * e * (e + 1) * share * share)
    return (gradient.float() * slope).to(x.dtype)


def _require_compiler(what: Compiled, device: torch.device) -> None:
    # It warns of a CUDA toolkit without a GPU, which was not requested.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        _kernel(_mish)(torch.zeros(64, device=device))
    except Exception as error:  # torch has many kinds for a compiler that is missing or broken
        raise TrainingError(
            f"train.compile is {what}, but torch cannot compile here ({one_line(error, 120)}): "
            "install a C++ compiler, or set train.compile to none"
        ) from error
