"""Random pixels of the input's shape, without labels: for latency and agreement alone.

Nothing is read. The same numbers come out wherever it runs; `data.test_subset` says how many images
there are, 256 by default.
"""

from time import perf_counter

import numpy as np

from foldbench.bench import units
from foldbench.bench.errors import DataError
from foldbench.bench.images.image_set import DataOptions, ImageSet, Split, make_image_set
from foldbench.bench.store.files import json_sha256

TAKES_TEST_SUBSET = True
_COUNT = 256


def load(options: DataOptions) -> ImageSet:
    """Return random uint8 images of `options.shape`; raise DataError when a path is given."""
    started = perf_counter()
    if options.path is not None:
        raise DataError(
            f"noise is random and cannot be read from {options.path}: leave out --data, or use "
            "--set data.name=images for images of your own"
        )
    count = options.test_subset or _COUNT
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, *options.shape), np.uint8)
    return make_image_set(
        None,
        Split(images, None),
        name="noise",
        title=f"{units.count(count)} images of random pixels",
        path=None,
        classes=(),
        original=False,
        started=started,
        test_files_sha256=json_sha256(["noise", count]),
        form="random pixels without labels: they tell latency and agreement, not accuracy",
    )
