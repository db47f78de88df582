"""What besides a BatchNorm after its layer is folded, what is not, and that the answers stay."""

import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from foldbench.bench.records import FoldReport
from foldbench.exporters.folding.fold import fold_linear


class Net(nn.Module):
    """Parts, and a function that says how they are called."""

    def __init__(self, flow: Callable[[nn.Module, Tensor], Tensor], **parts: nn.Module):
        super().__init__()
        self.flow = flow
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.flow(self, x)


class Scale(nn.Module):
    """Multiplies by a parameter of the given shape."""

    def __init__(self, *shape: int, inplace: bool = False):
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(shape))
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(self.gamma) if self.inplace else x * self.gamma


class Bordered(nn.Module):
    """A BatchNorm and around its output what it makes of zeros, or `value`."""

    def __init__(self, value: float | None = None):
        super().__init__()
        self.bn = bn()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        y, part = F.pad(self.bn(x), [1] * 4), self.bn
        slope = part.weight / torch.sqrt(part.running_var + part.eps)
        value = (part.bias - part.running_mean * slope).view(1, -1, 1, 1)
        value = value if self.value is None else self.value
        y[:, :, 0:1, :] = value
        y[:, :, -1:, :] = value
        y[..., 0:1] = value
        y[..., -1:] = value
        return y


class PaddedAbove(nn.Module):
    """Zeros around an image, and the first row of that assigned."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(x, [1] * 4)
        y[:, :, 0] = x.mean()
        return y


def diverse_branch(last: nn.Module, value: float | None = None) -> nn.Module:
    return nn.Sequential(conv(1, bias=False), Bordered(value), last, bn())


def made(build: Callable[[], nn.Module]) -> nn.Module:
    """Return the network in float64 and eval mode, with statistics that change a lot."""
    torch.manual_seed(0)
    network = build().double().eval()
    for part in network.modules():
        if isinstance(part, nn.LayerNorm):
            part.weight.data.normal_()
            part.bias.data.normal_()
        if isinstance(part, _BatchNorm | nn.InstanceNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.3, 2)
            if part.weight is not None:
                part.weight.data.normal_()
                part.bias.data.normal_()
    return network


@torch.no_grad()
def folded(network: nn.Module, *shape: int) -> tuple[nn.Module, FoldReport]:
    """Return what folding makes of `network`, which gives the same answers for another batch."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    result, report = fold_linear(network, x)
    other = torch.randn(3, *shape[1:], generator=generator, dtype=torch.float64)
    expected, found = network(other.clone()), result(other.clone())
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    return result, report


def calls(network: nn.Module) -> Counter[str]:
    """Return how often each kind of module, function or method is called."""
    assert isinstance(network, fx.GraphModule)
    names = []
    for node in network.graph.nodes:
        if node.op == "call_module":
            names.append(type(network.get_submodule(str(node.target))).__name__)
        elif node.op in ("call_function", "call_method"):
            names.append(getattr(node.target, "__name__", node.target))
    return Counter(names)


