"""Weights in a file of the user's, as the network that they are for calls them."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from foldbench.bench.errors import CheckpointError, one_line

PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl")
"""How files of torch.save are called."""
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")
_LINK_START = b"version https://git-lfs"


def is_file(weights: str) -> bool:
    """Return whether the weights are a file of the user's, not a name."""
    return weights.endswith((".safetensors", *PICKLED)) or "/" in weights


def read_file(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a .safetensors file; raise CheckpointError for any other file."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file: give a path to a .safetensors file")
    try:
        with path.open("rb") as stream:
            start = stream.read(len(_LINK_START))
        if start.startswith(_PICKLE_STARTS) or path.suffix in PICKLED:
            converted = path.with_suffix(".safetensors").name
            raise CheckpointError(
                f"{path}: is a pickle (torch.save), not safetensors: pickles can run code and are "
                'not read here; where you trust it, convert it: python -c "import torch; from '
                "safetensors.torch import save_file; s = torch.load("
                f"'{path.name}', map_location='cpu', weights_only=True); s = "
                f"s.get('state_dict', s); save_file(dict(s), '{converted}')\""
            )
        if start == _LINK_START:
            raise CheckpointError(
                f"{path}: is a pointer of Git LFS, not the file itself: fetch it (git lfs pull)"
            )
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: is no whole .safetensors file ({one_line(error, 120)}): convert or copy the "
            "weights again"
        ) from error


def fit_names(module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` without what training wrappers put before every name (``module.``).

    torch.compile writes ``_orig_mod.`` wherever it wrapped a part; DataParallel, Lightning and
    others begin every name alike.
    """
    state = {name.replace("_orig_mod.", ""): value for name, value in state.items()}
    own = module.state_dict().keys()
    if state.keys() & own or not own:
        return state
    first = next(iter(own))
    for name in state:
        prefix = name.removesuffix(first)
        if name != prefix and prefix.endswith(".") and all(n.startswith(prefix) for n in state):
            return {n.removeprefix(prefix): value for n, value in state.items()}
    return state


def refuse_others(module: nn.Module, state: dict[str, Tensor], network: str, path: Path) -> None:
    """Raise CheckpointError that says what differs unless `state` is that of `module`.

    Counters of batches, which some writers leave out and no inference uses, are filled in.
    """
    own = module.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    missing = own.keys() - state.keys() - counters
    surplus = state.keys() - own.keys()
    other = [n for n in own.keys() & state.keys() if own[n].shape != state[n].shape]
    if not (missing or surplus or other):
        for name in counters - state.keys():
            state[name] = own[name]
        return
    if not (missing or surplus):
        _refuse_other_head(own, state, other, path)
    faults = [
        f"{len(names)} tensors {what} ({min(names)}{', …' if len(names) > 1 else ''})"
        for names, what in (
            (missing, "are missing"),
            (surplus, "are not in the network"),
            (other, "have another shape"),
        )
        if names
    ]
    raise CheckpointError(
        f"{path}: these are the weights of another network than {network}: "
        f"{', '.join(faults)}: give the network's own weights"
    )


def _refuse_other_head(
    own: dict[str, Tensor], state: dict[str, Tensor], other: list[str], path: Path
) -> None:
    """Raise CheckpointError when the last layer alone has another number of classes."""
    heads = {name.rpartition(".")[0] for name in other}
    same_inputs = all(own[name].shape[1:] == state[name].shape[1:] for name in other)
    if len(heads) == 1 and same_inputs:
        (head,), name = heads, min(other)
        raise CheckpointError(
            f"{path}: its classifier {head} has {len(state[name])} classes, the network's has "
            f"{len(own[name])}: give weights with the classes of the pretraining"
        )
