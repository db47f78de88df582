"""The test split as every contender is given it."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foldbench.bench.arrays import Labels
from foldbench.bench.config.comparison import EvaluateSection
from foldbench.bench.images.blocks import blocks_of, no_room, write_npy
from foldbench.bench.images.image_set import Split
from foldbench.bench.records import Protocol
from foldbench.bench.store.temporary import temporary_folder


@dataclass(frozen=True)
class Evaluation:
    """The test split as every contender is given it."""

    protocol: Protocol
    images: Path
    """(N, C, H, W) uint8 or float32 as .npy; every view of the split in turn, where there are
    several."""
    labels: Labels | None
    """(N,) int64; None where the images have no labels."""
    batch_size: int
    unlabelled: int = 0
    """How many test images there are, where they have no labels."""

    floats: bool = False
    """Whether the images are float32: the network's input as it is."""

    @property
    def count(self) -> int:
        """Test images, whatever the number of views."""
        return self.unlabelled if self.labels is None else len(self.labels)


def same_labels(a: Evaluation, b: Evaluation) -> bool:
    """Return whether as many images have the same labels, or none."""
    if a.labels is None or b.labels is None:
        return a.labels is b.labels and a.count == b.count
    return np.array_equal(a.labels, b.labels)


@contextmanager
def prepare_evaluation(settings: EvaluateSection, test: Split) -> Iterator[tuple[Evaluation, str]]:
    """Yield the test split as the evaluation protocol wants it, as a file, and its sha256.

    With ``mirror``, all mirror images come after all images. Images that are mapped from a file of
    their own and shown as they are are not copied: the file is linked to.
    """
    images: npt.NDArray[Any] = test.images
    if settings.protocol == "homework":
        import torch

        from foldbench.models.training.augment import flip_and_crop

        images = flip_and_crop(
            torch.tensor(images),
            flip=True,
            crop_padding=4,
            generator=torch.Generator().manual_seed(settings.seed),
        ).numpy()
    views = [images, images[..., ::-1]] if settings.mirror else [images]
    digest = hashlib.sha256()
    for block in _blocks(views):
        digest.update(block.data)
    if test.labels is not None:
        digest.update(np.ascontiguousarray(test.labels).data)
    with temporary_folder() as folder:
        path = folder / "images.npy"
        _put(views, path)
        evaluation = Evaluation(
            settings.protocol,
            path,
            test.labels,
            settings.batch_size,
            len(test),
            test.images.dtype == np.float32,
        )
        yield evaluation, digest.hexdigest()


def _blocks(views: Sequence[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
    return (block for view in views for block in blocks_of(view))


def _put(views: Sequence[npt.NDArray[Any]], path: Path) -> None:
    """Have the images at `path` as .npy: a link where they are all of such a file."""
    source = _whole_file(views[0]) if len(views) == 1 else None
    if source is not None:
        try:
            path.symlink_to(source)
            return
        except OSError:  # links are not to be had everywhere
            pass
    try:
        with path.open("wb") as stream:
            shape = sum(map(len, views)), *views[0].shape[1:]
            write_npy(stream, shape, views[0].dtype, _blocks(views))
    except OSError as error:
        raise no_room(sum(view.nbytes for view in views), path.parent, error) from error


def _whole_file(images: npt.NDArray[Any]) -> Path | None:
    """Return the .npy file that `images` are the whole array of, None where there is none."""
    if not isinstance(images, np.memmap) or not isinstance(images.base, mmap):
        return None
    source = Path(str(images.filename)).resolve()
    if source.suffix != ".npy":
        return None
    whole = np.load(source, mmap_mode="r", allow_pickle=False)
    same = (whole.shape, whole.dtype, whole.flags.c_contiguous) == (
        images.shape,
        images.dtype,
        True,
    )
    return source if same and whole.offset == images.offset else None
