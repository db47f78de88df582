"""What a network has to keep to, tried out on a second one before anything expensive is done.

(N, C, H, W) float32 in, floating-point (N, classes) out, in train and eval mode, for any N; weights
that a step of training reaches, and that a file can hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foldbench.bench.errors import BenchError, ConfigError, one_line
from foldbench.bench.probabilities import are_probabilities
from foldbench.models.building.checkpoint import (
    decode_weights,
    encode_weights,
    hold_against,
    save_weights,
)
from foldbench.models.building.foreign_weights import load_state
from foldbench.models.building.network import build_model
from foldbench.models.building.outputs import describe_output, logits_of
from foldbench.models.building.probe import check_probe, save_probe
from foldbench.models.building.running import run_network

WEIGHTS = "weights.safetensors"
_TRAINED, _EVALUATED = (2, 3), (1, 2, 3)
"""Numbers of images. BatchNorm cannot train on a single value, so nothing trains on one image."""
_OTHERWISE = 0.05
"""Difference of two answers to the largest logit; far more than rounding to bfloat16 makes."""


def try_network(
    name: str,
    args: Mapping[str, Any],
    classes: int,
    input_shape: tuple[int, int, int],
    output: str | None = None,
    folder: Path | None = None,
) -> tuple[str, ...]:
    """Build the network `name` and see that it can be trained, saved and built again.

    Return what is worth knowing of it, one sentence each. Its weights and its probe are written
    into `folder`, for another process's `check_written`. Random numbers are left as they were.
    Raises ConfigError for a network that cannot be used.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = build_model(name, args, classes, input_shape, output)
        images = torch.rand(max(_EVALUATED), *input_shape) * 2 - 1
        who = f"model {name!r}"
        notes = [*_try_training(network, images, classes, who)]
        network.eval()
        evaluated = try_eval(network, images, classes, who)
        notes += evaluated.notes
        if evaluated.are_probabilities:
            notes.append("the loss expects logits: return them without softmax to train well")
        try_saving(network, images, (name, args, classes, input_shape, output))
        if folder is not None:
            save_weights(network, folder / WEIGHTS)
            save_probe(network, images, folder)
    return tuple(notes)


def check_written(folder: Path, built: tuple[Any, ...]) -> None:
    """Hold the network that is built from the weights in `folder` against the probe there.

    `built` are the arguments of `build_model`. Call it in a process that has not run the network:
    what its modules keep for themselves is not there. Raises CheckpointError.
    """
    network = _built_again(built, (folder / WEIGHTS).read_bytes())
    network.eval()
    check_probe(
        network,
        folder,
        "another process does not have what it computes with: keep it in parameters and buffers, "
        "not in variables of a module or a class",
    )


@dataclass(frozen=True)
class Evaluated:
    """What a network gave in eval mode."""

    classes: int
    are_probabilities: bool
    """Whether a softmax is in it."""
    batch_dependent: bool
    """Whether its answer for an image depends on the other images of the batch."""
    notes: tuple[str, ...]
    """What is worth knowing of it, one sentence each."""


def try_eval(network: nn.Module, images: Tensor, classes: int | None, who: str) -> Evaluated:
    """Ask `network`, in eval mode, about 1, 2 and 3 `images` (3, C, H, W) float32.

    Where `classes` is None, the first answer says how many there are. Raises ConfigError unless it
    gives finite floats (N, classes).
    """
    found: list[Tensor] = []
    with torch.no_grad():
        for count in _EVALUATED:
            logits = _try_eval(network, images[:count], classes, who)
            classes = logits.shape[1]
            found.append(logits)
    notes = []
    softmax = logits.shape[1] > 1 and are_probabilities(torch.cat(found).float().numpy())
    if softmax:
        notes.append(
            f"{who} gives probabilities, not logits: they are not put through softmax again"
        )
    batch_dependent = is_batch_dependent(network, images)
    if batch_dependent:
        notes.append(
            f"WARNING: {who} answers otherwise for an image when other images are in its batch: "
            "its accuracy is that of one batch size alone (BatchNorm without running statistics?)"
        )
    return Evaluated(logits.shape[1], softmax, batch_dependent, tuple(notes))


