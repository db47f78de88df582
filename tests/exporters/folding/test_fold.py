import copy
import re
from collections.abc import Callable
from dataclasses import dataclass

import onnx
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from timm.layers import BatchNormAct2d
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from foldbench.bench.errors import ExportError
from foldbench.bench.records import FoldReport
from foldbench.exporters.folding.fold import count_batchnorms, fold_linear


@dataclass
class Case:
    build: Callable[[], nn.Module]
    folded: int
    reasons: tuple[str, ...]
    shape: tuple[int, ...]


CASES: dict[str, Case] = {}


def case(folded: int, *reasons: str, shape: tuple[int, ...] = (3, 4, 9, 8)) -> Callable:
    """Add a network to the table: how many BatchNorms fold, and why each of the others does not."""

    def add(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        CASES[build.__name__] = Case(build, folded, reasons, shape)
        return build

    return add


def made(build: Callable[[], nn.Module]) -> nn.Module:
    """Return the network in eval mode, its BatchNorms with numbers that change their input a lot.

    Every call gives the same weights.
    """
    torch.manual_seed(0)
    network = build().eval()
    for part in network.modules():
        if isinstance(part, _BatchNorm):
            if part.running_mean is not None:
                part.running_mean.normal_()
                part.running_var.uniform_(0.3, 2)
            if part.affine:
                part.weight.data.normal_()
                part.bias.data.normal_()
    return network


def assert_agrees(got: Tensor, exact: Tensor, tolerance: float = 1e-5) -> None:
    assert got.shape == exact.shape
    assert exact.abs().max() > 0
    assert (got.double() - exact).abs().max() <= tolerance * exact.abs().max()


class Net(nn.Module):
    """Parts, and a function that says how they are called."""

    def __init__(self, flow: Callable[[nn.Module, Tensor], Tensor], **parts: nn.Module):
        super().__init__()
        self.flow = flow
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.flow(self, x)


def conv(**options) -> nn.Conv2d:
    return nn.Conv2d(4, 4, 3, padding=1, **options)


def bn(**options) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(4, **options)


# --- what folds


@case(1, shape=(3, 4, 9))
def conv1d():
    return nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6))


@case(1)
def conv2d():
    return nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU())


@case(1, shape=(2, 4, 5, 6, 5))
def conv3d():
    return nn.Sequential(nn.Conv3d(4, 6, 3, stride=2), nn.BatchNorm3d(6))


@case(1)
def conv_without_bias():
    return nn.Sequential(conv(bias=False), bn())


@case(1)
def grouped_conv():
    return nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6))


@case(1)
def depthwise_conv():
    return nn.Sequential(nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.BatchNorm2d(8))


@case(1)
def conv_with_batchnorm_without_affine_weights():
    return nn.Sequential(conv(), bn(affine=False))


@case(1)
def conv_with_reflected_border():
    return nn.Sequential(conv(padding_mode="reflect"), bn())


@case(1, shape=(3, 4))
def linear():
    return nn.Sequential(nn.Linear(4, 7), nn.BatchNorm1d(7))


@case(1, shape=(3, 4))
def linear_without_bias_and_affine_weights():
    return nn.Sequential(nn.Linear(4, 7, bias=False), nn.BatchNorm1d(7, affine=False))


@case(1, shape=(3, 4, 9))
def transposed_conv1d():
    return nn.Sequential(nn.ConvTranspose1d(4, 6, 3, stride=2), nn.BatchNorm1d(6))


@case(1)
def transposed_conv2d():
    return nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2), nn.BatchNorm2d(6))


@case(1)
def grouped_transposed_conv2d():
    return nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6))


@case(1, shape=(2, 6, 4, 4, 4))
def grouped_transposed_conv3d():
    return nn.Sequential(nn.ConvTranspose3d(6, 9, 2, groups=3), nn.BatchNorm3d(9))


@case(1)
def transposed_conv_called_with_an_output_size():
    parts = {"conv": nn.ConvTranspose2d(4, 4, 3, stride=2), "bn": bn()}
    return Net(lambda net, x: net.bn(net.conv(x, output_size=[20, 18])), **parts)


