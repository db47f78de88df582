"""Plug-ins by file name: a model, data set, backend or pass is one file in its folder.

The file's name is the plug-in's name everywhere: in YAML, on the command line, in reports. A folder
is listed without importing anything, so `bench list` and `bench --help` need no heavy package.
Files that begin with an underscore belong to the package itself and are no plug-ins.
"""

from ast import AnnAssign, Assign, Module, get_docstring, literal_eval, parse, unparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from foldbench.bench.errors import MissingPackageError, UnknownNameError, nearest

# What to install when an import fails and the distribution is not named like the module.
_DISTRIBUTIONS = {
    "onnxruntime": "onnxruntime-gpu (macOS: onnxruntime)",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "openvino": "'foldbench[openvino]'",
}


@dataclass(frozen=True)
class Registry:
    """The plug-ins of one kind, found in the folder of one package."""

    kind: str
    package: str
    _added: dict[str, ModuleType] = field(default_factory=dict, repr=False, compare=False)

    @contextmanager
    def added(self, name: str, module: ModuleType) -> Iterator[None]:
        """Have `module` as one plug-in more for a while, in this process alone."""
        self._added[name] = module
        try:
            yield
        finally:
            del self._added[name]

    def names(self) -> tuple[str, ...]:
        """Return the names of all plug-ins, sorted, without importing any of them."""
        found = (p.stem for p in self._folder().glob("*.py") if not p.stem.startswith("_"))
        return tuple(sorted({*found, *self._added}))

    def summary(self, name: str) -> str:
        """Return the first line of the plug-in's docstring, without importing it."""
        return (get_docstring(self._parse(name)) or "").partition("\n")[0]

    def options(self, name: str) -> dict[str, str]:
        """Return what the plug-in's literal OPTIONS holds, without importing it; {} without one."""
        for statement in self._parse(name).body:
            assigned = isinstance(statement, Assign | AnnAssign) and statement.value
            if assigned and unparse(statement).partition(" ")[0].rstrip(":") == "OPTIONS":
                found: dict[str, str] = literal_eval(assigned)
                return found
        return {}

    def check(self, name: str) -> str:
        """Return `name`; raise UnknownNameError with the nearest spelling if there is no such."""
        known = self.names()
        if name not in known:
            raise UnknownNameError(
                f"unknown {self.kind} {name!r}{nearest(name, known)} (known: {', '.join(known)})"
            )
        return name

    def load(self, name: str) -> ModuleType:
        """Import and return the plug-in's module.

        Raises UnknownNameError, or MissingPackageError that names the package to install.
        """
        self.check(name)
        if name in self._added:
            return self._added[name]
        try:
            return import_module(f"{self.package}.{name}")
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing in ("", self.package.partition(".")[0]):
                raise
            raise MissingPackageError(
                f"{self.kind} {name!r} needs the package {missing!r}, which is not installed: "
                f"pip install {_DISTRIBUTIONS.get(missing, missing)}"
            ) from error

    def _parse(self, name: str) -> Module:
        self.check(name)
        return parse((self._folder() / f"{name}.py").read_text(encoding="utf-8"))

    def _folder(self) -> Path:
        spec = find_spec(self.package)
        if spec is None or spec.origin is None:
            raise UnknownNameError(f"package {self.package!r} is not installed with foldbench")
        return Path(spec.origin).parent


MODELS = Registry("model", "foldbench.models")
DATASETS = Registry("dataset", "foldbench.bench.datasets")
BACKENDS = Registry("backend", "foldbench.bench.backends")
PASSES = Registry("pass", "foldbench.exporters.passes")
