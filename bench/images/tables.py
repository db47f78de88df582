"""A table of image files: ``path,label``, one image a line, as .csv or .tsv."""

import csv
import os
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from foldbench.bench import units
from foldbench.bench.errors import DataError
from foldbench.bench.images.forms import Form, Member
from foldbench.bench.images.listing import Content, Listed, Listing, Parts
from foldbench.bench.images.sources import unreadable

SUFFIXES = (".csv", ".tsv")
_PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img")
_LABELS = ("label", "class", "class_name", "target", "category", "label_name", "y")
_FORM = (
    "allowed: one image a line as path,label, paths relative to the file, or a header that names "
    "the columns path and label"
)


def read_table(path: Path) -> tuple[Listing, Form]:
    """Return the images that a table lists, all to test on; raise DataError for another form."""
    rows = _read(path)
    columns, text = _columns(path, rows)
    if columns[2]:
        rows = rows[1:]
    pairs = [_pair(path, row, number, columns) for number, row in enumerate(rows, 1)]
    labelled = sum(bool(label) for _, label in pairs)
    if labelled not in (0, len(pairs)):
        raise DataError(
            f"{path}: {units.out_of(len(pairs) - labelled, len(pairs))} lines have no label: give "
            "each one, or remove the column"
        )
    files = []
    members = []
    for number, (name, label) in enumerate(pairs):
        place = path.parent / name
        parts = (name, str(number))
        try:
            status = os.stat(place)
            facts: tuple[object, ...] = (status.st_mtime_ns, status.st_ctime_ns)
            files.append(Listed(parts, str(place), status.st_size, facts))
        except (OSError, ValueError):  # named with all that cannot be read, at the end
            files.append(Listed(parts, str(place), 0, ()))
        members.append(Member(parts, unicodedata.normalize("NFC", label) if label else None))
    by_parts = {file.parts: file for file in files}

    def contents(wanted: Collection[Parts]) -> Iterator[Content]:
        return (
            (by_parts[parts], Path(by_parts[parts].origin))
            for parts in sorted(wanted, key=lambda parts: int(parts[1]))
        )

    listing = Listing(path, "table", tuple(files), contents)
    kind = "path and label" if labelled else "path alone, so without labels"
    return listing, Form(f"a table of {kind} ({text})", (), tuple(members), listing.skipped)


def _read(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8") from error
    except OSError as error:
        raise unreadable(path, error) from error
    first = text.partition("\n")[0]
    delimiter = max("\t;,", key=first.count) if path.suffix.lower() == ".csv" else "\t"
    try:
        rows = list(csv.reader(text.splitlines(), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataError(f"{path} is damaged ({error}); {_FORM}") from error
    rows = [[cell.strip() for cell in row] for row in rows if any(map(str.strip, row))]
    if not rows:
        raise DataError(f"{path} lists no images; {_FORM}")
    return rows


def _columns(path: Path, rows: Sequence[Sequence[str]]) -> tuple[tuple[int, int | None, bool], str]:
    """Return the columns of path and label (None without one), and whether there is a header."""
    first = [cell.lower() for cell in rows[0]]
    named = next((first.index(name) for name in _PATHS if name in first), None)
    if named is not None and not (path.parent / rows[0][named]).is_file():
        label = next((first.index(name) for name in _LABELS if name in first), None)
        if label is None and len(first) > 1:
            raise DataError(
                f"{path} has a column {rows[0][named]!r} and none for labels (found: "
                f"{', '.join(rows[0])}); {_FORM}"
            )
        return (named, label, True), "with a header"
    if len(first) > 2:
        raise DataError(f"{path} has {len(first)} columns and no header; {_FORM}")
    has_header = (
        len(rows) > 1
        and not (path.parent / rows[0][0]).is_file()
        and (path.parent / rows[1][0]).is_file()
        and not Path(rows[0][0]).suffix
    )
    label = 1 if len(first) == 2 else None
    return (0, label, has_header), "with a header" if has_header else "without a header"


def _pair(
    path: Path, row: Sequence[str], number: int, columns: tuple[int, int | None, bool]
) -> tuple[str, str]:
    name, label, has_header = columns
    needed = max(name, label or 0)
    if len(row) <= needed or not row[name]:
        raise DataError(
            f"{path}: line {number + has_header} has {len(row)} columns, and the path or the label "
            f"is missing; {_FORM}"
        )
    return row[name], row[label] if label is not None else ""