@case(1)
def synchronised_batchnorm():
    return nn.Sequential(conv(), nn.SyncBatchNorm(4))


@case(1)
def dropout_and_identity_between():
    return nn.Sequential(conv(), nn.Dropout(), nn.Identity(), nn.Dropout2d(), bn())


@case(1)
def dropout_function_between():
    return Net(
        lambda net, x: net.bn(F.dropout(net.conv(x), 0.5, training=net.training)),
        conv=conv(),
        bn=bn(),
    )


@case(2)
def two_batchnorms_after_each_other():
    return nn.Sequential(conv(), bn(), bn(), nn.ReLU())


@case(2)
def activation_function_between_two_pairs():
    return Net(
        lambda net, x: net.bn2(net.conv2(F.relu_(net.bn1(net.conv1(x))))),
        conv1=conv(),
        bn1=bn(),
        conv2=conv(),
        bn2=bn(),
    )


@case(1)
def parts_defined_in_another_order_than_called():
    return Net(lambda net, x: net.bn(net.conv(x)), bn=bn(), other=conv(), conv=conv())


@case(2)
def shared_conv_with_two_batchnorms():
    return Net(
        lambda net, x: net.bn1(net.conv(x)) * net.bn2(net.conv(x + 1)),
        conv=conv(),
        bn1=bn(),
        bn2=bn(),
    )


@case(2)
def shared_pair_called_twice():
    return Net(lambda net, x: net.pair(net.pair(x)), pair=nn.Sequential(conv(), bn()))


@case(2)
def two_convs_that_share_a_batchnorm():
    return Net(
        lambda net, x: net.bn(net.conv1(x)) * net.bn(net.conv2(x)),
        conv1=conv(),
        conv2=conv(),
        bn=bn(),
    )


@case(1)
def conv_called_with_and_without_batchnorm():
    return Net(lambda net, x: net.bn(net.conv(x)) * net.conv(x + 1), conv=conv(), bn=bn())


@case(1)
def conv_whose_weight_is_also_read():
    parts = {"conv": conv(), "bn": bn()}
    return Net(lambda net, x: net.bn(net.conv(x)) + net.conv.weight.sum(), **parts)


@case(1)
def conv_inside_a_container_that_is_also_called_whole_with_a_hook():
    container = nn.Sequential(conv())
    container.register_forward_hook(lambda part, args, out: out * 2)
    parts = {"container": container, "bn": bn()}
    return Net(lambda net, x: net.bn(net.container[0](x)) + net.container(x), **parts)


@case(2)
def weights_tied_between_two_convs():
    first, second = conv(), conv()
    second.weight = first.weight
    return nn.Sequential(first, bn(), second, bn())


@case(1)
def shape_of_the_conv_output_read():
    def flow(net, x):
        y = net.conv(x)
        return net.bn(y).reshape(y.shape[0], y.size(1), -1)

    return Net(flow, conv=conv(), bn=bn())


@case(2)
def residual_after_the_batchnorm():
    return Net(
        lambda net, x: net.b(x) + net.bn(net.conv(x)),
        b=nn.Sequential(conv(), bn()),
        conv=conv(),
        bn=bn(),
    )


@case(1)
def batchnorm_called_with_a_keyword():
    return Net(lambda net, x: net.bn(input=net.conv(input=x)), conv=conv(), bn=bn())


class FunctionalNorm(nn.Module):
    def __init__(self, training: bool = False):
        super().__init__()
        self.conv, self.hard_coded = conv(), training
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("var", torch.rand(4) + 0.5)
        self.gamma = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        training = self.training or self.hard_coded
        return F.batch_norm(x, self.mean, self.var, self.gamma, training=training, eps=1e-3)


@case(1)
def batchnorm_as_a_function():
    return FunctionalNorm()


@case(1)
def batchnorm_as_torch_function():
    return Net(
        lambda net, x: torch.batch_norm(
            net.conv(x),
            net.bn.weight,
            None,
            net.bn.running_mean,
            net.bn.running_var,
            False,
            0.1,
            1e-5,
            False,
        ),
        conv=conv(),
        bn=bn(),
    )