def conv(kernel: int | tuple[int, int] = 3, **options) -> nn.Conv2d:
    sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    return nn.Conv2d(4, 4, sides, padding=tuple(side // 2 for side in sides), **options)


def bn() -> nn.BatchNorm2d:
    return nn.BatchNorm2d(4)


def branches(*parts: nn.Module) -> nn.Module:
    """Return the sum of what all parts make of one input."""

    def flow(net: nn.Module, x: Tensor) -> Tensor:
        return sum(getattr(net, name)(x) for name in names)

    names = [f"part{n}" for n in range(len(parts))]
    return Net(flow, **dict(zip(names, parts, strict=True)))


def with_bn(layer: nn.Module) -> nn.Module:
    return nn.Sequential(layer, bn())


IMAGE = (2, 4, 9, 8)


@dataclass
class Case:
    build: Callable[[], nn.Module]
    kinds: dict[str, int]
    left: dict[str, int]
    shape: tuple[int, ...] = IMAGE


ONE_LAYER: dict[str, Case] = {
    "RepVGG": Case(
        lambda: branches(with_bn(conv()), with_bn(conv(1)), bn()), {"branches": 2}, {"Conv2d": 1}
    ),
    "ACNet": Case(
        lambda: branches(with_bn(conv()), with_bn(conv((1, 3))), with_bn(conv((3, 1)))),
        {"branches": 2},
        {"Conv2d": 1},
    ),
    "a Diverse Branch Block": Case(
        lambda: branches(
            with_bn(conv()),
            with_bn(conv(1)),
            diverse_branch(nn.Conv2d(4, 4, 3, bias=False)),
            diverse_branch(nn.AvgPool2d(3, 1)),
        ),
        {"branches": 3},
        {"Conv2d": 1},
    ),
    "a large and a small kernel by channel": Case(
        lambda: branches(conv(7, groups=4), conv(3, groups=4), nn.Identity()),
        {"branches": 2},
        {"Conv2d": 1},
    ),
    "a stride": Case(
        lambda: branches(conv(5, stride=2), conv(1, stride=2)), {"branches": 1}, {"Conv2d": 1}
    ),
    "a dilation and the input": Case(
        lambda: branches(nn.Conv2d(4, 4, 3, padding=2, dilation=2), nn.Identity()),
        {"branches": 1},
        {"Conv2d": 1},
    ),
    "one dimension": Case(
        lambda: branches(nn.Conv1d(4, 6, 3, padding=1), nn.Conv1d(4, 6, 1)),
        {"branches": 1},
        {"Conv1d": 1},
        (2, 4, 9),
    ),
    "channels in groups into a dense one": Case(
        lambda: branches(conv(), conv(groups=2), conv(groups=4)), {"branches": 2}, {"Conv2d": 1}
    ),
    "a difference and a scale": Case(
        lambda: Net(
            lambda net, x: x + net.scale(net.mixer(x) - net.norm(x)),
            mixer=with_bn(conv(groups=4)),
            norm=bn(),
            scale=Scale(4, 1, 1),
        ),
        {"branches": 2, "scale": 1},
        {"Conv2d": 1},
    ),
    "the same layer twice": Case(
        lambda: Net(lambda net, x: net.conv(x) + net.conv(x), conv=conv()),
        {"branches": 1},
        {"Conv2d": 1},
    ),
    "reflected borders in both": Case(
        lambda: branches(conv(padding_mode="reflect"), conv(padding_mode="reflect")),
        {"branches": 1},
        {"Conv2d": 1},
    ),
    "averaged logits": Case(
        lambda: Net(lambda net, x: (net.a(x) + net.b(x)) / 2, a=nn.Linear(4, 3), b=nn.Linear(4, 3)),
        {"branches": 1, "scale": 1},
        {"Linear": 1},
        (2, 4),
    ),
    "an average of stacked logits": Case(
        lambda: Net(
            lambda net, x: torch.stack([head(x) for head in net.heads]).mean(0),
            heads=nn.ModuleList(nn.Linear(4, 3) for _ in range(3)),
        ),
        {"branches": 2},
        {"Linear": 1},
        (2, 4),
    ),
    "a temperature": Case(
        lambda: Net(lambda net, x: net.head(x) / 1.5, head=nn.Linear(4, 3)),
        {"scale": 1},
        {"Linear": 1},
        (2, 4),
    ),
    "LayerScale in place": Case(
        lambda: nn.Sequential(nn.Linear(5, 5), Scale(5, inplace=True)),
        {"scale": 1},
        {"Linear": 1},
        (2, 4, 5),
    ),
    "a scale before zeros around it": Case(
        lambda: nn.Sequential(Scale(4, 1, 1), conv()), {"scale": 1}, {"Conv2d": 1}
    ),
    "a BatchNorm before a layer without zeros": Case(
        lambda: nn.Sequential(bn(), nn.Conv2d(4, 6, 3, groups=2)), {}, {"Conv2d": 1}
    ),
    "a BatchNorm before reflected borders": Case(
        lambda: nn.Sequential(bn(), conv(padding_mode="reflect")), {}, {"Conv2d": 1}
    ),
    "mean and std before patches": Case(
        lambda: Net(lambda net, x: net.patch((x - 0.4) / 0.2), patch=nn.Conv2d(4, 6, 4, stride=4)),
        {"scale": 2},
        {"Conv2d": 1},
    ),
    "InstanceNorm with running statistics": Case(
        lambda: nn.Sequential(nn.InstanceNorm2d(4, track_running_stats=True), nn.Conv2d(4, 5, 3)),
        {},
        {"Conv2d": 1},
    ),
    "an expansion and back": Case(
        lambda: nn.Sequential(nn.Linear(4, 16), nn.Linear(16, 4)),
        {"chain": 1},
        {"Linear": 1},
        (2, 4),
    ),
    "1x1 without a bias before 3x3": Case(
        lambda: nn.Sequential(nn.Conv2d(4, 12, 1, bias=False), nn.Conv2d(12, 4, 3, padding=1)),
        {"chain": 1},
        {"Conv2d": 1},
    ),
    "3x3 before 1x1": Case(
        lambda: nn.Sequential(nn.Conv2d(4, 12, 3, padding=1), nn.Conv2d(12, 4, 1, stride=2)),
        {"chain": 1},
        {"Conv2d": 1},
    ),
    "nothing reads it": Case(
        lambda: Net(lambda net, x: (net.unused(x), net.conv(x))[1], unused=conv(), conv=conv()),
        {"unused": 1},
        {"Conv2d": 1},
    ),
    "a BatchNorm after the places were laid into the batch": Case(
        lambda: Net(
            lambda net, x: net.bn((y := net.fc(x)).flatten(0, 1)).reshape_as(y),
            fc=nn.Linear(5, 4),
            bn=nn.BatchNorm1d(4),
        ),
        {},
        {"Linear": 1, "flatten": 1, "reshape_as": 1},
        (2, 7, 5),
    ),
    "a BatchNorm after a transposition": Case(
        lambda: Net(
            lambda net, x: net.bn(net.fc(x).transpose(1, 2)),
            fc=nn.Linear(5, 4),
            bn=nn.BatchNorm1d(4),
        ),
        {},
        {"Linear": 1, "transpose": 1},
        (2, 7, 5),
    ),
    "a BatchNorm of features laid out as a map": Case(
        lambda: Net(
            lambda net, x: net.bn(net.fc(x).view(x.shape[0], 4, 2, 3)), fc=nn.Linear(5, 24), bn=bn()
        ),
        {},
        {"Linear": 1, "view": 1, "getattr": 1, "getitem": 1},
        (2, 5),
    ),
    "a BatchNorm before a map is laid out for a linear layer": Case(
        lambda: nn.Sequential(bn(), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 72, 3)),
        {},
        {"Linear": 1, "Flatten": 1},
    ),
}


@pytest.mark.parametrize("name", ONE_LAYER)
def test_what_is_linear_becomes_one_layer(name: str) -> None:
    case = ONE_LAYER[name]
    network, report = folded(made(case.build), *case.shape)
    assert Counter(other.kind for other in report.others) == case.kinds
    assert calls(network) == case.left
    assert (report.batchnorms_after, report.skipped) == (0, ())
    assert report.cost_before is not None
    assert report.cost_after is not None
    assert report.cost_after.flops_per_image <= report.cost_before.flops_per_image


def test_flops_and_parameters_are_counted_before_and_after() -> None:
    _, report = folded(made(lambda: branches(conv(), conv(1))), 2, 4, 5, 6)
    before, after = report.cost_before, report.cost_after
    assert before is not None
    assert after is not None
    assert before.flops_per_image == 2 * 30 * (16 * 9 + 16)
    assert after.flops_per_image == 2 * 30 * 16 * 9
    assert (before.parameters, after.parameters) == (16 * 9 + 4 + 16 + 4, 16 * 9 + 4)


def hooked(part: nn.Module) -> nn.Module:
    part.register_forward_hook(lambda part, args, out: out * 2)
    return part


def changed_between(net: nn.Module, x: Tensor) -> Tensor:
    y = x.exp()
    first = net.a(y)
    F.relu_(y)
    return first + net.b(y)


def changed_through_a_view(net: nn.Module, x: Tensor) -> Tensor:
    y = x.exp()
    first = net.a(y)
    y.view(-1).neg_()
    return first + net.b(y)


def added_to_what_others_read(net: nn.Module, x: Tensor) -> Tensor:
    y = x.exp()
    z = y
    z += net.a(y)
    return y * net.b(z)


NORMALISED: dict[str, Callable[[], nn.Module]] = {
    "LayerNorm": lambda: nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 4)),
    "layer_norm": lambda: Net(
        lambda net, x: net.fc(F.layer_norm(x, (5,), net.norm.weight, net.norm.bias)),
        norm=nn.LayerNorm(5),
        fc=nn.Linear(5, 4),
    ),
    "two readers": lambda: Net(
        lambda net, x: net.a(y := net.norm(x)) * net.b(y),
        norm=nn.LayerNorm(5),
        a=nn.Linear(5, 3),
        b=nn.Linear(5, 3),
    ),
    "called twice": lambda: Net(
        lambda net, x: net.fc(net.norm(x)) * net.norm(x)[..., :4],
        norm=nn.LayerNorm(5),
        fc=nn.Linear(5, 4),
    ),
}


