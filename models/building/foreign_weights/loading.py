"""Load a state that a network would save itself."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import nn


def load_state(module: nn.Module, state: Mapping[str, Any], strict: bool = True) -> None:
    """Load `state`, which is in the form that `module` saves today.

    Parts may number their forms (torchvision's MNASNet refuses a state without a number), which
    files of safetensors do not keep. Raises what ``load_state_dict`` and the parts' own code raise.
    """
    numbered = OrderedDict(state)
    numbered._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(numbered, strict=strict)
