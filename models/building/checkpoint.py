"""Trained weights on disk: safetensors, named by their hash."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from foldbench.bench.errors import BenchError, CheckpointError
from foldbench.bench.records import Checkpoint
from foldbench.bench.store.files import file_sha256, write_with
from foldbench.models.building.network import build_model


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the module's parameters and buffers to `path` (safetensors), atomically."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    write_with(path, lambda temporary: save_file(tensors, temporary))


def load_checkpoint(checkpoint: Checkpoint, folder: Path) -> nn.Module:
    """Return the trained module in eval mode, float32, on the CPU.

    `folder` is the run directory that holds the weights. Raises CheckpointError when the weights
    are missing, are not the ones that the record names, or do not fit the network.
    """
    path = folder / checkpoint.weights
    again = f"bench train {checkpoint.config_name}"
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
        )
    except BenchError as error:
        raise CheckpointError(f"{folder / 'checkpoint.json'}: {error}") from error
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        detail = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: the weights do not fit model {checkpoint.model!r}: {detail}"
        ) from error
    model.eval()
    return model
