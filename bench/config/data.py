"""The section data: which images, and how they become input."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from foldbench.bench.config.base import ConfigSection, Positive, Seed
from foldbench.bench.records import Resize

_LEAST_SIDE, _LARGEST_SIDE = 8, 4096


def _check_size(value: Any) -> Any:
    """Return a height and width, as one number where they are the same."""
    sides = list(value) if isinstance(value, list | tuple) else [value, value]
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if not whole or len(sides) != 2 or not all(_LEAST_SIDE <= s <= _LARGEST_SIDE for s in sides):
        raise ValueError(
            f"found {value!r}; allowed: a whole number of pixels from {_LEAST_SIDE} to "
            f"{_LARGEST_SIDE}, or two of them, [height, width]"
        )
    return sides[0] if sides[0] == sides[1] else tuple(sides)


ImageSize = Annotated[int | tuple[int, int], BeforeValidator(_check_size)]
PerChannel = Annotated[tuple[float, ...], Field(min_length=1, validate_default=True)]


class DataSection(ConfigSection):
    """Which images, and how they become the network's input."""

    name: str = "cifar10"
    """File name in `bench/datasets/`, see `bench list`."""
    path: Annotated[str, Field(min_length=1)] | None = None
    """Where the images are: a folder, an archive or another file, by the data set. In a file it is
    relative to the file's folder."""
    download: bool = False
    """Whether missing files may be fetched from the data set's own place."""
    image_size: ImageSize = 32
    """Height and width of the network's input, pixels: one number, or [height, width]."""
    channels: Annotated[int, Field(ge=1, le=1024)] = 3
    """Channels of the network's input: 3 is RGB, 1 is grey; other numbers are for arrays."""
    mean: PerChannel = (0.5, 0.5, 0.5)
    """Subtracted from each channel after scaling to 0..1. One number is for every channel."""
    std: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, validate_default=True)
    ] = (0.5, 0.5, 0.5)
    """Divides each channel after that. One number is for every channel."""
    resize: Resize = Resize()
    """How images of another size are made to fit."""
    preprocessing: Literal["config", "weights"] = "config"
    """config: image_size, mean, std and resize as they stand here. weights: as the pretrained
    weights were evaluated; `bench train` fills them in."""
    label_pattern: str | None = None
    """Regular expression for the start of a file's name with one group around the class, for data
    sets that are named like that (flat, oxford_pets); by default the data set's own."""
    split: Literal["auto", "random", "stratified"] = "auto"
    """How flat and oxford_pets are split. auto: the published split, a stratified one where there
    is none. random and stratified: drawn with split_seed."""
    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Share of the images to test on, of a split that is drawn."""
    split_seed: Seed = 42
    """Of the random draws of splits and samples."""
    subset: Positive | None = None
    """How many training images to train on, drawn at random with the seed; all by default."""
    test_subset: Positive | None = None
    """How many test images to measure on: a stratified sample drawn with split_seed; all by
    default."""
    calibration_path: Annotated[str, Field(min_length=1)] | None = None
    """Where the images are that a lower precision is made with, for data without a training split:
    what data.path can be, with the same classes."""
    calibration_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of each class of the test images that is used for that in their place, and then not
    tested on."""
    skip_bad: bool = False
    """Skip and count image files that cannot be read, in place of refusing them all."""

    @field_validator("mean", "std")
    @classmethod
    def _one_for_each_channel(
        cls, value: tuple[float, ...], info: ValidationInfo
    ) -> tuple[float, ...]:
        """Return as many entries as channels; one that is the same for all is repeated."""
        channels = info.data.get("channels", len(value))
        if len(set(value)) == 1:
            return (value[0],) * channels
        if len(value) != channels:
            raise ValueError(
                f"found {len(value)} values, and data.channels is {channels}: give {channels}, "
                "or one that is for every channel"
            )
        return value
