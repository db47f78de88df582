"""The section data: which images, and how they become input."""

from typing import Annotated, Literal

from pydantic import Field

from foldbench.bench.config.base import ConfigSection, Positive, Seed
from foldbench.bench.records import Resize

Channels = tuple[float, float, float]


class DataSection(ConfigSection):
    """Which images, and how they become the network's input."""

    name: str = "cifar10"
    """File name in bench/datasets/, see `bench list`."""
    path: Annotated[str, Field(min_length=1)] | None = None
    """Where the images are: a folder or a .tar[.xz|.gz|.bz2] file, by the data set."""
    download: bool = False
    """Whether missing files may be fetched from the data set's own place."""
    image_size: Annotated[int, Field(ge=8, le=1024)] = 32
    """Height and width of the network's input, pixels."""
    mean: Channels = (0.5, 0.5, 0.5)
    """Subtracted from each channel after scaling to 0..1."""
    std: tuple[
        Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
    ] = (0.5, 0.5, 0.5)
    """Divides each channel after that."""
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
    subset: Positive | None = None
    """How many training images to train on, drawn at random with the seed; all by default."""
