"""The state of a training between two epochs, on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from foldbench.bench.errors import RunError, one_line
from foldbench.bench.records import Epoch
from foldbench.bench.store.files import existing, write_with


class Stateful(Protocol):
    """A module, an optimizer or a scheduler."""

    def state_dict(self) -> Any:
        """Return the state as tensors and plain values."""

    def load_state_dict(self, state: Any) -> Any:
        """Take the state back."""


@dataclass(frozen=True)
class Resume:
    """Where the state after each epoch is kept, and what it belongs to."""

    path: Path
    key: str
    """Hash of everything that training depends on; a state with another key is refused."""


def save_state(resume: Resume, parts: Mapping[str, Stateful], history: Sequence[Epoch]) -> None:
    """Write the state of `parts` after the last epoch of `history`, atomically.

    Raises RunError when it cannot be written, or when the run's folder is no longer there.
    """
    existing(resume.path.parent)
    state = {
        "key": resume.key,
        "history": [epoch.model_dump() for epoch in history],
        "parts": {name: part.state_dict() for name, part in parts.items()},
    }
    write_with(resume.path, lambda path: torch.save(state, path))


def restore_state(
    resume: Resume, parts: Mapping[str, Stateful], device: torch.device
) -> tuple[Epoch, ...]:
    """Load the state of an interrupted training into `parts`; return its finished epochs.

    Raises RunError when the file is damaged or belongs to another training.
    """
    if not resume.path.exists():
        return ()
    try:
        state = torch.load(resume.path, map_location=device, weights_only=True)
        if state["key"] != resume.key:
            raise ValueError("it belongs to another configuration")
        history = tuple(Epoch.model_validate(epoch) for epoch in state["history"])
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise RunError(
            f"{resume.path}: cannot go on from this training state ({one_line(error, 120)}): "
            "delete the file to train this run from its first epoch"
        ) from error
    return history
