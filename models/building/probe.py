"""What a network answered when it was added: code that has changed since answers otherwise."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from foldbench.bench import units
from foldbench.bench.errors import CheckpointError
from foldbench.bench.store.files import write_with

FILE = "probe.safetensors"
_TOLERANCE = 1e-3
"""Of the largest logit: more than another machine's arithmetic changes."""


def save_probe(network: nn.Module, images: Tensor, folder: Path) -> None:
    """Write `images` (N, C, H, W) float32 and what `network` answers, in eval mode on the CPU."""
    with torch.no_grad():
        logits = network(images.clone())
    content = save({"images": images.contiguous(), "logits": logits.float().contiguous()})
    write_with(folder / FILE, lambda temporary: temporary.write_bytes(content))


def check_probe(network: nn.Module, folder: Path, name: str) -> None:
    """Raise CheckpointError unless `network` answers what the run in `folder` has kept.

    A run without a probe is not checked.
    """
    path = folder / FILE
    if not path.is_file():
        return
    try:
        kept = load(path.read_bytes())
        images, expected = kept["images"], kept["logits"]
    except (SafetensorError, KeyError) as error:
        raise CheckpointError(f"{path}: is damaged: add the network again") from error
    with torch.no_grad():
        found = network(images.clone()).float()
    if found.shape != expected.shape:
        difference = float("inf")
    else:
        scale = float(expected.abs().max()) or 1.0
        difference = float((found - expected).abs().max()) / scale
    if not difference <= _TOLERANCE:
        raise CheckpointError(
            f"{name} answers otherwise than when it was added ({units.error(difference)} of the "
            "largest logit apart): its code or a library has changed: add it again, or restore them"
        )
