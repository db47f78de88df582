"""Which folders of images there are, and what is wrong with them."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from foldbench.bench.errors import DataError, cut
from foldbench.bench.images.pixels import SUFFIXES

SPLITS = ("train", "test", "val")
FORM = (
    "allowed: a folder that holds train/<class>/* and test/<class>/*, "
    "or a .tar, .tar.gz, .tar.bz2 or .tar.xz of one"
)


class Layout:
    """Counts images by split and class, and judges the result."""

    form = FORM

    def __init__(self, path: Path) -> None:
        self.path = path
        self.splits: dict[str, dict[str, int]] = {}
        self.left_out: Counter[str] = Counter()
        """What is no image of a class, counted by the reason."""
        self._spelled: dict[tuple[str, str], str] = {}
        self._tops: set[str] = set()
        self._others: set[str] = set()

    @property
    def held_out(self) -> str:
        """The folder that is the test split: ``test``, or ``val`` where there is no ``test``."""
        return "val" if "val" in self.splits and "test" not in self.splits else "test"

    def place(self, parts: tuple[str, ...], is_folder: bool) -> tuple[str, str, str] | None:
        """Note one entry by the parts of its path; return split, class and name of an image.

        Returns None for a folder, a hidden file, and a file that is no image in a class folder.
        """
        if any(map(is_hidden, parts)):
            self.left_out["hidden"] += not is_folder
            return None
        parts = tuple(map(readable_name, parts))
        depth = next((d for d in (0, 1) if len(parts) > d and parts[d] in SPLITS), None)
        if depth is None or (len(parts) == depth + 1 and not is_folder):
            self._others.update(parts[:1])
            self.left_out["outside of the class folders"] += not is_folder
            return None
        self._tops.add(parts[0] if depth else "")
        split, rest = parts[depth], self._spell(parts[depth], parts[depth + 1 :])
        classes = self.splits.setdefault(split, {})
        if len(rest) > 1 or (rest and is_folder):
            classes.setdefault(rest[0], 0)
        if is_folder:
            return None
        if len(rest) < 2 or not is_image_name(rest[-1]):
            self.left_out[suffix_reason(rest[-1])] += 1
            return None
        classes[rest[0]] += 1
        return split, rest[0], "/".join(rest[1:])

    def _spell(self, split: str, rest: tuple[str, ...]) -> tuple[str, ...]:
        """Return the path below a split, its class spelled in one way (Unicode's NFC).

        Raises DataError for two class folders that differ in nothing else.
        """
        if not rest:
            return rest
        name = unicodedata.normalize("NFC", rest[0])
        if self._spelled.setdefault((split, name), rest[0]) != rest[0]:
            raise DataError(
                f"{self.path}: {split}/ has two folders called {name!r}, which Unicode spells in "
                "two ways: put their images into one"
            )
        return name, *rest[1:]

    def check(self) -> None:
        """Raise DataError unless both splits hold images of the same two or more classes."""
        if len(self._tops) > 1:
            raise DataError(
                f"{self.path} holds train/ or test/ folders in several places "
                f"({listed(top or 'at the top' for top in self._tops)}); {FORM}: keep one data set"
            )
        self._check_splits()
        train, test = self.splits["train"], self.splits[self.held_out]
        self._check_same(train, test)
        if len(train) < 2:
            raise DataError(
                f"{self.path} has images of one class only ({listed(train)}); "
                "a classifier needs two or more: add a folder for each other class"
            )
        for split, classes in (("train", train), (self.held_out, test)):
            empty = [name for name, count in classes.items() if not count]
            if empty:
                raise DataError(
                    f"{self.path}: {split}/ has no images of {listed(empty)}; "
                    f"allowed: {' '.join(SUFFIXES)} files: add some or remove the class"
                )

    def _check_splits(self) -> None:
        absent = [f"{name}/" for name in ("train", self.held_out) if name not in self.splits]
        if absent:
            found = listed({*self._others, *self.splits}) or "nothing"
            raise DataError(
                f"{self.path} has no {' and no '.join(absent)} folder (found: {found}); {FORM}: "
                "move the images into such folders"
            )
        for split in ("train", self.held_out):
            if not self.splits[split]:
                raise DataError(
                    f"{self.path}: {split}/ has no class folders; {FORM}: "
                    "put the images of each class into a folder with the name of the class"
                )

    def _check_same(self, train: Iterable[str], test: Iterable[str]) -> None:
        only_train, only_test = set(train) - set(test), set(test) - set(train)
        differences = [
            f"{listed(names)} only in {split}/"
            for names, split in ((only_train, "train"), (only_test, self.held_out))
            if names
        ]
        if differences:
            raise DataError(
                f"{self.path}: the classes of train/ and {self.held_out}/ differ: "
                f"{'; '.join(differences)}; both need the same class folders: "
                "add or rename the folders named here"
            )


def readable_name(name: str) -> str:
    """Return `name`, with bytes that are no UTF-8 as escapes: records hold text."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def suffix_reason(name: str) -> str:
    """Return why a file in a class folder is no image."""
    suffix = PurePosixPath(name).suffix.lower()
    return "image in no class folder" if suffix in SUFFIXES else cut(suffix, 20) or "no suffix"


def is_hidden(name: str) -> bool:
    """Return whether files and folders of this name are passed over."""
    return name.startswith(".") or name == "__MACOSX"


def is_image_name(name: str) -> bool:
    """Return whether the suffix is one of an image file, in upper or lower case."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def listed(names: Iterable[str], limit: int = 5) -> str:
    """Return the first names in order, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more