class ActiveNorm(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(super().forward(input))


@case(1)
def subclass_of_batchnorm_with_an_activation():
    return nn.Sequential(conv(), ActiveNorm(4), nn.Tanh())


@case(1)
def batchnorm_with_activation_of_timm():
    return nn.Sequential(conv(), BatchNormAct2d(4), nn.Tanh())


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = conv(), bn()

    def forward(self, x: Tensor, mask: Tensor | None = None, scale: int = 2) -> Tensor:
        if mask is not None:
            x = x * mask
        return self.bn(self.conv(x)) * scale


@case(1)
def further_arguments_with_defaults():
    return Masked()


# --- what stays


@case(0, "Conv2d '0' is used 2 times (", shape=(2, 4, 6, 6))
def conv_output_also_used_by_a_residual():
    def flow(net, x):
        y = net[0](x)
        return y + net[1](y)

    class Residual(nn.Sequential):
        def forward(self, x):
            return flow(self, x)

    return Residual(conv(), bn())


@case(0, "used 2 times", "used 2 times")
def two_batchnorms_beside_each_other():
    def flow(net, x):
        y = net.conv(x)
        return net.bn1(y) * net.bn2(y)

    return Net(flow, conv=conv(), bn1=bn(), bn2=bn())


@case(0, "used 2 times (BatchNorm2d 'bn', relu_())")
def conv_output_changed_in_place():
    def flow(net, x):
        y = net.conv(x)
        z = net.bn(y)
        F.relu_(y)
        return z

    return Net(flow, conv=conv(), bn=bn())


@case(0, "used 2 times")
def dropout_output_used_twice():
    def flow(net, x):
        y = net.drop(net.conv(x))
        return y + net.bn(y)

    return Net(flow, conv=conv(), drop=nn.Dropout(), bn=bn())


@case(0, "it follows AvgPool2d '1'; only a Conv")
def pool_between():
    return nn.Sequential(conv(), nn.AvgPool2d(2), bn())


@case(0, "it follows ReLU '1'")
def activation_between():
    return nn.Sequential(conv(), nn.ReLU(), bn())


@case(0, "it follows relu(); only")
def activation_function_between():
    return Net(lambda net, x: net.bn(F.relu(net.conv(x))), conv=conv(), bn=bn())


@case(0, "it follows the network's input")
def batchnorm_before_activation_and_conv():
    return nn.Sequential(bn(), nn.ReLU(), conv())


@case(0, "before Conv2d '1': it shifts its input before zeros are put around it")
def batchnorm_before_conv():
    return nn.Sequential(bn(), conv())


@case(1, shape=(3, 4))
def batchnorm_before_linear():
    return nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 5))


@case(0, "it follows relu()")
def pre_activation_block():
    def flow(net, x):
        return x + net.conv2(F.relu(net.bn(F.relu(net.conv1(x)))))

    return Net(flow, conv1=conv(), bn=bn(), conv2=conv())


@case(0, "gives 3 dimensions here, so the channels (dimension 1)", shape=(3, 5, 5))
def linear_over_the_last_of_three_dimensions():
    return nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5))


@case(0, "gives 3 dimensions here, not 4", shape=(4, 6, 6))
def conv_on_an_image_without_batch_dimension():
    return nn.Sequential(conv(), nn.BatchNorm1d(6))


@case(0, "it normalises by each batch also in eval mode")
def batchnorm_without_running_statistics():
    return nn.Sequential(conv(), bn(track_running_stats=False))


@case(0, "it normalises by each batch also in eval mode")
def function_that_always_normalises_by_the_batch():
    return FunctionalNorm(training=True)


@case(1)
def function_with_a_computed_weight():
    def flow(net, x):
        b = net.bn
        return F.batch_norm(net.conv(x), b.running_mean, b.running_var, b.weight.abs(), b.bias)

    return Net(flow, conv=conv(), bn=bn())


def double(part, args, out):
    return out * 2


@case(0, "Conv2d '0' carries the forward hook double")
def forward_hook_on_the_conv():
    network = nn.Sequential(conv(), bn())
    network[0].register_forward_hook(double)
    return network


@case(0, "it carries the forward hook double")
def forward_hook_on_the_batchnorm():
    network = nn.Sequential(conv(), bn())
    network[1].register_forward_hook(double)
    return network