@pytest.mark.parametrize("name", NORMALISED)
def test_weight_and_bias_of_a_layer_norm_go_into_the_layers_that_read_it(name: str) -> None:
    network, report = folded(made(NORMALISED[name]), 2, 7, 5)
    assert {other.kind for other in report.others} == {"scale"}
    names = {key.rpartition(".")[2] for key in network.state_dict() if "norm" in key or "0." in key}
    assert names == ({"weight", "bias"} if name == "called twice" else set())
    _, second = folded(network, 2, 7, 5)
    assert second.others == ()


STAYS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "more multiplications": (
        lambda: branches(conv((1, 3)), conv((3, 1))), "branches", "multiplications would replace"
    ),
    "strides differ": (
        lambda: branches(conv(3, stride=2), nn.Conv2d(4, 4, 1, stride=(2, 3), padding=(0, 1))),
        "branches",
        "strides",
    ),
    "dilations differ": (
        lambda: branches(conv(), nn.Conv2d(4, 4, 3, padding=2, dilation=2)),
        "branches",
        "dilations",
    ),
    "reflected borders beside zeros": (
        lambda: branches(conv(), conv(5, padding_mode="reflect")), "branches", "not zeros in both"
    ),
    "changed in place between": (
        lambda: Net(changed_between, a=conv(), b=conv(1)), "branches", "changed in place"
    ),
    "changed through a view between": (
        lambda: Net(changed_through_a_view, a=conv(), b=conv(1)), "branches", "changed in place"
    ),
    "a bias before zeros": (
        lambda: nn.Sequential(nn.Conv2d(4, 12, 1), nn.Conv2d(12, 4, 3, padding=1)),
        "chain",
        "it has a bias",
    ),
    "a shift before zeros": (
        lambda: nn.Sequential(bn(), conv()), "batchnorm", "before zeros are put around it"
    ),
    "other numbers around a BatchNorm": (
        lambda: branches(conv(), diverse_branch(nn.Conv2d(4, 4, 3), 0.3)),
        "branches",
        "other numbers are put around",
    ),
    "a pool over shifted borders": (
        lambda: branches(conv(), nn.Sequential(with_bn(conv(1)), nn.AvgPool2d(3, 1, 1))),
        "branches",
        "it has a bias",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STAYS)
