"""A network by name, with errors that name the argument at fault."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from foldbench.bench.errors import BenchError, ConfigError, cut, nearest, one_line
from foldbench.bench.registry import MODELS
from foldbench.bench.user_code.source import is_source
from foldbench.models.building.running import run_network


def build_model(
    name: str,
    args: Mapping[str, Any],
    classes: int | None,
    input_shape: tuple[int, int, int],
    output: str | None = None,
) -> nn.Module:
    """Return the network `name` with fresh weights, in train mode, float32, on the CPU.

    `name` is one of foldbench's own, or says where another comes from, such as net.py:MyNet; then
    `classes` may be None, and `output` chooses the logits among several outputs. `input_shape` is
    (C, H, W). Lazy layers get their weights from one batch. Raises UnknownNameError for an unknown
    network, ConfigError for arguments it does not take or cannot be built with.
    """
    if is_source(name):
        from foldbench.models.building.sources import build_source  # imports every library

        model = build_source(name, args, classes, input_shape, output)
    else:
        model = _build_own(name, args, classes, input_shape)
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        _fill_lazy_layers(model, name, input_shape)
    return model


def _build_own(
    name: str, args: Mapping[str, Any], classes: int | None, input_shape: tuple[int, int, int]
) -> nn.Module:
    check_arguments(name, args)
    try:
        model = MODELS.load(name).build(classes=classes, input_shape=input_shape, **args)
    except BenchError:
        raise
    except Exception as error:  # numbers that no layer can have raise anything
        raise ConfigError(
            f"model {name!r} cannot be built for {classes} classes and input shape "
            f"{input_shape} with {cut(str(dict(args)), 200)}: {one_line(error)}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model {name!r}: build() returned {type(model).__name__}; allowed: a torch.nn.Module"
        )
    return model


def _fill_lazy_layers(model: nn.Module, name: str, input_shape: tuple[int, int, int]) -> None:
    """Run the network once in eval mode, which gives its lazy layers their weights."""
    training = {part: part.training for part in model.modules()}
    model.eval()
    with torch.no_grad():
        run_network(model, torch.zeros(2, *input_shape), f"model {name!r} in eval mode")
    for part, was_training in training.items():
        part.training = was_training


def check_arguments(name: str, args: Mapping[str, Any]) -> None:
    """Raise ConfigError for an argument that foldbench's network `name` does not take."""
    parameters = inspect.signature(MODELS.load(name).build).parameters
    allowed = [p for p in parameters if p not in ("classes", "input_shape")]
    for key in args:
        if key not in allowed:
            known = f"allowed: {', '.join(allowed)}" if allowed else "it takes none"
            raise ConfigError(
                f"model.args.{key}: model {name!r} has no such argument"
                f"{nearest(key, allowed)} ({known})"
            )


def start_as_identity(model: nn.Module) -> None:
    """Have every convolution begin by passing on its inputs as they are, as many as it can.

    Filter i becomes channel i of the input, at the kernel's centre; the filters beyond the number
    of inputs keep their random weights (K. Jordan, 94 % on CIFAR-10 in 3.29 seconds on a single
    GPU, arXiv:2404.00498, 2024). Grouped convolutions are left as they are.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1:
            filters = module.weight.data[: module.in_channels]
            nn.init.dirac_(filters)
