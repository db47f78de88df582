"""One call of a network whose code foldbench did not write, with the cause when it fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from foldbench.bench.errors import ConfigError, one_line


def run_network(network: nn.Module, images: Tensor, who: str) -> Any:
    """Return what `network` gives for `images` (N, C, H, W) float32, of which it gets a copy.

    Raises ConfigError that begins with `who` and names the layer at fault, whatever went wrong.
    """
    running: list[tuple[str, nn.Module, tuple[Any, ...]]] = []
    with _following(network, running):
        try:
            return network(images.clone())
        except Exception as error:  # whatever the network's own code raises
            place = _describe_place(running)
            raise ConfigError(
                f"{who} does not run on {len(images)} images of shape {tuple(images.shape[1:])}: "
                f"{place}{one_line(error, 200)}: {_advise(error, running, images)}"
            ) from error


@contextmanager
def _following(
    network: nn.Module, running: list[tuple[str, nn.Module, tuple[Any, ...]]]
) -> Iterator[None]:
    """Keep in `running` the layers that have begun and not ended, with what they were given."""
    hooks = []
    for name, part in network.named_modules():
        if name and not isinstance(part, torch.jit.ScriptModule):  # which takes no hooks
            begun = part.register_forward_pre_hook(
                lambda module, inputs, name=name: running.append((name, module, inputs)),
                prepend=True,
            )
            ended = part.register_forward_hook(lambda *_: (running.pop(), None)[1])
            hooks += [begun, ended]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _describe_place(running: list[tuple[str, nn.Module, tuple[Any, ...]]]) -> str:
    if not running:
        return ""
    name, module, inputs = running[-1]
    shapes = [str(tuple(x.shape)) for x in inputs if isinstance(x, Tensor)]
    given = f", given {', '.join(shapes)}" if shapes else ""
    return f"{type(module).__name__} {name!r}{given}: "


def _advise(
    error: Exception, running: list[tuple[str, nn.Module, tuple[Any, ...]]], images: Tensor
) -> str:
    """Return what to do, by the layer at fault."""
    _, layer, inputs = running[-1] if running else ("", None, ())
    weight = getattr(layer, "weight", None)
    if isinstance(weight, Tensor) and weight.dtype in (
        torch.float16,
        torch.bfloat16,
        torch.float64,
    ):
        kind = str(weight.dtype).removeprefix("torch.")
        return (
            f"its weights are {kind}, and images float32: build the network in float32 (.float())"
        )
    x = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
    if isinstance(layer, _ConvNd) and x is not None and x.shape[1:2] != (layer.in_channels,):
        channels = images.shape[1]
        what = f"it takes {layer.in_channels} channels"
        if x.shape == images.shape:
            return f"{what}, and images have {channels}: build it with input_shape[0]"
        return f"{what}; build it with what the layer before it gives"
    if isinstance(layer, nn.Linear) and x is not None and x.shape[-1] != layer.in_features:
        return (
            f"it takes {layer.in_features} features; work them out from input_shape, or set "
            "data.image_size"
        )
    if isinstance(error, TypeError) and not running:
        return "a network is called with one tensor (N, C, H, W) alone"
    return "change the network, or data.image_size"
