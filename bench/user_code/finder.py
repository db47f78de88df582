"""Where the imports of the user's code are looked for.

What ``python net.py`` and ``python -m package.net`` do by putting a folder first on `sys.path`, an
entry of `sys.meta_path` does here, for three reasons. foldbench and torch import in the same
process: an ``onnx.py`` or ``profile.py`` beside the user's network must not become theirs. The
user's ``models/`` must not become ours, nor ours the user's. And `sys.path` stays what it was.

It stays in place for the life of the process: ``forward`` may import, too. The code that was loaded
last is asked first. Code that is loaded afterwards from elsewhere gets its own ``models/``, since
those that were imported under the same names are forgotten (`UserFinder.install`); they live on in
the modules that hold them.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from importlib import invalidate_caches
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from foldbench.bench.user_code.installed import FOLDBENCH, is_installed, is_ours

_STANDARD = sys.stdlib_module_names - {"test"}
_NEEDED = frozenset(
    (
        *("foldbench", "torch", "torchvision", "timm", "onnx", "onnx_ir", "onnxscript"),
        *("onnxruntime", "openvino", "numpy", "sklearn", "scipy", "psutil", "click", "tabulate"),
        *("jinja2", "markupsafe", "pydantic", "pydantic_core", "ruamel", "safetensors", "PIL"),
        *("platformdirs", "filelock", "rich", "threadpoolctl", "pynvml"),
        *("matplotlib", "mpl_toolkits", "optuna"),
        *("mlperf_loadgen", "cloudpickle", "mlflow", "sqlalchemy", "google", "packaging"),
        *("typing_extensions", "huggingface_hub", "sympy", "networkx", "ml_dtypes"),
    )
)
"""What foldbench imports itself, or its packages do: never taken from the user's folders."""

_MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")
"""What lies at the root of a project."""
_FARTHEST = 3
"""Folders above the code that are looked into where nothing marks the root of a project."""


class UserFinder:
    """Finds the top-level modules of the user's code.

    `first` is asked before what is installed, `last` after it; both are in order.
    """

    def __init__(self, first: Sequence[Path], last: Sequence[Path] = ()) -> None:
        self._first = [str(folder) for folder in first]
        self._last = [str(folder) for folder in last]

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that are asked before what is installed."""
        return tuple(Path(folder) for folder in self._first)

    def install(self) -> None:
        """Be asked before all others from now on, and forget what was imported from elsewhere."""
        sys.meta_path[:] = [f for f in sys.meta_path if not self._equals(f)]
        sys.meta_path.insert(0, self)
        invalidate_caches()
        for name in {module.partition(".")[0] for module in sys.modules}:
            if self._hides(name, sys.modules.get(name)):
                for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                    del sys.modules[module]

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the user's module `name`; None where it is somebody else's."""
        if path is not None or is_reserved(name):
            return None
        found = PathFinder.find_spec(name, self._first)
        if found is not None and found.loader is not None:
            return found
        # A folder without __init__.py gives way to an installed package, as it does in Python.
        return _find_elsewhere(name) or found or PathFinder.find_spec(name, self._last)

    def _hides(self, name: str, loaded: ModuleType | None) -> bool:
        """Whether the user's code has another module `name` than the one that is `loaded`."""
        if is_reserved(name) or loaded is None:
            return False
        found = PathFinder.find_spec(name, self._first)
        if found is None:
            return False
        theirs, places = _places_of(found), [Path(place) for place in _places_of(loaded.__spec__)]
        if found.loader is None and all(is_installed(place) for place in places):
            return False
        return bool(places) and not {Path(place) for place in theirs} & set(places)

    def _equals(self, other: object) -> bool:
        mine = (self._first, self._last)
        return isinstance(other, UserFinder) and (other._first, other._last) == mine


def is_reserved(name: str) -> bool:
    """Whether the top-level module `name` is never looked for among the user's files."""
    return name in _NEEDED or name in _STANDARD


def folders_of(file: Path) -> tuple[str, tuple[Path, ...], tuple[Path, ...]]:
    """Return how `file` is imported: its dotted name, and the folders to look into, in order.

    A file in a package has the name that it has there, so that relative imports work, and the
    folder above the package comes first. Any other file is a script, whose own folder comes first;
    its name is "". The root of the project follows, and a ``src`` folder in it. What is
    nowhere else is looked for in the folders between.
    """
    package: list[str] = []
    folder = file.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        package.insert(0, folder.name)
        folder = folder.parent
    named = package and (file.stem.isidentifier() or file.name == "__init__.py")
    if file.name != "__init__.py":
        package.append(file.stem)
    if not named:
        folder = file.parent
    first, last = project_folders(folder)
    beside = (file.parent,) if named else ()
    return ".".join(package) if named else "", first, _distinct((*beside, *last), first)


def project_folders(folder: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return where code that is run in `folder` is looked for first and last."""
    everything = {Path(folder.anchor), Path(os.path.expanduser("~"))}
    above = [folder, *(place for place in folder.parents if place not in everything)]
    root = next((place for place in above if any((place / mark).exists() for mark in _MARKS)), None)
    if root is None:
        return (folder,), tuple(above[1 : 1 + _FARTHEST])
    first = _distinct((folder, root, root / "src"), ())
    return first, _distinct(above[: above.index(root) + 1], first)


def _distinct(folders: Iterable[Path], but: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(f for f in folders if f not in set(but)))


def _find_elsewhere(name: str) -> ModuleSpec | None:
    """Return what Python itself finds under `name`, unless it is a folder of our repository."""
    for finder in sys.meta_path:
        if not isinstance(finder, UserFinder) and hasattr(finder, "find_spec"):
            found = finder.find_spec(name, None)
            if found is not None and found.loader is not None:
                return None if _is_of_our_repository(found) else found
    return None


def _is_of_our_repository(spec: ModuleSpec) -> bool:
    return not is_installed(FOLDBENCH) and is_ours(Path(spec.origin or ""))


def _places_of(spec: ModuleSpec | None) -> list[str]:
    """Return the file of a module, or the folders of a package that has none."""
    if spec is None:
        return []
    if spec.has_location and spec.origin:
        return [spec.origin]
    return list(spec.submodule_search_locations or ())