@case(0, "carries the backward hook")
def backward_hook_on_the_conv():
    network = nn.Sequential(conv(), bn())
    network[0].register_full_backward_hook(lambda part, inward, outward: None)
    return network


@case(0, "it follows Dropout '1', which carries the forward hook double")
def forward_hook_on_the_dropout_between():
    network = nn.Sequential(conv(), nn.Dropout(), bn())
    network[1].register_forward_hook(double)
    return network


@case(1, "inside Sequential '0', which is left whole: it carries the forward hook double")
def forward_hook_on_a_block():
    network = nn.Sequential(nn.Sequential(conv(), bn()), conv(), bn())
    network[0].register_forward_hook(double)
    return network


@case(0, "the network itself carries the forward hook double")
def forward_hook_on_the_network():
    network = nn.Sequential(conv(), bn())
    network.register_forward_hook(double)
    return network


@case(0, "'0' had its forward method replaced")
def replaced_forward_method():
    network = nn.Sequential(conv(), bn())
    network[0].forward = torch.sin
    return network


@case(1)
def weight_norm_as_parametrisation():
    return nn.Sequential(parametrizations.weight_norm(conv()), bn())


@case(1)
def spectral_norm_as_parametrisation():
    return nn.Sequential(parametrizations.spectral_norm(conv()), bn())


@case(1)
def weight_norm_as_hook():
    return nn.Sequential(weight_norm(conv()), bn())


@case(1)
def spectral_norm_as_hook():
    return nn.Sequential(spectral_norm(conv()), bn())


@case(1)
def pruned_conv():
    return nn.Sequential(prune.l1_unstructured(conv(), "weight", 0.5), bn())


@case(0, "the weight of Conv2d '0' is no plain parameter")
def weight_that_is_no_parameter():
    layer = conv()
    weight = layer.weight.detach()
    del layer.weight
    layer.register_buffer("weight", weight)
    return nn.Sequential(layer, bn())


class Standardised(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight - self.weight.mean(), self.bias)


@case(1)
def subclass_of_conv():
    return nn.Sequential(Standardised(4, 4, 3), bn())


@case(1)
def conv_as_a_function():
    return Net(lambda net, x: net.bn(F.conv2d(x, net.conv.weight)), conv=conv(), bn=bn())


@case(1)
def linear_as_a_function():
    def flow(net, x):
        return net.bn(F.linear(x.flatten(1), net.layer.weight.tanh(), bias=net.layer.bias))

    return Net(flow, layer=nn.Linear(288, 5), bn=nn.BatchNorm1d(5))


@case(0, "it follows conv2d(); only")
def weight_that_is_random():
    def flow(net, x):
        return net.bn(F.conv2d(x, 0 * F.dropout(net.conv.weight) + net.conv.weight))

    return Net(flow, conv=conv(), bn=bn())


@case(1)
def instance_norm_with_running_statistics():
    return nn.Sequential(conv(), eventful(nn.InstanceNorm2d(4, track_running_stats=True)))


@case(1)
def frozen_batchnorm():
    return nn.Sequential(conv(), eventful(torchvision.ops.FrozenBatchNorm2d(4)))


def eventful(norm: nn.Module) -> nn.Module:
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.3, 2)
    return norm


@case(1)
def flattened_map_of_one_place():
    return nn.Sequential(nn.Conv2d(4, 6, (9, 8)), nn.Flatten(), nn.BatchNorm1d(6))


@case(0, "it follows Flatten '1'")
def flattened_map_of_several_places():
    return nn.Sequential(nn.Conv2d(4, 3, (9, 7)), nn.Flatten(), nn.BatchNorm1d(6))


@case(1)
def places_in_one_dimension():
    return Net(lambda net, x: net.bn(net.conv(x).flatten(2)), conv=conv(), bn=nn.BatchNorm1d(4))


class ChecksShapes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = conv(), bn()

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        n, c, *sides = x.shape
        assert (len(sides), c) == (2, 4)
        x = self.bn(self.conv(x)) if x.ndim == 4 else x
        return x.view(n, -1) * len(sides) if int(sides[0] / 2) < 8 else x