def is_batch_dependent(network: nn.Module, images: Tensor) -> bool:
    """Return whether a network in eval mode answers otherwise for an image among other images.

    `images` are (N, C, H, W) float32, two at the least.
    """
    with torch.no_grad():
        alone = network(images[:1])[0]
        beside_others = network(torch.cat([images[:1], images[1:3] * 0.1]))[0]
    return bool((alone - beside_others).abs().max() > _OTHERWISE * alone.abs().max())


def _try_training(network: nn.Module, images: Tensor, classes: int, who: str) -> tuple[str, ...]:
    """Make the backward pass of a step; return what is worth knowing."""
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError(f"{who} has no parameters to train: give it some that require gradients")
    network.train()
    notes: tuple[str, ...] = ()
    where = f"{who} in train mode"
    for count in _TRAINED:
        output = run_network(network, images[:count], where)
        logits = logits_of(output)
        if not isinstance(output, Tensor) and isinstance(logits, Tensor):
            described = describe_output(output)
            notes = (f"{where} returns {described}: it is trained on the logits in it alone",)
        _check_logits(logits, count, classes, where)
        loss = nn.functional.cross_entropy(logits.float(), torch.zeros(count, dtype=torch.int64))
        try:
            loss.backward()
        except RuntimeError as error:
            raise ConfigError(
                f"{where} gives logits that no gradient goes back from: {one_line(error, 200)}: "
                "leave out detach, no_grad and changes in place"
            ) from error
    return notes


def _try_eval(network: nn.Module, images: Tensor, classes: int | None, who: str) -> Tensor:
    where = f"{who} in eval mode"
    output = run_network(network, images, where)
    _check_logits(output, len(images), classes, where)
    return output


def _check_logits(logits: Any, count: int, classes: int | None, where: str) -> None:
    """Raise ConfigError unless `logits` are finite floats (count, classes)."""
    if classes is None and isinstance(logits, Tensor) and logits.ndim == 2:
        classes = logits.shape[1]
    allowed = f"allowed: one floating-point tensor ({count}, {classes or 'classes'})"
    found = f"{where} returns {describe_output(logits)} for {count} images; {allowed}"
    if not isinstance(logits, Tensor):
        raise ConfigError(f"{found}: return the logits alone")
    if tuple(logits.shape) != (count, classes):
        raise ConfigError(f"{found}: {_explain_shape(tuple(logits.shape), count, classes or 0)}")
    if not logits.is_floating_point():
        raise ConfigError(f"{found}: return a score for each class, not the class")
    if not logits.isfinite().all():
        raise ConfigError(
            f"{where} returns values that are not finite for random pixels: look "
            "for NaN in its weights, and for divisions by zero"
        )


def _explain_shape(shape: tuple[int, ...], count: int, classes: int) -> str:
    if shape in ((count, 1), (count,)):
        return (
            f"it has a single logit, and the data has {classes} classes: let it end in as many "
            "outputs as build() is given classes"
        )
    if not shape or shape[0] != count:
        return "keep the batch in dimension 0: no squeeze() or sum without dim"
    if len(shape) > 2 and shape[1] == classes:
        return "it has a score for each place: take their mean over height and width"
    return "let it end in as many outputs as build() is given classes"


def try_saving(network: nn.Module, images: Tensor, built: tuple[Any, ...]) -> None:
    """Hold a network that is built again, with the weights of `network`, against it.

    `built` are the arguments of `build_model`.
    """

    try:
        content = encode_weights(network)
        hold_against(network, lambda: _built_again(built, content), images)
    except ConfigError:
        raise
    except BenchError as error:
        raise ConfigError(f"model {built[0]!r}: {error}") from error


def _built_again(built: tuple[Any, ...], content: bytes) -> nn.Module:
    fresh = build_model(*built)
    try:
        load_state(fresh, decode_weights(content))
    except Exception as error:  # a part's own code
        raise ConfigError(
            f"model {built[0]!r}, built again, does not take its own weights: "
            f"{one_line(error, 200)}: let build() make the same parts each time"
        ) from error
    return fresh
