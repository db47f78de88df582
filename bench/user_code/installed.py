"""Which files belong to Python, to installed packages or to foldbench, not to the user."""

import site
import sysconfig
from functools import cache
from pathlib import Path

import foldbench

FOLDBENCH = Path(foldbench.__file__).resolve().parent
_PARTS = ("bench", "configs", "exporters", "models", "reports")


@cache
def _installed_folders() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {sysconfig.get_paths()[name] for name in names}
    found |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple({Path(folder).resolve() for folder in found})


def is_installed(file: Path) -> bool:
    """Whether `file` lies where packages are installed."""
    path = file.resolve()
    if {"site-packages", "dist-packages"} & set(path.parts):  # another environment's, too
        return True
    return any(path.is_relative_to(folder) for folder in _installed_folders())


def is_ours(file: Path) -> bool:
    """Whether `file` is foldbench's own."""
    path = file.resolve()
    places = (FOLDBENCH, *(FOLDBENCH.parent / part for part in _PARTS))
    return any(path.is_relative_to(place) for place in places)
