"""Normalisations by the names that configurations use.

Each takes features (N, C, H, W), or (N, C) where `spatial` is false, and has two parameters a
channel: a scale and a shift. They differ in what mean and variance are taken over:

| kind     | features of | channels     | places |
|----------|-------------|--------------|--------|
| batch    | the batch   | one          | all    |
| layer    | one image   | all          | all    |
| group    | one image   | one group's  | all    |
| instance | one image   | one          | all    |
"""

from collections.abc import Callable

from torch import nn

NormOf = Callable[..., nn.Module]
"""Gives the normalisation of so many channels; takes `spatial` as `make_norm` does."""

KINDS = ("batch", "layer", "instance", "group", "none")


def make_norm(kind: str, channels: int, *, groups: int, spatial: bool = True) -> nn.Module:
    """Return the normalisation `kind` of `channels` channels.

    `groups` is for ``group`` alone (Y. Wu, K. He, Group normalization, 2018). Layer and instance
    normalisation of images are its ends, one group and a group for each channel; ``instance`` has
    nothing to average over where features have no places, and leaves those as they are, as ``none``
    does everywhere. Raises ValueError for another kind, or groups that do not divide the channels.
    """
    match kind:
        case "batch":
            return nn.BatchNorm2d(channels) if spatial else nn.BatchNorm1d(channels)
        case "layer":
            return nn.GroupNorm(1, channels)
        case "group":
            if groups < 1:
                raise ValueError(f"groups is {groups}; allowed: 1 and more")
            return nn.GroupNorm(groups, channels)
        case "instance":
            return nn.InstanceNorm2d(channels, affine=True) if spatial else nn.Identity()
        case "none":
            return nn.Identity()
        case _:
            raise ValueError(f"norm {kind!r} is unknown (known: {', '.join(KINDS)})")
