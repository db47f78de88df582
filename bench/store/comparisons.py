"""The comparisons of a run: ``comparisons/001.json`` and so on, and how one of them is named.

``results.json`` beside them holds the newest one once more, for programs that read it; runs of
earlier versions hold nothing else (and one for each protocol). A record that is in no numbered file
counts as one, after those that are, and gets its number when the next comparison is stored.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copyfile
from typing import get_args

from foldbench.bench.records import Protocol
from foldbench.bench.store.files import write_with

FOLDER = "comparisons"
NEWEST = "results.json"
_BY_PROTOCOL = tuple(f"results-{protocol}.json" for protocol in get_args(Protocol))
"""As earlier versions called the last comparison under each protocol."""
_NUMBERED = re.compile(r"(\d{3,})\.json")
_REFERENCE = re.compile(r"(?P<run>.+)@(?P<number>[+-]?\d{1,9})", re.DOTALL)
_FACT = r'"{}"\s*:\s*"([^"\\]*)"'


@dataclass(frozen=True)
class KeptComparison:
    """One finished comparison of a run, from 1."""

    number: int
    path: Path

    def fact(self, key: str) -> str:
        """Return a text of the record, such as ``created``, without reading the rest of it.

        Empty where there is none, or where the file cannot be read.
        """
        try:
            found = re.search(_FACT.format(re.escape(key)), self.path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return ""
        return found[1] if found else ""


def split_reference(name: str) -> tuple[str, int | None]:
    """Return run and number of ``my-001@2``; the number is None where none is given."""
    match = _REFERENCE.fullmatch(name)
    return (match["run"], int(match["number"])) if match else (name, None)


def kept_comparisons(run: Path) -> tuple[KeptComparison, ...]:
    """Return the finished comparisons in the folder of a run, oldest first."""
    numbered = _numbered(run)
    last = numbered[-1].number if numbered else 0
    strays = enumerate(_strays(run, numbered), start=last + 1)
    return (*numbered, *(KeptComparison(number, path) for number, path in strays))


def next_comparison(run: Path) -> str:
    """Return the file, within the folder `run`, of its next comparison; its lock is held.

    Records that earlier versions left are stored under their numbers first.
    """
    kept = kept_comparisons(run)
    for one in kept:
        if one.path.parent == run:
            write_with(run / _name(one.number), partial(copyfile, one.path))
    for name in _BY_PROTOCOL:
        with suppress(OSError):  # it says nothing that is not in a numbered one
            (run / name).unlink(missing_ok=True)
    return _name(kept[-1].number + 1 if kept else 1)


def _name(number: int) -> str:
    return f"{FOLDER}/{number:03d}.json"


def _numbered(run: Path) -> tuple[KeptComparison, ...]:
    try:
        paths = list((run / FOLDER).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return ()
    found = ((match, path) for path in paths if (match := _NUMBERED.fullmatch(path.name)))
    kept = (KeptComparison(int(match[1]), path) for match, path in found)
    return tuple(sorted(kept, key=lambda one: one.number))


def _strays(run: Path, numbered: Sequence[KeptComparison]) -> list[Path]:
    """Return the records that are in no numbered file, the newest one last."""
    known = [one.path for one in reversed(numbered)]
    strays: list[Path] = []
    for name in (NEWEST, *_BY_PROTOCOL):
        path = run / name
        if path.is_file() and not any(_same(path, other) for other in (*known, *strays)):
            strays.append(path)
    return strays[::-1]


def _same(a: Path, b: Path) -> bool:
    """Return whether two files hold the same bytes; most are told apart by their size."""
    return a.stat().st_size == b.stat().st_size and a.read_bytes() == b.read_bytes()
