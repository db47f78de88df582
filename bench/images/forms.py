"""In which form a user's images lie in a folder or an archive: which are tested on, of which class.

The form is recognised by where the image files are, and nothing else; what it was taken for is said
in one line, and what could be two things is refused.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foldbench.bench import units
from foldbench.bench.errors import DataError
from foldbench.bench.images.layout import listed
from foldbench.bench.images.listing import Listing, Parts

ALLOWED = (
    "allowed: a folder or a .zip or .tar[.gz|.bz2|.xz] of class folders, of train/ beside test/ or "
    "val/, or of images without labels; a .csv of path,label; an .npz or .npy of arrays; "
    "loader.py:function"
)
Kind = Literal["train", "test", "val"]
_KINDS: dict[str, Kind] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}


@dataclass(frozen=True)
class Member:
    """One image: which file, and its class."""

    parts: Parts
    class_name: str | None
    """None where the images have no labels."""


@dataclass(frozen=True)
class Form:
    """What a folder or an archive was taken for."""

    text: str
    """For people."""
    train: tuple[Member, ...]
    test: tuple[Member, ...]
    skipped: Counter[str]
    """Image files that belong to neither, counted by the reason."""


def recognise(listing: Listing) -> Form:
    """Return the form of what is listed; raise DataError for what has none or could be two."""
    paths = [file.parts for file in listing.files]
    if not paths:
        found = listed(f"{units.count(n)} {what}" for what, n in listing.skipped.items() if n)
        raise DataError(f"{listing.path} holds no images (found: {found or 'nothing'}); {ALLOWED}")
    top = _wrapper(listing, paths)
    inner = [parts[len(top) :] for parts in paths]
    folders = _split_folders(listing.path, inner)
    if folders:
        return _split_form(listing.path, top, inner, folders)
    if all(len(parts) == 1 for parts in inner):
        text = f"images without labels{_inside(top)}"
        return Form(text, (), tuple(Member((*top, *parts), None) for parts in inner), Counter())
    return _class_form(listing.path, top, inner)


def has_no_classes(listing: Listing) -> bool:
    """Return whether folders tell no classes apart: all images lie in one folder, or in none."""
    return len({file.parts[:-1] for file in listing.files}) == 1


def _wrapper(listing: Listing, paths: Sequence[Parts]) -> Parts:
    """Return the folders around everything that say nothing, from the top; () for none."""
    found: Parts = ()
    while top := _outermost(listing, [parts[len(found) :] for parts in paths]):
        found += top
    return found


def _outermost(listing: Listing, paths: Sequence[Parts]) -> Parts:
    tops = {parts[0] for parts in paths if len(parts) > 1}
    if len(tops) != 1 or any(len(parts) == 1 for parts in paths):
        return ()
    (top,) = tops
    if top.lower() in _KINDS:
        return ()
    deeper = all(len(parts) > 2 for parts in paths)
    has_splits = any(len(parts) > 2 and parts[1].lower() in _KINDS for parts in paths)
    name = listing.path.name.lower()
    named_after = listing.is_archive and name.startswith(f"{top.lower()}.")
    return (top,) if deeper or has_splits or named_after else ()


def _split_folders(path: Path, paths: Sequence[Parts]) -> dict[Kind, str]:
    """Return the folder of each split; none where folders of these names are class folders."""
    tops = sorted({parts[0] for parts in paths if len(parts) > 1})
    found = [top for top in tops if top.lower() in _KINDS]
    if not found:
        return {}
    has_classes = {parts[0] for parts in paths if len(parts) > 2}
    others = [top for top in tops if top not in found]
    if others and not any(top in has_classes for top in found):
        return {}  # classes of which one is called train, say
    folders: dict[Kind, str] = {}
    for top in found:
        kind = _KINDS[top.lower()]
        if kind in folders:
            raise DataError(
                f"{path} holds both {folders[kind]}/ and {top}/, which are one split: rename one, "
                "or give one of them with --data"
            )
        folders[kind] = top
    return folders


def _split_form(path: Path, top: Parts, paths: Sequence[Parts], folders: dict[Kind, str]) -> Form:
    members: dict[Kind, list[Member]] = {kind: [] for kind in folders}
    bare: dict[Kind, list[Member]] = {kind: [] for kind in folders}
    kinds = {name: kind for kind, name in folders.items()}
    skipped: Counter[str] = Counter()
    for parts in paths:
        kind = kinds.get(parts[0]) if len(parts) > 1 else None
        if kind is None:
            skipped["outside of the split folders"] += 1
        elif len(parts) == 2:
            bare[kind].append(Member((*top, *parts), None))
        else:
            members[kind].append(Member((*top, *parts), _class_name(parts[1])))
    held_out = [kind for kind in ("test", "val") if kind in folders]
    tested = next((kind for kind in held_out if members[kind]), None)
    unlabelled = tested is None and next((kind for kind in held_out if bare[kind]), None)
    if tested is None and not unlabelled:
        raise DataError(
            f"{path} has {folders['train']}/ and neither test/ nor val/, so nothing to measure on: "
            "add one of them, or give a folder of class folders itself, such as "
            f"--data {path / folders['train']}"
        )
    chosen = tested or unlabelled or "test"
    test = members[chosen] if tested else bare[chosen]
    skipped["image in no class folder"] += sum(
        len(found) for kind, found in bare.items() if kind != unlabelled
    )
    unused = [kind for kind in held_out if kind != chosen]
    skipped["of a split that is not used"] += sum(len(members[kind]) for kind in unused)
    train = members.get("train", [])
    _refuse_unknown(path, folders, chosen, train, test if tested else [])
    what = f"{folders[chosen]}/{'<class>/*' if tested else '* without labels'}"
    beside = f" beside {folders['train']}/<class>/*" if train else ""
    return Form(f"{what}{beside}{_inside(top)}", tuple(train), tuple(test), skipped)


def _refuse_unknown(
    path: Path,
    folders: dict[Kind, str],
    tested: Kind,
    train: Sequence[Member],
    test: Sequence[Member],
) -> None:
    """Raise DataError for a class that is tested and not trained."""
    unknown = {m.class_name or "" for m in test} - {m.class_name or "" for m in train}
    if train and unknown:
        raise DataError(
            f"{path}: {folders[tested]}/ has classes that {folders['train']}/ has not "
            f"({listed(unknown)}): add or rename their folders"
        )


def _class_form(path: Path, top: Parts, paths: Sequence[Parts]) -> Form:
    stray = sum(len(parts) == 1 for parts in paths)
    inside = len(paths) - stray
    if stray > inside:
        raise DataError(
            f"{path} holds {units.count(stray)} images beside folders of {units.count(inside)} "
            "more, which could be either images without labels or class folders: move the images "
            "or the folders elsewhere"
        )
    test = tuple(Member((*top, *parts), _class_name(parts[0])) for parts in paths if len(parts) > 1)
    classes = {member.class_name for member in test}
    folders = "folder" if len(classes) == 1 else "folders"
    text = f"{units.count(len(classes))} class {folders}{_inside(top)}, all to test on"
    return Form(text, (), test, Counter({"image in no class folder": stray} if stray else {}))


def _class_name(folder: str) -> str:
    return unicodedata.normalize("NFC", folder)


def _inside(top: Parts) -> str:
    return f" in {'/'.join(top)}/" if top else ""