def test_what_would_be_wrong_or_dearer_stays_with_a_reason(name: str) -> None:
    build, kind, reason = STAYS[name]
    shape = (2, 4, 9, 1) if name == "strides differ" else IMAGE
    _, report = folded(made(build), *shape)
    skips = [skip for skip in report.skipped if skip.kind == kind]
    assert skips
    assert all(reason in skip.reason and "\n" not in skip.reason for skip in skips)
    assert not [other for other in report.others if other.kind == kind]


UNTOUCHED: dict[str, Callable[[], nn.Module]] = {
    "a hook on a branch": lambda: branches(hooked(conv()), conv()),
    "an activation in a branch": lambda: branches(nn.Sequential(conv(), nn.ReLU()), conv()),
    "other inputs": lambda: Net(lambda net, x: net.a(x) + net.b(x + 1), a=conv(), b=conv()),
    "a scale for each place": lambda: nn.Sequential(conv(), Scale(9, 8)),
    "a scale for each image": lambda: nn.Sequential(conv(), Scale(3, 1, 1, 1)),
    "a narrow waist": lambda: nn.Sequential(nn.Conv2d(4, 1, 1), nn.Conv2d(1, 4, 1)),
    "two readers": lambda: Net(
        lambda net, x: (y := net.a(x)) * net.b(y), a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 4, 1)
    ),
    "added in place to what others read": lambda: Net(
        added_to_what_others_read, a=conv(), b=conv()
    ),
    "a LayerNorm that a product reads, too": lambda: Net(
        lambda net, x: (y := net.norm(x)) * net.fc(y), norm=nn.LayerNorm(8), fc=nn.Linear(8, 8)
    ),
    "a LayerNorm before a layer without a bias": lambda: nn.Sequential(
        nn.LayerNorm(8), nn.Linear(8, 4, bias=False)
    ),
    "rows of a border that are assigned": lambda: branches(
        conv(), nn.Sequential(PaddedAbove(), nn.Conv2d(4, 4, 3))
    ),
    "a sum of other shapes": lambda: Net(
        lambda net, x: net.a(x) + net.b(x),
        a=nn.Conv2d(4, 4, 3, padding=1),
        b=nn.Conv2d(4, 1, 1),
    ),
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_is_not_linear_is_left_alone(name: str) -> None:
    shape = (3, *IMAGE[1:])
    _, report = folded(made(UNTOUCHED[name]), *shape)
    assert (report.folded, report.others) == ((), ())


