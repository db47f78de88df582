"""What a network learns from: images on the device, in batches drawn and changed for each epoch.

Every random choice of an epoch follows from the seed and the epoch's number alone, so training that
was killed and started again reaches the weights that it would have reached without.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from foldbench.bench.config.training import TrainSection
from foldbench.bench.images.image_set import Split
from foldbench.bench.records import Preprocessing
from foldbench.models.training.augment import cut_mix, cut_out, flip_and_crop, normalise, toss_coins
from foldbench.models.training.device import layout
from foldbench.models.training.process_group import ProcessGroup

COINS, STATISTICS = 1, 2
"""Random choices that belong to the whole training, or to the end of an epoch."""

_STATISTICS_IMAGES = 10_000
"""Training images that the BatchNorm statistics of averaged weights are taken over, at most."""


@dataclass(frozen=True)
class HeldImages:
    """A split on the device, with what normalises it."""

    images: Tensor
    """(N, C, H, W) uint8."""
    labels: Tensor
    """(N,) int64."""
    mean: Tensor
    std: Tensor
    """(C, 1, 1) float32."""

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, rows: slice) -> Tensor:
        """Return images as the network takes them, (N, C, H, W) float32, unchanged otherwise."""
        return normalise(self.images[rows], self.mean, self.std)


def hold(split: Split, preprocessing: Preprocessing, device: torch.device) -> HeldImages:
    """Return a split copied to `device`."""
    return HeldImages(
        images=torch.tensor(split.images, device=device),
        labels=torch.tensor(split.require_labels(), device=device),
        mean=torch.tensor(preprocessing.mean, device=device)[:, None, None],
        std=torch.tensor(preprocessing.std, device=device)[:, None, None],
    )


class TrainingBatches:
    """The batches of one training, the same in every process of a group."""

    def __init__(
        self, held: HeldImages, settings: TrainSection, process_group: ProcessGroup, seed: int
    ) -> None:
        self._held = held
        self._settings = settings
        self._seed = seed
        self._least = 2 * process_group.size * settings.micro_batches
        alternating = settings.augment.flip and settings.augment.alternating_flip
        self._coins = toss_coins(len(held), draw_seed(seed, 0, COINS)) if alternating else None

    def draw(self, generator: torch.Generator) -> list[Tensor]:
        """Return the images of each batch of an epoch, (N,) int64 on the CPU."""
        size = self._settings.batch_size
        return list(split_batches(len(self._held), size, generator, self._least))

    def augmented(
        self, indices: Tensor, epoch: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Return the images of a batch as the network is given them while it learns.

        And, where they get boxes of one another, what each kept of itself (see `cut_mix`).
        """
        augment = self._settings.augment
        mirrored = None
        if self._coins is not None:
            mirrored = self._coins[indices] ^ (epoch % 2 == 0)
        held = self._held
        pixels = flip_and_crop(
            held.images[indices.to(held.images.device)],
            flip=augment.flip,
            crop_padding=augment.crop_padding,
            generator=generator,
            mirrored=mirrored,
            reflect=augment.crop_edge == "reflect",
        )
        inputs = normalise(pixels, held.mean, held.std)
        if augment.cutout:
            inputs = cut_out(inputs, augment.cutout, generator)
        kept = None
        if augment.cutmix:
            inputs, kept = cut_mix(inputs, augment.cutmix, generator)
        return inputs.contiguous(memory_format=layout(self._settings)), kept

    def for_statistics(self, epoch: int) -> Iterator[Tensor]:
        """Yield training images as in training, in an order of their own."""
        generator = torch.Generator().manual_seed(draw_seed(self._seed, epoch, STATISTICS))
        most = max(1, _STATISTICS_IMAGES // self._settings.batch_size)
        for indices in islice(self.draw(generator), most):
            yield self.augmented(indices, epoch, generator)[0]


def draw_seed(*key: int, rank: int = 0) -> int:
    """Return a seed for torch that belongs to `key` and `rank`, and to no others.

    Rank 0 draws what a process that trains alone draws.
    """
    spawn_key = (rank,) if rank else ()
    (value,) = np.random.SeedSequence(key, spawn_key=spawn_key).generate_state(1, np.uint64)
    return int(value >> 1)


def seed_epoch(seed: int, epoch: int) -> torch.Generator:
    """Return the epoch's own CPU generator; seed torch's global one (for dropout) alike."""
    value = draw_seed(seed, epoch)
    torch.manual_seed(value)
    return torch.Generator().manual_seed(value)


def split_batches(
    count: int, size: int, generator: torch.Generator, least: int = 2
) -> Iterator[Tensor]:
    """Yield every index from 0 to `count` - 1 once, shuffled, in batches of `size`.

    The last batch may be smaller. One of fewer than `least` images joins the batch before it, since
    BatchNorm cannot train on a single value.
    """
    batches = list(torch.randperm(count, generator=generator).split(size))
    if len(batches) > 1 and len(batches[-1]) < least:
        batches[-2:] = [torch.cat(batches[-2:])]
    yield from batches
