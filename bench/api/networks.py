"""Which network a call is about: a module in memory, or a text that names one."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from foldbench.bench.errors import ConfigError
from foldbench.bench.user_code.memory import holding
from foldbench.bench.user_code.source import FORMS, is_source, parse_source

if TYPE_CHECKING:
    from torch import nn

Network: TypeAlias = "nn.Module | str | os.PathLike[str]"


@dataclass(frozen=True)
class Named:
    """A network by a name that is unique in the call."""

    name: str
    text: str
    """As ``model.from`` has it, paths absolute."""


@contextmanager
def named(networks: "Sequence[Network] | Mapping[str, Network]") -> Iterator[tuple[Named, ...]]:
    """Yield the networks by their names; processes that are started meanwhile have the modules.

    Raises ConfigError for what is none, or cannot be handed to another process.
    """
    from foldbench.bench.api.handing import pickle_module

    given = networks.items() if isinstance(networks, Mapping) else ((None, n) for n in networks)
    pickles: dict[str, bytes] = {}
    found: list[Named] = []
    for name, network in given:
        if _is_module(network):
            unique = _unique(name or type(network).__name__, found)
            pickles[unique] = pickle_module(network)
            found.append(Named(unique, f"memory:{unique}"))
        else:
            found.append(_by_text(name, network, found))
    if not found:
        raise ConfigError("no network is given: give a torch module, or what names one")
    with holding(pickles):
        yield tuple(found)


def _is_module(network: Any) -> bool:
    """Whether it is a module of torch's; whoever has one has imported torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(network, torch.nn.Module)


def _by_text(name: str | None, network: Any, found: Sequence[Named]) -> Named:
    if not isinstance(network, str | os.PathLike):
        raise ConfigError(
            f"found {type(network).__name__} for a network; allowed: a torch.nn.Module, or {FORMS}"
        )
    text = os.fspath(network)
    if not is_source(text) or parse_source(text).form == "memory":
        raise ConfigError(f"found {text!r} for a network; allowed: a torch.nn.Module, or {FORMS}")
    source = parse_source(text)
    return Named(_unique(name or source.name, found), source.absolute(Path.cwd()))


def _unique(name: str, found: Sequence[Named]) -> str:
    """Return a name that a folder can have, and that no other network of the call has."""
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in name).strip("._-") or "network"
    taken = {named.name for named in found}
    numbered = (f"{plain}_{number}" for number in range(2, len(taken) + 3))
    return plain if plain not in taken else next(n for n in numbered if n not in taken)
