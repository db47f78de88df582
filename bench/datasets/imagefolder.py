"""Any images as train/<class>/* and test/<class>/*, in a folder or a .tar[.gz|.bz2|.xz] file.

The classes are the sorted names of the class folders; subfolders of a class count too. Where there
is no test/ folder, val/ is the test split. Images of another size are scaled with anti-aliasing to
cover the square and are cut at the centre; grey, palette and CMYK images become RGB, EXIF rotation
is applied, and what is transparent becomes white.

Archives are read in one pass and never unpacked. The images are decoded once and kept in the cache,
so that later loads only map them.
"""

from collections.abc import Iterable
from time import perf_counter
from typing import Any

from foldbench.bench.datasets import DataOptions, ImageSet
from foldbench.bench.errors import DataError
from foldbench.bench.images import cache
from foldbench.bench.images.decode import decode
from foldbench.bench.images.layout import FORM
from foldbench.bench.images.pixels import VERSION
from foldbench.bench.images.sources import open_source
from foldbench.bench.records import DataInfo, Resize
from foldbench.bench.store.files import json_sha256

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
CIFAR10_COUNTS = (50_000, 10_000)


def load(options: DataOptions) -> ImageSet:
    """Return the images at `options.path`, from the cache when they were decoded before.

    Raises DataError for a path that is missing or of another kind, folders that are not laid out
    as train/<class>/* and test/<class>/*, damaged files, and a cache that cannot be written.
    """
    started = perf_counter()
    path = options.path
    if path is None:
        raise DataError(f"imagefolder needs a place to read from; {FORM}: give it with --data PATH")
    source = open_source(path)
    key = json_sha256([source.fingerprint, options.image_size, VERSION, *changes(options.resize)])
    folder = options.cache / "imagefolder" / key[:24]
    entry, train, test, from_cache = cache.fetch(
        folder,
        key,
        options.image_size,
        path,
        lambda: decode(source.files(), options.image_size, options.resize),
    )
    return ImageSet(
        train,
        test,
        DataInfo(
            name="imagefolder",
            title=title(
                path.name, entry.classes, (len(train.labels), len(test.labels)), entry.formats
            ),
            path=str(path),
            sha256=entry.sha256,
            train_count=len(train.labels),
            test_count=len(test.labels),
            classes=entry.classes,
            original=False,
            decode_s=perf_counter() - started,
            from_cache=from_cache,
            test_files_sha256=entry.test_files_sha256,
        ),
    )


def changes(resize: Resize) -> list[Any]:
    """Return what is not by default: images cached before it could be chosen stay known."""
    changed = resize.model_dump(exclude_defaults=True)
    return [changed] if changed else []


def title(
    name: str, classes: tuple[str, ...], counts: tuple[int, int], formats: Iterable[str]
) -> str:
    """Return what people call these images: copies of CIFAR-10 are known by classes and counts."""
    if classes != CIFAR10_CLASSES or counts != CIFAR10_COUNTS:
        return name
    return "CIFAR-10 (JPEG copy)" if "JPEG" in formats else "CIFAR-10 (copy as image files)"
