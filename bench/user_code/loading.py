"""Import an attribute of the user's code, with errors of one line that name the place."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from foldbench.bench.errors import ConfigError, listed, nearest, one_line
from foldbench.bench.user_code.finder import (
    UserFinder,
    folders_of,
    is_reserved,
    project_folders,
)
from foldbench.bench.user_code.installed import is_installed, is_ours
from foldbench.bench.user_code.provenance import loaded_sources, revision_of
from foldbench.bench.user_code.reference import Reference, parse_reference


@dataclass(frozen=True)
class UserCode:
    """An attribute of the user's code, and what it was imported from."""

    attribute: Any
    files: dict[str, str] = field(default_factory=dict)
    """Absolute path -> sha256 of every file of the user's that was imported, sorted."""
    revision: str | None = None
    """The git revision of the repository that the code is in, ``-dirty`` behind it where the files
    differ from it; None without one."""


def load_user_code(text: str, base: Path | None = None) -> UserCode:
    """Import what `text` names (``net.py:MyNet``, ``pkg.module:make``), and record its sources.

    A relative path is below `base`, and a module is looked for there first; without `base`, both
    mean the current directory. The imports of a file do not depend on it: its own folder comes
    first, then the root of its package and project. Code that is run again in the same process is
    not imported again. Raises ConfigError, with one line: no such file, module or attribute, a
    missing package, or what the code itself raised, with its file and line.
    """
    before = frozenset(sys.modules)
    attribute, finder = _import(parse_reference(text), base or Path.cwd())
    files = loaded_sources(before, finder.folders)
    return UserCode(attribute, files, revision_of(_main_first(attribute, files)))


def import_attribute(text: str, base: Path | None = None) -> Any:
    """Return what `text` names, as `load_user_code` does."""
    return _import(parse_reference(text), base or Path.cwd())[0]


def _import(reference: Reference, base: Path) -> tuple[Any, UserFinder]:
    if reference.kind == "file":
        file = (base / Path(reference.location).expanduser()).resolve()
        if not file.is_file():
            raise ConfigError(f"{reference.location}: there is no such file{_like(file)}")
        name, first, last = folders_of(file)
        finder = UserFinder(first, last)
        finder.install()
        with _explained(str(reference.location)), _as_script(file):
            module = _import_file(file, name)
    else:
        finder = UserFinder(*project_folders(base.resolve()))
        finder.install()
        with _explained(reference.location):
            module = import_module(reference.location)
    return _attribute_of(module, reference), finder


def _import_file(file: Path, name: str) -> ModuleType:
    if name:
        package = name.partition(".")[0]
        module = None if is_reserved(package) else import_module(name)
        if module is not None and Path(module.__file__ or "").resolve() == file:
            return module
        raise ConfigError(
            f"{file} belongs to a package {package!r}, and foldbench needs another one of that "
            f"name: give it another name, or install it and write {name}:NAME"
        )
    unique = f"foldbench_user_{file.stem}_{sha256(str(file).encode()).hexdigest()[:8]}"
    if unique in sys.modules:
        return sys.modules[unique]
    loader = _FromSource(unique, str(file))
    spec = spec_from_file_location(unique, file, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[unique] = module  # dataclasses and pickle look there for what a class refers to
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[unique]
        raise
    return module


class _FromSource(SourceFileLoader):
    """Compiles the file that is there: bytecode of the same second and size may be another's."""

    def path_stats(self, path: Any) -> Any:
        raise OSError("no bytecode")


@contextmanager
def _as_script(file: Path) -> Iterator[None]:
    """Have ``sys.argv`` be the file's, as where it is run: its options are not foldbench's."""
    before = sys.argv
    sys.argv = [str(file)]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn whatever the user's code raises into a ConfigError; what it prints goes to stderr."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (ConfigError, KeyboardInterrupt):
        raise
    except SystemExit as error:
        raise ConfigError(
            f"{_place(error, where)}: it ends the process while it is imported (exit code "
            f"{error.code}): put what a script does below if __name__ == '__main__':"
        ) from error
    except ModuleNotFoundError as error:
        raise ConfigError(_missing_module(error, where)) from error
    except SyntaxError as error:
        place = f"{error.filename}:{error.lineno}" if error.filename else where
        raise ConfigError(f"{place}: SyntaxError: {error.msg}") from error
    except BaseException as error:
        raise ConfigError(
            f"{_place(error, where)}: {type(error).__name__}: {one_line(error)}"
        ) from error


def _place(error: BaseException, where: str) -> str:
    """Return the last line of the user's that the error came through."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and not is_installed(path) and not is_ours(path):
            return f"{path}:{frame.lineno}"
    return where


def _missing_module(error: ModuleNotFoundError, where: str) -> str:
    place = _place(error, where)
    name = error.name or ""
    if name and (where == name or where.startswith(f"{name}.")) and place == where:
        return f"{where}: there is no such module: run where it can be imported, or install it"
    missing = f"the package {name.partition('.')[0]!r}" if name else "a package"
    if "." in name:
        missing = f"the module {name!r}"
    return (
        f"{place}: it imports {missing}, which is neither installed nor beside the code: pip "
        "install it, or name the file by its path in its own project"
    )


def _attribute_of(module: ModuleType, reference: Reference) -> Any:
    found: Any = module
    for name in reference.attribute.split("."):
        if not hasattr(found, name):
            raise ConfigError(
                f"{reference.location}: it has no {reference.attribute!r}"
                f"{nearest(name, vars(found))}{_offers(module)}"
            )
        found = getattr(found, name)
    return found


def _offers(module: ModuleType) -> str:
    """Return the networks that a module defines, else its functions, as the end of a message."""
    torch = sys.modules.get("torch")
    own = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }
    if torch is not None:
        classes = [name for name, value in own.items() if isinstance(value, type)]
        networks = [name for name in classes if issubclass(own[name], torch.nn.Module)]
        if networks:
            return f" (its networks: {listed(networks)})"
    return f" (it defines: {listed(own)})" if own else ""


def _like(file: Path) -> str:
    """Return the nearest name of a Python file in the same folder, as the end of a message."""
    if not file.parent.is_dir():
        return f": {file.parent} is no folder"
    return nearest(file.name, [path.name for path in file.parent.glob("*.py")])


def _main_first(attribute: Any, files: dict[str, str]) -> list[str]:
    """Return `files`, that of the attribute first: its repository is the one that counts."""
    module = sys.modules.get(getattr(attribute, "__module__", None) or "")
    main = str(Path(getattr(module, "__file__", None) or ".").resolve())
    return sorted(files, key=lambda file: (file != main, file))