@case(1)
def code_that_branches_on_shapes():
    return ChecksShapes()


class Hidden(ActiveNorm):
    pass


@case(0, "it carries the forward hook double")
def subclass_of_batchnorm_with_a_hook():
    network = nn.Sequential(conv(), Hidden(4))
    network[1].register_forward_hook(double)
    return network


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = conv(), bn()

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) if x.sum() > 0 else self.conv(x)


@case(0, "torch.fx cannot trace it, so its data flow is unknown: symbolically traced variables")
def control_flow_that_depends_on_data():
    return Branching()


class Deceptive(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = conv(), bn()

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) if isinstance(x, Tensor) else self.conv(x) + 1


@case(0, "its trace by torch.fx does not compute the same")
def control_flow_that_tracing_gets_wrong():
    return Deceptive()


@case(0)
def no_batchnorm_at_all():
    return nn.Sequential(conv(), nn.ReLU())


# --- the table


@dataclass(frozen=True)
class Folded:
    """A network of the table and what folding made of it."""

    entry: Case
    given: nn.Module
    before: dict[str, object]
    network: nn.Module
    report: FoldReport


@pytest.fixture(scope="module", params=list(CASES))
def found(request: pytest.FixtureRequest) -> Folded:
    entry = CASES[request.param]
    given = made(entry.build)
    before = snapshot(given)
    with torch.no_grad():
        return Folded(entry, given, before, *fold_linear(given, image(entry.shape)))


