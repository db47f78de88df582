"""Images that are brought into the network's form batch by batch, so that few are in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from foldbench.bench.arrays import Floats, Labels, Pixels

BATCH = 64


@dataclass(frozen=True)
class LabelledImages:
    """Images as they are stored, and how each becomes an input."""

    pixels: Pixels
    """(N, C, H, W) uint8."""
    labels: Labels
    """(N,) int64."""
    preprocess: Callable[[Pixels], Floats]

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self) -> Iterator[Floats]:
        """Yield inputs (n, C, H, W) float32, n at most BATCH, in order."""
        for start in range(0, len(self), BATCH):
            yield self.preprocess(self.pixels[start : start + BATCH])

    def first(self, count: int) -> "LabelledImages":
        """Return the first `count` of them."""
        return LabelledImages(self.pixels[:count], self.labels[:count], self.preprocess)