@torch.no_grad()
def test_branches_are_summed_in_float64_and_rounded_once() -> None:
    torch.manual_seed(0)
    parts = [conv(bias=False) for _ in range(2)]
    parts[1].weight.copy_(1 / 3 - 1e4 * parts[0].weight)
    parts[0].weight.mul_(1e4)
    exact = parts[0].weight.double() + parts[1].weight.double()
    network, _ = fold_linear(branches(*parts).eval(), torch.randn(IMAGE))
    (layer,) = (part for part in network.modules() if isinstance(part, nn.Conv2d))
    assert torch.equal(layer.weight.double(), exact.float().double())


def test_only_scales_are_folded_where_that_is_asked_for() -> None:
    network = made(lambda: branches(with_bn(conv()), conv(1)))
    _, report = fold_linear(network, torch.randn(IMAGE, dtype=torch.float64), batchnorm_alone=True)
    assert ([fold.batchnorm for fold in report.folded], report.others) == (["part0.1"], ())


class Counting(nn.Module):
    """Adds how often it has been called, which it counts in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.block = with_bn(conv())
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.block(x) + self.calls


@torch.no_grad()
def test_a_network_that_counts_its_calls_begins_where_the_given_one_stands() -> None:
    network = made(Counting)
    x = torch.randn(IMAGE, dtype=torch.float64)
    result, _ = fold_linear(network, x)
    torch.testing.assert_close(result(x), network(x), rtol=1e-11, atol=1e-11)


def test_a_network_of_inference_mode_is_folded() -> None:
    with torch.inference_mode():
        network = made(lambda: branches(with_bn(conv()), conv(1)))
        _, report = folded(network, *IMAGE)
    assert report.batchnorms_after == 0


# --- random networks


@st.composite
def _blocks(draw: st.DrawFn) -> nn.Module:
    """Return a sum, a scale, a layer or a chain of such, from 4 channels to 4 of the same size."""
    depth = draw(st.integers(1, 3))
    return nn.Sequential(*(draw(_block()) for _ in range(depth)))


@st.composite
def _layer(draw: st.DrawFn) -> nn.Module:
    kernel = (draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([1, 3])))
    groups, bias = draw(st.sampled_from([1, 2, 4])), draw(st.booleans())
    layer = conv(kernel, groups=groups, bias=bias)
    return with_bn(layer) if draw(st.booleans()) else layer


@st.composite
def _block(draw: st.DrawFn) -> nn.Module:
    simple = st.one_of(
        _layer(),
        st.builds(bn),
        st.builds(nn.Identity),
        st.builds(Scale, st.just(4), st.just(1), st.just(1)),
    )
    if draw(st.booleans()):
        return draw(st.one_of(simple, st.builds(nn.ReLU)))
    parts = draw(
        st.lists(
            st.one_of(simple, st.builds(nn.Sequential, _layer(), simple)), min_size=2, max_size=4
        )
    )
    return branches(*parts)


@settings(max_examples=6, deadline=None)
@given(_blocks())
def test_random_networks_compute_the_same(network: nn.Module) -> None:
    result, report = folded(made(lambda: network), *IMAGE)
    assert len({fold.batchnorm for fold in report.folded}) == len(report.folded)
    again, second = folded(result, *IMAGE)
    assert (second.folded, second.others) == ((), ())
    assert operator.is_not(again, result)
