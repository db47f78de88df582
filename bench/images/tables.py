"""A table of image files: ``path,label``, one image a line, as .csv or .tsv."""

import csv
import os
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from foldbench.bench import units
from foldbench.bench.errors import DataError
from foldbench.bench.images.forms import Form, Member
from foldbench.bench.images.layout import suffix_reason
from foldbench.bench.images.listing import TABLES, Content, Listed, Listing, Parts
from foldbench.bench.images.sources import LARGEST_FILE_BYTES, unreadable

_PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img")
_LABELS = ("label", "class", "class_name", "target", "category", "label_name", "y")
_FORM = (
    "allowed: one image a line as path,label, paths relative to the file, or a header that names "
    "the columns path and label"
)


def read_table(path: Path) -> tuple[Listing, Form]:
    """Return the images that a table lists, all to test on; raise DataError for another form."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    pairs, text = _pairs(str(path), content, lambda name: (path.parent / name).is_file())
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
        members.append(Member(parts, label))
    by_parts = {file.parts: file for file in files}

    def contents(wanted: Collection[Parts]) -> Iterator[Content]:
        return (
            (by_parts[parts], Path(by_parts[parts].origin))
            for parts in sorted(wanted, key=lambda parts: int(parts[1]))
        )

    listing = Listing(path, "table", tuple(files), contents)
    return listing, Form(f"a table of {text}", (), tuple(members), listing.skipped)


def table_in(listing: Listing) -> Form | None:
    """Return the form that the one table beside the images of a folder or an archive gives them.

    Paths are relative to the table; a bare name may also be that of the only image of that name.
    None without a table, with several, and for one that names no image there. Raises DataError for
    a table that is damaged, or names images of which some are missing or named twice.
    """
    tables = [file for file in listing.others if file.parts[-1].lower().endswith(TABLES)]
    if len(tables) != 1 or tables[0].size_bytes > LARGEST_FILE_BYTES or not listing.files:
        return None
    ((table, content),) = listing.contents([tables[0].parts])
    there = {file.parts for file in listing.files}
    by_name = {file.parts[-1]: file.parts for file in listing.files}
    names = Counter(file.parts[-1] for file in listing.files)

    def find(name: str) -> Parts | None:
        joined = posixpath.normpath("/".join((*table.parts[:-1], name.replace("\\", "/"))))
        parts = tuple(joined.split("/"))
        if parts in there:
            return parts
        return by_name[name] if names[name] == 1 else None

    data = content if isinstance(content, bytes) else content.read_bytes()
    try:
        pairs, text = _pairs(table.origin, data, lambda name: find(name) is not None)
    except DataError:
        return None  # it says something else
    found = [(find(name), name, label) for name, label in pairs]
    missing = [name for parts, name, _ in found if parts is None]
    if len(missing) == len(found):
        return None
    if missing:
        raise DataError(
            f"{table.origin} names {units.out_of(len(missing), len(found))} images that are not "
            f"there ({missing[0]}): correct their paths, which are relative to the table"
        )
    members = tuple(Member(parts, label) for parts, _, label in found if parts is not None)
    if len({member.parts for member in members}) < len(members):
        raise DataError(f"{table.origin} names an image twice: keep one line of each")
    skipped = Counter({"not in the table": len(there) - len(members)})
    skipped[suffix_reason(table.parts[-1])] = -1  # it is used
    return Form(f"the table {'/'.join(table.parts)} of {text}", (), members, skipped)


def _pairs(
    origin: str, content: bytes, exists: Callable[[str], bool]
) -> tuple[list[tuple[str, str | None]], str]:
    """Return name and label of each line, and what the table is; raise DataError."""
    rows = _read(origin, content)
    columns, text = _columns(origin, rows, exists)
    if columns[2]:
        rows = rows[1:]
    if not rows:
        raise _lists_nothing(origin)
    pairs = [_pair(origin, row, number, columns) for number, row in enumerate(rows, 1)]
    labelled = sum(bool(label) for _, label in pairs)
    if labelled not in (0, len(pairs)):
        raise DataError(
            f"{origin}: {units.out_of(len(pairs) - labelled, len(pairs))} lines have no label: "
            "give each one, or remove the column"
        )
    kind = "path and label" if labelled else "path alone, so without labels"
    told = [(name, unicodedata.normalize("NFC", label) if label else None) for name, label in pairs]
    return told, f"{kind} ({text})"


def _read(path: str, content: bytes) -> list[list[str]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8") from error
    first = text.partition("\n")[0]
    delimiter = max("\t;,", key=first.count) if path.lower().endswith(".csv") else "\t"
    try:
        rows = list(csv.reader(text.splitlines(), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataError(f"{path} is damaged ({error}); {_FORM}") from error
    rows = [[cell.strip() for cell in row] for row in rows if any(map(str.strip, row))]
    if not rows:
        raise _lists_nothing(path)
    return rows


def _lists_nothing(path: str) -> DataError:
    return DataError(f"{path} lists no images; {_FORM}")


def _columns(
    path: str, rows: Sequence[Sequence[str]], exists: Callable[[str], bool]
) -> tuple[tuple[int, int | None, bool], str]:
    """Return the columns of path and label (None without one), and whether there is a header."""
    first = [cell.lower() for cell in rows[0]]
    named = next((first.index(name) for name in _PATHS if name in first), None)
    if named is not None and not exists(rows[0][named]):
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
        and not exists(rows[0][0])
        and exists(rows[1][0])
        and not Path(rows[0][0]).suffix
    )
    label = 1 if len(first) == 2 else None
    return (0, label, has_header), "with a header" if has_header else "without a header"


def _pair(
    path: str, row: Sequence[str], number: int, columns: tuple[int, int | None, bool]
) -> tuple[str, str]:
    name, label, has_header = columns
    needed = max(name, label or 0)
    if len(row) <= needed or not row[name]:
        raise DataError(
            f"{path}: line {number + has_header} has {len(row)} columns, and the path or the label "
            f"is missing; {_FORM}"
        )
    return row[name], row[label] if label is not None else ""
