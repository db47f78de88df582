"""Trained weights on disk: safetensors, named by their hash, and proven to be the network."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from foldbench.bench import units
from foldbench.bench.errors import BenchError, CheckpointError, one_line
from foldbench.bench.records import Checkpoint
from foldbench.bench.store.files import file_sha256, write_with
from foldbench.models.building.foreign_weights import load_state
from foldbench.models.building.network import build_model
from foldbench.models.building.probe import check_probe
from foldbench.models.building.unsaved import describe_unsaved

_TOLERANCE = 1e-3
"""Of the largest logit: more than a device and a layout in memory change."""


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the module's parameters and buffers to `path` (safetensors), atomically.

    Raises CheckpointError for a state that is no tensor.
    """
    content = encode_weights(model)
    write_with(path, lambda temporary: temporary.write_bytes(content))


def encode_weights(model: nn.Module) -> bytes:
    """Return the content of a file of weights.

    A tensor that has several names is written once; the metadata tell its other names.
    """
    tensors: dict[str, Tensor] = {}
    names: dict[tuple[object, ...], str] = {}
    other_names: dict[str, str] = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"the network keeps {name} ({type(value).__name__}) in its state, and files of "
                "weights hold tensors alone: keep it in a buffer, or work it out in build()"
            )
        place = (value.data_ptr(), value.dtype, value.shape, value.stride())
        first = names.setdefault(place, name) if value.numel() else name
        if first == name:
            tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        else:
            other_names[name] = first
    try:
        return save(tensors, other_names or None)
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"the network's weights cannot be written as safetensors: {one_line(error, 160)}: "
            "keep plain tensors in its parameters and buffers"
        ) from error


def decode_weights(content: bytes) -> dict[str, Tensor]:
    """Return every tensor in the content of a file of weights, by each of its names.

    Raises SafetensorError for a damaged file.
    """
    state = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    for name, first in header.get("__metadata__", {}).items():
        if first in state:
            state.setdefault(name, state[first])
    return state


def load_checkpoint(checkpoint: Checkpoint, folder: Path) -> nn.Module:
    """Return the trained module in eval mode, float32, on the CPU.

    `folder` is the run directory that holds the weights. Raises CheckpointError when the weights
    are missing, are not the ones that the record names, or do not fit the network.
    """
    path = folder / checkpoint.weights
    again = f"bench {'train' if checkpoint.history else 'add'} {checkpoint.config_name}"
    if not path.is_file():
        raise CheckpointError(f"{path}: the weights are missing: restore the file or {again}")
    found = file_sha256(path)
    if found != checkpoint.sha256:
        raise CheckpointError(
            f"{path}: the weights are not the ones that were trained (sha256 {found[:12]}…, "
            f"the record says {checkpoint.sha256[:12]}…): restore the file or {again}"
        )
    try:
        model = build_model(
            checkpoint.model,
            checkpoint.model_args,
            len(checkpoint.classes),
            checkpoint.preprocessing.input_shape,
            checkpoint.source.output if checkpoint.source else None,
        )
    except BenchError as error:
        raise CheckpointError(f"{folder / 'checkpoint.json'}: {error}") from error
    try:
        load_state(model, decode_weights(path.read_bytes()))
    except Exception as error:  # a part's own code
        detail = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: the weights do not fit model {checkpoint.model!r}: {detail}"
        ) from error
    model.eval()
    because = f"its code or a library has changed: restore them or {again}"
    check_probe(model, folder, because)
    return model


def prove_checkpoint(
    trained: nn.Module, checkpoint: Checkpoint, folder: Path, images: Tensor
) -> None:
    """Raise CheckpointError unless what is loaded from `folder` is the network `trained`.

    Both are asked about `images`, network inputs (N, C, H, W) float32, on the CPU in eval mode;
    `trained` stays there.
    """
    trained.to("cpu")
    for _ in range(2):  # what build() draws at random differs from one to the next
        hold_against(trained, lambda: load_checkpoint(checkpoint, folder), images)


def hold_against(trained: nn.Module, load: Callable[[], nn.Module], images: Tensor) -> None:
    """Raise CheckpointError when the network that `load` returns answers otherwise than `trained`.

    A network that answers otherwise whenever it is asked proves nothing here; its export fails.
    """
    expected = _ask(trained, images)
    if _difference(expected, _ask(trained, images)) > _TOLERANCE:
        return
    loaded = load()
    difference = _difference(expected, _ask(loaded, images))
    if not difference <= _TOLERANCE:
        raise CheckpointError(
            "built again with its saved weights, the network answers otherwise "
            f"({units.error(difference)} of the largest logit apart): "
            f"{describe_unsaved(trained, loaded)}"
        )


def _ask(module: nn.Module, images: Tensor) -> Tensor:
    module.eval()
    with torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        try:
            return module(images.clone()).double()
        except Exception as error:  # whatever the network's own code raises
            raise CheckpointError(
                f"the network does not run in eval mode on the CPU: {one_line(error, 160)}: keep "
                "its tensors in parameters and buffers, and leave the device to the caller"
            ) from error


def _difference(expected: Tensor, found: Tensor) -> float:
    """Return max |found - expected| / max |expected|, infinity where one alone is not finite."""
    finite = expected.isfinite()
    if found.shape != expected.shape or not torch.equal(finite, found.isfinite()):
        return float("inf")
    expected, found = expected[finite], found[finite]
    if not len(expected):
        return 0.0
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