def image(shape: tuple[int, ...], seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
@torch.no_grad()
def test_each_kind_of_network_folds_or_stays_and_computes_the_same(found: Folded) -> None:
    entry, folded, report = found.entry, found.network, found.report
    assert len(report.folded) == entry.folded
    skipped = [skip for skip in report.skipped if skip.kind == "batchnorm"]
    assert len(skipped) == len(entry.reasons)
    for skip, reason in zip(skipped, entry.reasons, strict=True):
        assert reason in skip.reason
        assert "\n" not in skip.reason
    assert report.batchnorms_after == report.batchnorms_before - entry.folded
    assert report.agreement is None
    assert not any(part.training for part in folded.modules())
    changed = bool(report.folded or report.others)
    assert isinstance(folded, fx.GraphModule) == changed
    x = image((entry.shape[0] + 2 * (len(entry.shape) != 3), *entry.shape[1:]), seed=2)
    assert_agrees(folded(x), made(entry.build).double()(x.double()))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
@torch.no_grad()
def test_folding_again_finds_nothing_more_to_fold(found: Folded) -> None:
    x = image(found.entry.shape)
    once, first = found.network, found.report
    twice, second = fold_linear(once, x)
    assert second.folded == ()
    assert second.batchnorms_before == second.batchnorms_after == first.batchnorms_after
    assert len(second.skipped) == len(first.skipped)
    assert torch.equal(once(x), twice(x))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
def test_the_given_network_is_left_exactly_as_it_was(found: Folded) -> None:
    before, after = found.before, snapshot(found.given)
    assert before.keys() == after.keys()
    for name, value in before.items():
        same = (
            torch.equal(value, after[name]) if isinstance(value, Tensor) else value == after[name]
        )
        assert same, name
    with torch.no_grad():
        found.given(image(found.entry.shape))


def snapshot(network: nn.Module) -> dict[str, object]:
    """Return all tensors, flags, hooks and attributes of a network."""
    values: dict[str, object] = {}
    for path, part in network.named_modules(remove_duplicate=False):
        values[f"{path}:type"] = type(part)
        for name, value in vars(part).items():
            values[f"{path}:{name}"] = dict(value) if isinstance(value, dict) else value
            if isinstance(value, Tensor):
                values[f"{path}:{name}"] = value.detach().clone()
    for name, tensor in network.state_dict(keep_vars=True).items():
        values[f"{name}:identity"] = id(tensor)
        values[f"{name}:value"] = tensor.detach().clone()
        values[f"{name}:grad"] = tensor.requires_grad
    return values


# --- single properties


def fold(network: nn.Module, *shape: int) -> tuple[nn.Module, FoldReport]:
    return fold_linear(network, image(shape or (3, 4, 9, 8)))


def test_a_folded_layer_keeps_its_name_and_the_batchnorm_leaves_the_state() -> None:
    network = made(lambda: nn.Sequential(nn.Sequential(conv(bias=False), bn()), nn.ReLU()))
    folded, report = fold(network)
    assert [(f.layer, f.batchnorm) for f in report.folded] == [("0.0", "0.1")]
    assert set(folded.state_dict()) == {"0.0.weight", "0.0.bias"}


def test_calls_of_a_shared_layer_get_copies_of_their_own() -> None:
    folded, report = fold(made(conv_called_with_and_without_batchnorm))
    assert [(f.layer, f.batchnorm) for f in report.folded] == [("conv", "bn")]
    assert set(folded.state_dict()) == {
        f"{name}.{kind}" for name in ("conv", "conv_folded") for kind in ("weight", "bias")
    }


def test_names_of_copies_never_meet_a_name_that_is_taken() -> None:
    def build() -> nn.Module:
        def flow(net, x):
            return net.bn(net.conv(x)) * net.bn(net.conv(x.exp())) + net.conv_folded(x)

        return Net(flow, conv=conv(), bn=bn(), conv_folded=conv())

    folded, report = fold(made(build))
    assert [f.layer for f in report.folded] == ["conv", "conv"]
    x = image((2, 4, 7, 7))
    assert_agrees(folded(x), made(build).double()(x.double()))
    names = {name.partition(".")[0] for name in folded.state_dict()}
    assert names == {"conv_folded", "conv_folded2", "conv_folded3"}


def test_a_second_batchnorm_is_reported_with_the_layer_that_took_in_both() -> None:
    _, report = fold(made(two_batchnorms_after_each_other))
    assert [(f.layer, f.batchnorm) for f in report.folded] == [("0", "1"), ("0", "2")]


def test_a_network_in_train_mode_is_skipped_with_the_advice_to_call_eval() -> None:
    network = made(conv2d).train()
    folded, report = fold(network)
    assert report.folded == ()
    assert ".eval()" in report.skipped[0].reason
    assert network.training
    assert network[1].num_batches_tracked == 0
    assert torch.equal(folded(image((3, 4, 9, 8))), network.eval()(image((3, 4, 9, 8))))


@pytest.mark.parametrize("build", [batchnorm_as_a_function, batchnorm_with_activation_of_timm])
def test_a_batchnorm_function_in_train_mode_is_skipped_too(build: Callable) -> None:
    _, report = fold(made(build).train())
    assert report.folded == ()
    assert "train mode" in report.skipped[0].reason


def test_one_batchnorm_in_train_mode_does_not_keep_the_others_from_folding() -> None:
    network = made(lambda: nn.Sequential(conv(), bn(), conv(), bn()))
    network[1].train()
    _, report = fold(network)
    assert [f.batchnorm for f in report.folded] == ["3"]
    assert [s.module for s in report.skipped] == ["1"]


@pytest.mark.parametrize("build", [dropout_and_identity_between, dropout_function_between])
def test_dropout_in_train_mode_blocks_folding(build: Callable) -> None:
    network = made(build).train()
    for part in network.modules():
        if isinstance(part, _BatchNorm):
            part.eval()
    _, report = fold(network)
    assert report.folded == ()
    assert "ropout" in report.skipped[0].reason
    assert "train mode" in report.skipped[0].reason


def test_dropout_that_is_always_on_blocks_folding() -> None:
    network = made(lambda: Net(lambda n, x: n.bn(F.dropout(n.conv(x))), conv=conv(), bn=bn()))
    _, report = fold(network)
    assert "it follows dropout(); only" in report.skipped[0].reason


def test_a_scale_that_is_not_finite_is_refused_with_its_numbers() -> None:
    network = made(lambda: nn.Sequential(conv(), bn(eps=0)))
    network[1].running_var[2] = 0
    try:
        network(image((3, 4, 9, 8)))
    except ValueError as error:
        pytest.skip(f"this torch runs no such BatchNorm: {error}")
    _, report = fold(network)
    assert report.folded == ()
    assert re.search(r"torch\.float32: .* variance is 0, eps is 0$", report.skipped[0].reason)


def test_a_negative_variance_is_refused_with_its_numbers() -> None:
    network = made(lambda: nn.Sequential(conv(), bn()))
    network[1].running_var[2] = -1
    _, report = fold(network)
    assert report.folded == ()
    assert re.search(r"torch\.float32: .* variance is -1, eps is 1e-05", report.skipped[0].reason)


def test_weights_too_large_for_the_dtype_are_refused() -> None:
    network = made(lambda: nn.Sequential(conv(), bn(eps=1e-12))).half()
    network[1].running_var.fill_(1e-7)
    network[1].weight.data.fill_(6e4)
    folded, report = fold_linear(network, image((2, 4, 5, 5)).half())
    assert "not finite in torch.float16" in report.skipped[0].reason
    assert not isinstance(folded, fx.GraphModule)


def test_lazy_layers_without_weights_are_an_error_that_says_what_to_do() -> None:
    network = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d()).eval()
    with pytest.raises(ExportError, match="a batch first"):
        fold(network)
    assert network[0].has_uninitialized_params()
    network(image((3, 4, 9, 8)))
    _, report = fold(network)
    assert report.batchnorms_after == 0


