"""Any network of torchvision or timm as frozen features with one linear layer on them.

The weights are no part of the arguments: `bench train` loads those that ``transfer.weights`` names,
and a finished run holds its own.
"""

from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn.functional import normalize

from models._backbone import count_features, cut_classifier, fix_padding, normalise_each_image
from models._zoo import Network, Source, create, find_network

BatchNorm = Literal["running", "per_image"]


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
    source: Source | None = None,
    arch: str = "resnet18",
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
    network = find_network(f"{source}:{arch}" if source else arch)
    backbone = create(network)
    return attach(
        backbone,
        network,
        classes=classes,
        input_shape=input_shape,
        pooled=pooled,
        l2_normalise=l2_normalise,
        batchnorm=batchnorm,
    )


def attach(
    backbone: nn.Module,
    network: Network,
    *,
    classes: int,
    input_shape: tuple[int, int, int],
    pooled: bool,
    l2_normalise: bool,
    batchnorm: BatchNorm,
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
