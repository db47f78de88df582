"""The test images that a stored comparison was made on, found again."""

from collections.abc import Sequence
from pathlib import Path

from foldbench.bench.config.files import from_dict
from foldbench.bench.datasets import Split
from foldbench.bench.errors import RunError
from foldbench.bench.images.loading import load_data
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Run


def load_scored(
    run: Run, overrides: Sequence[str], cache: Path, listener: ProgressListener
) -> Split:
    """Return the test split that `run` was compared on, as it lies in the data set.

    `overrides` may say where the data set is now. Raises RunError when the images that are found
    are others.
    """
    config = from_dict(run.config, overrides, f"{run.name}/results.json")
    found = load_data(config.data, cache, listener)
    if found.info.sha256 != run.data.sha256:
        raise RunError(
            f"{found.info.title} ({found.info.path or found.info.name}) does not hold the images "
            f"that {run.name} was compared on ({run.data.title}): give their place with --data"
        )
    return found.test
