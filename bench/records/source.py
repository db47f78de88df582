"""Where a network comes from that is not one of foldbench's own."""

from typing import Literal

from pydantic import Field

from foldbench.bench.records.base import Record
from foldbench.bench.records.images import Sha256


class WeightsOrigin(Record):
    """The file of weights that a network was filled with, and how its names were resolved."""

    title: str
    """Its file name, or a library's name of the weights."""
    sha256: Sha256
    """Of the file, or of all tensors where a library keeps them."""
    key: str | None = None
    """Which of several dictionaries in it."""
    stripped: tuple[str, ...] = ()
    """What was removed from the beginning of names."""
    widened_from: str | None = None
    """Type of the stored weights, where it was another one."""


class Source(Record):
    """Where a network comes from."""

    form: Literal["code", "torchvision", "timm", "onnx", "program", "memory"]
    name: str
    """What to call it: ``MyNet``, ``resnet18``."""
    files: dict[str, Sha256] = Field(default={})
    """Source files of the user's that were imported to build it, by path; or the file itself."""
    revision: str | None = None
    """Of the git repository that they lie in."""
    weights: WeightsOrigin | None = None
    """None with random weights, and where the file itself holds them."""
    output: str | None = None
    """Which of its outputs are the logits; None where it has one."""
