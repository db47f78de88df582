"""The test split as every contender is given it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from foldbench.bench import units
from foldbench.bench.config.comparison import EvaluateSection
from foldbench.bench.errors import RunError
from foldbench.bench.images.image_set import Split
from foldbench.bench.records import Protocol
from foldbench.bench.store.temporary import temporary_folder


@dataclass(frozen=True)
class Evaluation:
    """The test split as every contender is given it."""

    protocol: Protocol
    images: Path
    """(N, C, H, W) uint8 as .npy; every view of the split in turn, where there are several."""
    labels: npt.NDArray[np.int64]
    """(N,) int64."""
    batch_size: int


@contextmanager
def prepare_evaluation(settings: EvaluateSection, test: Split) -> Iterator[tuple[Evaluation, str]]:
    """Yield the test split as the evaluation protocol wants it, as a file, and its sha256.

    With ``mirror``, all mirror images come after all images.
    """
    images = test.images
    if settings.protocol == "homework":
        import torch

        from foldbench.models.training.augment import flip_and_crop

        images = flip_and_crop(
            torch.tensor(images),
            flip=True,
            crop_padding=4,
            generator=torch.Generator().manual_seed(settings.seed),
        ).numpy()
    if settings.mirror:
        images = np.concatenate([images, images[..., ::-1]])
    images = np.ascontiguousarray(images)
    digest = hashlib.sha256(images.data)
    digest.update(np.ascontiguousarray(test.labels).data)
    with temporary_folder() as folder:
        path = folder / "images.npy"
        try:
            np.save(path, images, allow_pickle=False)
        except OSError as error:
            raise RunError(
                f"cannot write the {units.size(images.nbytes)} of test images to {folder}: "
                f"{error}: free space there, or name another place with TMPDIR"
            ) from error
        evaluation = Evaluation(settings.protocol, path, test.labels, settings.batch_size)
        yield evaluation, digest.hexdigest()