def test_channels_that_do_not_fit_are_an_error_that_names_the_shape() -> None:
    network = nn.Sequential(conv(), nn.BatchNorm2d(5)).eval()
    with pytest.raises(ExportError, match=r"shape \(3, 4, 9, 8\)"):
        fold(network)
    with pytest.raises(ExportError, match="does not run"):
        count_batchnorms(network, image((3, 4, 9, 8)))


def test_a_block_that_is_left_whole_still_checks_its_input() -> None:
    network = made(lambda: nn.Sequential(nn.Sequential(ActiveNorm(4)), conv(), bn()))
    network[0].register_forward_hook(double)
    folded, report = fold(network)
    assert len(report.folded) == 1
    with pytest.raises(ValueError, match="expected 4D input"):
        folded(image((4, 4, 9)))


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.bfloat16, 0.03)])
def test_dtypes_other_than_float32_are_kept(dtype: torch.dtype, tolerance: float) -> None:
    network = made(two_batchnorms_after_each_other).to(dtype)
    x = image((4, 4, 9, 8)).to(dtype)
    folded, report = fold_linear(network, x)
    assert len(report.folded) == 2
    assert {tensor.dtype for tensor in folded.state_dict().values()} == {dtype}
    assert_agrees(folded(x), network.double()(x.double()), tolerance)


@torch.no_grad()
def test_weights_are_computed_in_float64() -> None:
    network = made(lambda: nn.Sequential(nn.Linear(4, 64), nn.BatchNorm1d(64)))
    layer, norm = network
    norm.running_mean.add_(1e3)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    norm.bias.copy_(norm.running_mean * scale + 1e-2 * torch.randn(64))
    folded, _ = fold(network, 3, 4)
    careless = nn.utils.fusion.fuse_linear_bn_eval(layer, norm)
    exact = nn.utils.fusion.fuse_linear_bn_eval(
        copy.deepcopy(layer).double(), copy.deepcopy(norm).double()
    )
    ours = getattr(folded, "0")

    def error(bias: Tensor) -> float:
        return ((bias - exact.bias).abs().max() / exact.bias.abs().max()).item()

    assert error(ours.bias) < 1e-7
    assert error(careless.bias) > 1e-6


@torch.no_grad()
def test_a_large_mean_is_cancelled_better_than_by_the_unfolded_network() -> None:
    def build() -> nn.Module:
        network = nn.Sequential(conv(), bn())
        network[0].bias.data.fill_(1e3)
        return network

    def centred() -> nn.Module:
        network = made(build)
        network[1].running_mean.fill_(1e3)
        return network

    x = image((3, 4, 9, 8))
    exact = centred().double()(x.double())
    folded, _ = fold(centred())
    error = (folded(x) - exact).abs().max()
    assert error < (centred()(x) - exact).abs().max() / 10


