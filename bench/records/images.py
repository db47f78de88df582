"""Records about images: which ones they are, and how they become a network's input."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from foldbench.bench.records.base import Record

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]

LOUD_SHARE = 0.01
"""Share of repeated images above which an accuracy is shown with a warning only."""


class Resize(Record):
    """How an image of any size becomes the square of pixels that a network takes.

    As it is by default, the image is scaled so that it covers the square, then cut at the centre.
    """

    model_config = ConfigDict(strict=True, use_attribute_docstrings=True)

    shorter_side: Annotated[int, Field(ge=8, le=4096)] | None = None
    """Scale so that the shorter side has this many pixels, then cut the square at the centre, as
    ImageNet networks are usually evaluated."""
    stretch: bool = False
    """Scale to the square without keeping the proportions, as the homework's code does."""
    interpolation: Interpolation = "bilinear"
    """How pixels are weighted, always with anti-aliasing."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.stretch and self.shorter_side is not None:
            raise ValueError("give either shorter_side or stretch: true, not both")
        return self


class Preprocessing(Record):
    """How a uint8 image becomes the network's input.

    Images of another size than (H, W) are made to fit as `resize` says. Then
    ``x = (pixels / 255 - mean) / std`` per channel, as (N, C, H, W) float32; C, H, W are
    `input_shape`.
    """

    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Resize = Resize()


class DataInfo(Record):
    """Which images were used, and what reading them cost."""

    name: str
    title: str
    """For people: what the images are, and whether they are a lossy copy."""
    path: str | None
    sha256: Sha256
    """Of the decoded pixels and labels of both splits; of the test split alone where the training
    images have a hash of their own."""
    train_count: int
    test_count: int
    classes: tuple[str, ...]
    original: bool
    """True for the data set's own files; False for a copy of them or for the user's own images."""
    decode_s: float
    """Seconds to decode and cache the images, or to map them when they were cached."""
    from_cache: bool
    test_files_sha256: Sha256 | None = None
    """Of names and labels of the test images in order, at whatever size they were decoded; None
    where images have no names."""
    tested_and_trained: int | None = None
    """Test images whose pixels are those of a training image; None in records from before it was
    counted."""
    of_two_classes: int | None = None
    """Images of both splits that are there under another class as well; None likewise."""
    train_sha256: Sha256 | None = None
    """Of the training images, where they are hashed apart and were decoded."""
    form: str | None = None
    """For people: in which form the images were found; None where a data set has but one."""
    labelled: bool = True
    """Whether the test images have labels; without them there is no accuracy."""
    preprocessed: bool = False
    """Whether the images are float32 arrays that the network is given as they are."""
    test_class_counts: tuple[int, ...] | None = None
    """Test images of each class; None without labels and in records from before it was counted."""
    skipped: dict[str, int] = Field(default_factory=dict)
    """Files that were skipped, counted by the reason."""
    class_mapping: str | None = None
    """For people: how the classes of the images were matched with the network's, where they are not
    the same in the same order."""

    @property
    def key(self) -> str:
        """What tells these images apart, those to train on included."""
        return f"{self.sha256}{self.train_sha256 or ''}"
