"""Which files of the user's were imported, and of which state of their repository."""

import os
import subprocess
import sys
from collections.abc import Collection, Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path

from foldbench.bench.user_code.installed import is_installed, is_ours

_TIMEOUT_S = 10


def loaded_sources(before: Collection[str] = (), folders: Iterable[Path] = ()) -> dict[str, str]:
    """Return the user's files that are imported now: absolute path -> sha256, sorted.

    Those of the modules that are not named in `before` (keys of `sys.modules`), and all below
    `folders`, whenever they were imported. What is installed (the standard library, site-packages,
    foldbench) is no file of the user's.
    """
    places = tuple(os.path.join(folder.resolve(), "") for folder in folders)
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str):
            continue
        if name in before and not _resolved(file).startswith(places):
            continue
        path = Path(_resolved(file))
        if path.is_file() and not is_installed(path) and not is_ours(path):
            found[str(path)] = sha256(path.read_bytes()).hexdigest()
    return dict(sorted(found.items()))


@cache
def _resolved(file: str) -> str:
    """Return the absolute path without links: thousands of modules are asked again and again."""
    return os.path.realpath(file)


def revision_of(files: Iterable[str]) -> str | None:
    """Return the git revision (40 hex digits) of the repository that holds the first of `files`.

    ``-dirty`` follows where one of the files in it differs from that revision. None where there is
    no repository or no git.
    """
    paths = [Path(file) for file in files]
    top = _git(paths[0].parent, "rev-parse", "--show-toplevel") if paths else None
    revision = _git(paths[0].parent, "rev-parse", "HEAD") if top else None
    if not top or not revision:
        return None
    inside = [str(path) for path in paths if path.is_relative_to(Path(top).resolve())]
    status = ("status", "--porcelain", "--ignored", "--untracked-files=all", "--", *inside)
    return f"{revision}-dirty" if _git(Path(top), *status) != "" else revision


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, None where it fails; it runs no hook and takes no lock."""
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=_TIMEOUT_S,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
