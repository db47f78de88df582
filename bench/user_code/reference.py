"""How an attribute of the user's code is written: ``net.py:MyNet`` or ``pkg.module:make``."""

import ast
from pathlib import Path
from typing import Literal, NamedTuple

from foldbench.bench.errors import ConfigError, listed

_FORMS = "allowed: FILE.py:NAME or package.module:NAME"


class Reference(NamedTuple):
    """Where something is."""

    kind: Literal["file", "module"]
    location: str
    """The path as it was written, or the dotted name of the module."""
    attribute: str
    """Its name there; dotted where it belongs to a class."""


def parse_reference(text: str) -> Reference:
    """Return what `text` names, without importing anything.

    Raises ConfigError for a text of another form; it lists what the file defines where the name of
    the attribute is missing.
    """
    location, colon, attribute = text.rpartition(":")
    if not colon or attribute.endswith(".py"):  # C:\net.py has a colon, too
        location, attribute = text, ""
    is_file = location.endswith(".py")
    if not is_file and not _is_dotted(location):
        raise ConfigError(f"{text!r} names no code of yours ({_FORMS})")
    if not attribute:
        raise ConfigError(f"{text!r} has no NAME after a colon ({_FORMS}){_names_in(location)}")
    if not _is_dotted(attribute):
        raise ConfigError(f"{text!r}: {attribute!r} is no name in Python ({_FORMS})")
    return Reference("file" if is_file else "module", location, attribute)


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _names_in(location: str) -> str:
    """Return what the file at `location` defines, as the end of a message; "" if unreadable."""
    try:
        parsed = ast.parse(Path(location).expanduser().read_bytes())
    except (OSError, ValueError, SyntaxError):
        return ""
    kinds = (ast.ClassDef, ast.FunctionDef)
    names = [node.name for node in parsed.body if isinstance(node, kinds)]
    public = [name for name in names if not name.startswith("_")]
    return f": {location} defines {listed(public)}" if public else ""
