"""What a network answered when it was written: what has changed since answers otherwise.

That is its code, a library, or what it keeps outside of its weights.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from foldbench.bench import units
from foldbench.bench.errors import CheckpointError, one_line
from foldbench.bench.store.files import write_with

FILE = "probe.safetensors"
_TOLERANCE = 1e-3
"""Of the largest logit: more than another machine's arithmetic changes."""


def save_probe(network: nn.Module, images: Tensor, folder: Path) -> None:
    """Write `images` (N, C, H, W) float32 and what `network` answers, in eval mode on the CPU.

    A network that answers otherwise whenever it is asked has no probe; its export fails.
    """
    logits = _ask(network, images)
    if not _distance(logits, _ask(network, images)) <= _TOLERANCE:
        return
    content = save({"images": images.contiguous(), "logits": logits.contiguous()})
    write_with(folder / FILE, lambda temporary: temporary.write_bytes(content))


def check_probe(network: nn.Module, folder: Path, because: str) -> None:
    """Raise CheckpointError unless `network` answers what the run in `folder` has kept.

    `because` tells the cause, and what to do. A run without a probe is not checked.
    """
    path = folder / FILE
    if not path.is_file():
        return
    try:
        kept = load(path.read_bytes())
        images, expected = kept["images"], kept["logits"]
    except (SafetensorError, KeyError) as error:
        raise CheckpointError(f"{path}: is damaged: train or add the network again") from error
    difference = _distance(expected, _ask(network, images))
    if not difference <= _TOLERANCE:
        raise CheckpointError(
            f"the network answers otherwise than when it was written ({units.error(difference)} of "
            f"the largest logit apart): {because}"
        )


def _ask(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        try:
            logits: Tensor = network(images.clone()).float()
        except Exception as error:  # whatever the network's own code raises
            raise CheckpointError(
                f"the network does not run in eval mode on the CPU: {one_line(error, 160)}"
            ) from error
    return logits


def _distance(expected: Tensor, found: Tensor) -> float:
    """Return max |found - expected| / max |expected|, infinity where the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    return float((found - expected).abs().max()) / (float(expected.abs().max()) or 1.0)