def test_weights_stay_trainable_or_frozen() -> None:
    network = made(lambda: nn.Sequential(conv(), bn(), conv(), bn()))
    network[0].requires_grad_(False)
    folded, _ = fold(network)
    assert [p.requires_grad for p in folded.parameters()] == [False, False, True, True]


@torch.no_grad()
def test_the_folded_network_can_be_copied_saved_and_laid_out_anew() -> None:
    folded, _ = fold(made(activation_function_between_two_pairs))
    x = image((3, 4, 9, 8))
    assert torch.equal(copy.deepcopy(folded)(x), folded(x))
    twin, _ = fold(made(activation_function_between_two_pairs))
    twin.load_state_dict(from_safetensors(to_safetensors(folded.state_dict())))
    assert torch.equal(twin(x), folded(x))
    exact = folded(x).double()
    last = folded.to(memory_format=torch.channels_last)
    assert_agrees(last(x.to(memory_format=torch.channels_last)), exact)


@torch.no_grad()
def test_channels_last_weights_stay_channels_last() -> None:
    network = made(conv2d).to(memory_format=torch.channels_last)
    folded, _ = fold(network)
    weight = folded.state_dict()["0.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_folded_network_exports_without_batchnorm_nodes() -> None:
    def build() -> nn.Module:
        body = [conv(bias=False), BatchNormAct2d(4), conv(), nn.Dropout(), bn(), nn.Flatten()]
        return nn.Sequential(*body, nn.Linear(4 * 9 * 8, 5), nn.BatchNorm1d(5))

    folded, report = fold(made(build))
    assert report.batchnorms_after == 0
    program = torch.onnx.export(
        folded,
        (image((3, 4, 9, 8)),),
        dynamo=True,
        optimize=False,
        external_data=False,
        verbose=False,
        dynamic_shapes=({0: torch.export.Dim("n")},),
    )
    nodes = [node.op_type for node in program.model_proto.graph.node]
    assert nodes.count("Conv") == 2
    assert "BatchNormalization" not in nodes
    onnx.checker.check_model(program.model_proto)


def test_batchnorms_are_counted_by_calls_and_without_a_trace_by_modules() -> None:
    x = image((3, 4, 9, 8))
    assert count_batchnorms(made(shared_pair_called_twice), x) == 2
    assert count_batchnorms(made(batchnorm_as_a_function), x) == 1
    assert count_batchnorms(made(forward_hook_on_a_block), x) == 2
    assert count_batchnorms(made(control_flow_that_depends_on_data), x) == 1
    assert count_batchnorms(made(no_batchnorm_at_all), x) == 0
    unused = made(lambda: Net(lambda net, x: net.conv(x), conv=conv(), bn=bn()))
    assert count_batchnorms(unused, x) == 0


# --- networks that people use


@torch.no_grad()
@pytest.mark.parametrize(
    "build",
    [
        lambda: torchvision.models.resnet18(num_classes=7),
        lambda: torchvision.models.mobilenet_v3_small(num_classes=7),
        lambda: timm.create_model("efficientnet_lite0", num_classes=7),
    ],
    ids=["resnet18", "mobilenetv3", "efficientnet_lite0"],
)
def test_published_networks_fold_completely(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network = build()
    x = torch.randn(4, 3, 64, 64)
    for _ in range(3):
        network(torch.randn(4, 3, 64, 64))
    network.eval()
    folded, report = fold_linear(network, x)
    assert report.skipped == ()
    assert report.batchnorms_after == 0
    assert report.batchnorms_before == sum(isinstance(m, _BatchNorm) for m in network.modules())
    assert not any(isinstance(m, _BatchNorm) for m in folded.modules())
    assert_agrees(folded(x), network.double()(x.double()))


@torch.no_grad()
def test_densenet_keeps_the_batchnorms_that_come_before_their_conv() -> None:
    torch.manual_seed(0)
    network = timm.create_model("densenet121", num_classes=3).eval()
    x = torch.randn(2, 3, 32, 32)
    folded, report = fold_linear(network, x)
    assert report.batchnorms_before == 121
    assert 0 < len(report.folded) < 121
    assert all("it follows" in skip.reason for skip in report.skipped)
    assert_agrees(folded(x), network.double()(x.double()))
