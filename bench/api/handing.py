"""A module of the user's program, as bytes for other processes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from foldbench.bench.errors import ConfigError, one_line
from foldbench.bench.user_code.installed import is_installed, is_ours

if TYPE_CHECKING:
    from torch import nn


def pickle_module(module: "nn.Module") -> bytes:
    """Return `module` with its weights, on the CPU, and with the code of its classes.

    The code is what this program has in memory, be it from a script, a notebook's cell or a module
    whose file was changed since. Only what is installed is imported by its name. The module itself
    stays as it is. Raises ConfigError for one that cannot be taken along.
    """
    import cloudpickle
    import torch

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, torch.Tensor) and value.device.type != "cpu":
                moved = value.detach().to("cpu")
                if isinstance(value, torch.nn.Parameter):
                    moved = torch.nn.Parameter(moved, value.requires_grad)
                return moved.__reduce_ex__(self.proto)
            return super().reducer_override(value)

    stream = BytesIO()
    try:
        with _by_value(cloudpickle):
            Pickler(stream).dump(module)
    except Exception as error:  # any attribute may refuse, with an error of any kind
        name = type(module).__name__
        raise ConfigError(
            f"{name}: cannot be handed to another process: {type(error).__name__}: "
            f"{one_line(error)}: keep what cannot be pickled (open files, locks, scripted modules) "
            "out of it, or name its code, such as net.py:make"
        ) from error
    return stream.getvalue()


@contextmanager
def _by_value(cloudpickle: ModuleType) -> Iterator[None]:
    """Have the functions and classes of the user's modules be pickled with their code."""
    registered = []
    known = cloudpickle.list_registry_pickle_by_value()
    for name, module in list(sys.modules.items()):
        if name not in known and name != "__main__" and _is_users(name, module):
            cloudpickle.register_pickle_by_value(module)
            registered.append(module)
    try:
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _is_users(name: str, module: Any) -> bool:
    file = getattr(module, "__file__", None)
    if not isinstance(module, ModuleType) or module.__name__ != name or not isinstance(file, str):
        return False
    return not is_installed(Path(file)) and not is_ours(Path(file))
