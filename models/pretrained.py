"""Any network of torchvision or timm as frozen features with one linear layer on them.

The weights are no part of the arguments: `bench train` loads those that ``transfer.weights`` names,
and a finished run holds its own.
"""

from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.nn.functional import normalize

from foldbench.models.zoo.backbone import (
    count_features,
    cut_classifier,
    fix_padding,
    normalise_each_image,
)
from foldbench.models.zoo.networks import (
    Weights,
    ZooLibrary,
    ZooNetwork,
    create,
    fill,
    find_network,
)

VERSION = 1
"""Raised whenever the same arguments give other parameters or another function."""

BatchNorm = Literal["running", "per_image"]
_ARCH = "resnet18"


class FeatureClassifier(nn.Module):
    """(N, C, H, W) float32 -> (N, classes) float32 logits; H and W are fixed at construction.

    The backbone's features, flattened, of length 1 each where `l2_normalise` says so, then a linear
    layer.
    """

    def __init__(self, backbone: nn.Module, features: int, classes: int, l2_normalise: bool):
        super().__init__()
        self.backbone = backbone
        self.l2_normalise = l2_normalise
        self.head = nn.Linear(features, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return what the linear layer is given, (N, D) float32."""
        found = self.backbone(x).flatten(1)
        return normalize(found, dim=1) if self.l2_normalise else found

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.features(x))


def build(
    *,
    classes: int,
    input_shape: tuple[int, int, int],
    source: ZooLibrary | None = None,
    arch: str = _ARCH,
    pooled: bool = True,
    l2_normalise: bool = True,
    batchnorm: BatchNorm = "running",
) -> nn.Module:
    """Return the network `arch` of `source` with random weights and a new linear layer.

    `pooled`: features are averaged over the image. `batchnorm`: ``per_image`` normalises each image
    by its own statistics, as a BatchNorm in train mode does with one image at a time; ``running``
    uses those of the pretraining. Raises UnknownNameError for an unknown network, ConfigError for
    one that cannot be used so.
    """
    network = choose_network(source, arch)
    return _attach(
        create(network),
        network,
        classes=classes,
        input_shape=input_shape,
        pooled=pooled,
        l2_normalise=l2_normalise,
        batchnorm=batchnorm,
    )


def build_filled(
    *,
    weights: str,
    download: bool,
    classes: int,
    input_shape: tuple[int, int, int],
    source: ZooLibrary | None = None,
    arch: str = _ARCH,
    **args: Any,
) -> tuple[FeatureClassifier, ZooNetwork, Weights]:
    """Return what `build` returns, with pretrained `weights`; its architecture; which weights.

    Raises CheckpointError for weights that are not there, may not be fetched, or do not belong to
    the network, and whatever `build` raises.
    """
    network = choose_network(source, arch)
    backbone = create(network)
    filled = fill(backbone, network, weights, download)
    module = _attach(backbone, network, classes=classes, input_shape=input_shape, **args)
    return module, network, filled


def choose_network(source: ZooLibrary | None = None, arch: str = _ARCH) -> ZooNetwork:
    """Return the network that these arguments name; raise UnknownNameError when there is none."""
    return find_network(f"{source}:{arch}" if source else arch)


def _attach(
    backbone: nn.Module,
    network: ZooNetwork,
    *,
    classes: int,
    input_shape: tuple[int, int, int],
    pooled: bool = True,
    l2_normalise: bool = True,
    batchnorm: BatchNorm = "running",
) -> FeatureClassifier:
    """Return `backbone`, the whole `network` with its weights, with a new linear layer.

    `backbone` becomes part of the result and is changed. The arguments are those of `build`.
    """
    if batchnorm not in get_args(BatchNorm):
        raise ValueError(f"batchnorm is {batchnorm!r}; allowed: {', '.join(get_args(BatchNorm))}")
    cut_classifier(backbone, network.name, pooled)
    fix_padding(backbone, input_shape)
    if batchnorm == "per_image":
        normalise_each_image(backbone, network.name)
    features = count_features(backbone, input_shape)
    return FeatureClassifier(backbone, features, classes, l2_normalise)
