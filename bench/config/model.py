"""The sections model and transfer: which network, and features of a pretrained one."""

from typing import Annotated, Any, Literal

from pydantic import Field

from foldbench.bench.config.base import ConfigSection, Positive


class ModelSection(ConfigSection):
    """Which network."""

    name: str
    """File name in models/, see `bench list`."""
    args: dict[str, Any] = Field(default={})
    """Arguments of the model's build function besides the classes and the input shape."""


class TransferSection(ConfigSection):
    """A linear layer on the features of a pretrained network, which stay as they are.

    For model pretrained. The section train says how the linear layer is trained.
    """

    weights: str = "default"
    """default, a name of torchvision's such as IMAGENET1K_V1, a path to a .safetensors file, or
    none: random weights, with which only the latency means something."""
    download: bool = False
    """Whether the library may fetch weights that are not in its cache."""
    classifier: Literal["logistic", "adam"] = "logistic"
    """logistic: scikit-learn's LogisticRegression, the regularisation chosen on the share
    train.validation_fraction of the training images. adam: train.epochs of gradient descent; under
    train.protocol homework always in the same order."""
    candidates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (
        0.1,
        1.0,
        10.0,
        100.0,
        1000.0,
        10000.0,
    )
    """Values of scikit-learn's C to choose from: larger is less regularised."""
    stochastic_depth: bool = False
    """Take features with random layers left out and dropout, as the homework's code did, which
    never called eval()."""
    batch_size: Positive = 32
    """Images at a time while features are taken."""
