"""Oxford-IIIT Pet: 37 breeds of cats and dogs, torchvision's files or a sample of the images.

With torchvision's folder ``oxford-iiit-pet`` (images and annotations), ``data.split: auto`` is the
split that its authors published: trainval.txt against test.txt. ``random`` draws from all images,
as the homework did. A folder or tar archive of images alone is read like `flat` does.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torchvision.datasets import OxfordIIITPet

from foldbench.bench.arrays import Rows
from foldbench.bench.errors import DataError, one_line
from foldbench.bench.images.flat import LabelRule, load_drawn, load_split
from foldbench.bench.images.image_set import DataOptions, ImageSet
from foldbench.bench.images.sources import ImageFile, ImageSource, check_size, unreadable
from foldbench.bench.store.files import json_sha256

TAKES_LABEL_RULE = True

BREED = r"(.+)_\d+\."
"""The 37 breeds, as the published annotations have them."""

_FOLDER = "oxford-iiit-pet"
_LISTS = ("trainval.txt", "test.txt")


def load(options: DataOptions) -> ImageSet:
    """Return Oxford-IIIT Pet from `options.path` or the cache folder, downloaded on request.

    Raises DataError when the files are missing, damaged or cannot be downloaded; ConfigError for a
    bad label rule.
    """
    pattern = options.label_pattern or BREED
    path = options.path
    if path is not None and (path.is_file() or _is_plain_folder(path, options.download)):
        return load_drawn(options, path, pattern, "oxford_pets")
    base = _obtain(options)
    if options.split != "auto":
        return load_drawn(options, base / "images", pattern, "oxford_pets")
    return _load_published(options, base, LabelRule.parse(pattern))


def _is_plain_folder(path: Path, download: bool) -> bool:
    return path.is_dir() and _base(path) is None and not download


def _base(path: Path) -> Path | None:
    """Return torchvision's folder in or at `path`, None where it is not."""
    for base in (path, path / _FOLDER):
        if (base / "images").is_dir() and (base / "annotations").is_dir():
            return base
    return None


def _obtain(options: DataOptions) -> Path:
    root = options.path or options.cache / "oxford_pets"
    base = _base(root)
    if base is None and options.download:
        try:
            OxfordIIITPet(root=str(root), download=True)
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"cannot download Oxford-IIIT Pet into {root}: {one_line(error)}; check the "
                f"network and the folder, or {_WAYS}"
            ) from error
        base = _base(root)
    if base is None:
        raise DataError(
            f"Oxford-IIIT Pet is not there: no {root / _FOLDER} with images and annotations; "
            f"{_WAYS}, or --set data.download=true to let torchvision download 800 MB into {root}"
        )
    return base


_WAYS = (
    f"give --data PATH with the folder that holds torchvision's {_FOLDER}, or a folder or tar "
    "archive of images named like Abyssinian_1.jpg"
)


def _load_published(options: DataOptions, base: Path, rule: LabelRule) -> ImageSet:
    listed = [_read_list(base / "annotations" / name) for name in _LISTS]
    names = sorted({name for part in listed for name in part})
    files = [_image_file(base / "images" / f"{name}.jpg", rule) for name in names]
    facts = [(f.origin, f.size_bytes, os.stat(f.origin).st_mtime_ns) for f in files]
    source = ImageSource(json_sha256([str(base.resolve()), facts, listed]), lambda: iter(files))

    def choose(names: Sequence[str], _: Sequence[str]) -> tuple[Rows, Rows]:
        row_of = {name: row for row, name in enumerate(names)}
        train, test = (
            np.array([row_of[f"{image}.jpg"] for image in part], np.int64) for part in listed
        )
        return train, test

    return load_split(
        options,
        base,
        source,
        choose,
        rule=(rule.pattern.pattern, "published"),
        name="oxford_pets",
        title="Oxford-IIIT Pet",
        original=True,
    )


def _read_list(path: Path) -> list[str]:
    """Return the names of the images in one of the published lists, in its order."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({one_line(error)}): get the annotations again, or set "
            "data.split to stratified to split all images"
        ) from error
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def _image_file(path: Path, rule: LabelRule) -> ImageFile:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise unreadable(path, error) from error
    check_size(str(path), size)
    return ImageFile("", rule.read(path.name, str(path)), path.name, str(path), path, size)
