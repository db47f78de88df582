"""Images as train/<class>/* and test/<class>/*, and the copies of CIFAR-10 among them."""

from collections.abc import Iterable
from pathlib import Path

from foldbench.bench.images import cache
from foldbench.bench.images.decode import decode
from foldbench.bench.images.image_set import DataOptions, ImageSet
from foldbench.bench.images.sources import open_source

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
CIFAR10_COUNTS = (50_000, 10_000)


def load_folders(options: DataOptions, path: Path) -> ImageSet:
    """Return the images in `path`, from the cache when they were decoded before.

    Raises DataError for a path that is missing or of another kind, folders that are not laid out
    as train/<class>/* and test/<class>/*, damaged files, and a cache that cannot be written.
    """
    options.refuse_other_channels()
    source = open_source(path, listener=options.listener)
    return cache.fetch(
        options,
        path,
        source.fingerprint,
        lambda bad: decode(
            source.files(), options.image_size, options.resize, options.channels, bad
        ),
        skipped=source.skipped,
        name="imagefolder",
        title=lambda entry: title(
            path.name, entry.classes, (entry.train_count, entry.test_count), entry.formats
        ),
    )


def title(
    name: str, classes: tuple[str, ...], counts: tuple[int, int], formats: Iterable[str]
) -> str:
    """Return what people call these images: copies of CIFAR-10 are known by classes and counts."""
    if classes != CIFAR10_CLASSES or counts != CIFAR10_COUNTS:
        return name
    return "CIFAR-10 (JPEG copy)" if "JPEG" in formats else "CIFAR-10 (copy as image files)"
