"""What is done to a network of torchvision or timm so that another classifier can sit on it."""

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from timm.layers.padding import pad_same_arg
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from foldbench.bench.errors import ConfigError, one_line


def cut_classifier(module: nn.Module, name: str, pooled: bool) -> None:
    """Make `module` return its features instead of class scores; changes it in place.

    `pooled` features are what the last linear layer is given, (N, D). Otherwise they are the map
    before pooling. Raises ConfigError that calls the network `name` when it has no such place.
    """
    if hasattr(module, "reset_classifier"):  # timm
        try:
            module.reset_classifier(0, *([] if pooled else [""]))
        except (TypeError, ValueError, AttributeError, AssertionError) as error:
            raise ConfigError(
                f"timm cannot take the classifier off {name} with pooled: {str(pooled).lower()}: "
                f"{one_line(error, 120)}: choose another network"
            ) from error
        return
    linear = [n for n, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not linear or list(module.named_modules())[-1][0] != linear[-1]:
        raise ConfigError(
            f"{name} does not end in a linear layer, so it has no features to classify: "
            "choose another network"
        )
    _replace(module, linear[-1], nn.Identity())
    if not pooled:
        if not isinstance(getattr(module, "avgpool", None), nn.AdaptiveAvgPool2d):
            raise ConfigError(
                f"model.args.pooled: {name} has no average pooling to leave out: set it to true"
            )
        _replace(module, "avgpool", nn.Identity())


def fix_padding(module: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Give convolutions that pad by the size of their input the padding for `input_shape`.

    timm's TensorFlow-like convolutions compute it in every call, which hides the data flow from
    folding; an input of one size always needs the same. Changes `module` in place.
    """
    found: dict[nn.Module, list[int]] = {}

    def note(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        size = list(inputs[0].shape[-2:])
        conv: Conv2dSame = part  # type: ignore[assignment]
        found[part] = pad_same_arg(size, list(conv.kernel_size), conv.stride, conv.dilation)

    convolutions = [part for part in module.modules() if isinstance(part, Conv2dSame)]
    if not convolutions:
        return
    hooks = [part.register_forward_pre_hook(note) for part in convolutions]
    count_features(module, input_shape)
    for hook in hooks:
        hook.remove()
    for path, part in list(module.named_modules()):
        if part in found:
            _replace(module, path, _padded(part, found[part]))


def _padded(part: nn.Module, pad: list[int]) -> nn.Module:
    """Return the convolution `part` as one of torch's own that is given `pad` zeros around."""
    conv: Conv2dSame = part  # type: ignore[assignment]
    left, right, top, bottom = pad
    even = left == right and top == bottom
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        (top, left) if even else 0,
        conv.dilation,
        conv.groups,
        bias=conv.bias is not None,
    )
    plain.weight, plain.bias = conv.weight, conv.bias
    return plain if even else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), plain)


def normalise_each_image(module: nn.Module, name: str) -> None:
    """Make every BatchNorm use each image's own statistics; changes `module` in place.

    That is what a BatchNorm in train mode computes from one image at a time: mean and biased
    variance over height and width, so InstanceNorm with the same weight, bias and epsilon. Unlike
    train mode, it is the same at every batch size, in eval mode, and in an exported graph. Raises
    ConfigError for a BatchNorm of a kind that is not known to compute just that.
    """
    for path, part in list(module.named_modules()):
        if not isinstance(part, _BatchNorm):
            continue
        plain = type(part) is nn.BatchNorm2d
        if not plain and type(part) is not BatchNormAct2d:
            raise ConfigError(
                f"model.args.batchnorm: {path} of {name} is a {type(part).__name__}; per_image "
                "is for BatchNorm2d alone: use running"
            )
        norm = nn.InstanceNorm2d(part.num_features, part.eps, affine=part.affine)
        if part.affine:
            norm.weight, norm.bias = part.weight, part.bias
        after = [] if plain else [part.drop, part.act]
        _replace(module, path, nn.Sequential(norm, *after) if after else norm)


def count_features(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Return how many numbers `module` gives for one image of `input_shape`."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            return module(torch.zeros(1, *input_shape)).flatten(1).shape[1]
    finally:
        module.train(was_training)


def _replace(module: nn.Module, path: str, part: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, part)
