"""The sections model and transfer: which network, and features of a pretrained one."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from foldbench.bench.config.base import ConfigSection, Positive
from foldbench.bench.user_code.source import parse_source


class ModelSection(ConfigSection):
    """Which network: one of foldbench's own by `name`, or anybody's by `from`."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: str | None = None
    """File name in models/, see `bench list`."""
    source: str | None = Field(default=None, alias="from")
    """A network of your own: FILE.py:NAME, PACKAGE.MODULE:NAME, torchvision:NAME, timm:NAME,
    FILE.onnx or FILE.pt2."""
    args: dict[str, Any] = Field(default={})
    """Arguments of the model's build function, or of the class or function that `from` names."""
    weights: str | None = None
    """With `from`: a file of trained weights, a name of torchvision's, default or none. A network
    with weights needs no training; trained all the same, it starts from them."""
    weights_key: str | None = None
    """Which of several dictionaries in the file of weights, such as ema."""
    strip_prefix: str | None = None
    """What to remove from the beginning of each weight's name, such as model."""
    classes: int | str | None = None
    """With `from`: how many classes, or a text file with a name on each line."""
    output: str | None = None
    """Which output of the network holds the logits: a name, or a number from 0."""
    download: bool = False
    """Whether the library may fetch weights that are not in its cache."""

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        if (self.name is None) == (self.source is None):
            raise ValueError("give either name or from")
        given = [key for key in _OF_SOURCE if getattr(self, key) != _default_of(key)]
        if self.name is not None and given:
            raise ValueError(f"{given[0]} belongs to a network that is named with from")
        if isinstance(self.classes, int) and not 1 <= self.classes <= MOST_CLASSES:
            raise ValueError(f"classes: found {self.classes}; allowed: 1 to {MOST_CLASSES}")
        if self.source is not None:
            parse_source(self.source)
        return self

    @property
    def network(self) -> str:
        """What records call it: its name, or where it comes from."""
        return str(self.source) if self.name is None else self.name


MOST_CLASSES = 1_000_000
_OF_SOURCE = ("weights", "weights_key", "strip_prefix", "classes", "output", "download")


def _default_of(key: str) -> Any:
    return ModelSection.model_fields[key].default


class TransferSection(ConfigSection):
    """A linear layer on the features of a pretrained network, which stay as they are.

    For model pretrained. The section train says how the linear layer is trained.
    """

    weights: str = "default"
    """default, a name of torchvision's such as IMAGENET1K_V1, the path of a file, or
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
    """Take features with random layers skipped and dropout, as the homework's code did, which
    never called eval()."""
    batch_size: Positive = 32
    """Images at a time while features are taken."""
