"""What a network of anybody's keeps to, and what is said of one that does not.

Each network here stands for a kind that public reports are about: shared weights, auxiliary
outputs, statistics that are not saved, code that branches on shapes, and so on.
"""

from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import weight_norm

from foldbench.bench.backends import NetworkSource
from foldbench.bench.backends.torch import open_session
from foldbench.bench.errors import ConfigError, ExportError
from foldbench.bench.probabilities import are_probabilities, to_probabilities
from foldbench.bench.records import Parity
from foldbench.bench.registry import Registry
from foldbench.exporters.export import ExportOptions, _judge_fold, to_onnx
from foldbench.exporters.folding.copying import copy_network
from foldbench.exporters.folding.fold import fold_linear
from foldbench.exporters.parity import (
    MAX_TOLERANCE,
    check_parity,
    run_module,
    run_reference,
)
from foldbench.exporters.quantization.score import measure_closeness
from foldbench.models.building.checkpoint import decode_weights, encode_weights, save_weights
from foldbench.models.building.network import build_model
from foldbench.models.building.outputs import find_logits, logits_of
from foldbench.models.building.running import run_network
from foldbench.models.building.trial import try_network

SHAPE, CLASSES = (3, 8, 8), 4
Build = Callable[[], nn.Module]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Lazy modules"),
]


class Net(nn.Module):
    """A convolution with BatchNorm, and a linear layer on the mean of its maps."""

    def __init__(self, channels: int = 3, outputs: int = CLASSES) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, outputs)

    def features(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()

    def head(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.features(x))


class Tied(Net):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(6, 6, 3, padding=1, bias=False) for _ in range(2))
        self.second.weight = self.first.weight

    def features(self, x: Tensor) -> Tensor:
        return self.second(self.first(super().features(x)))


Outputs = namedtuple("Outputs", ["logits", "aux"])


class Auxiliary(Net):
    def forward(self, x: Tensor) -> Any:
        y = super().forward(x)
        return Outputs(y, y * 0) if self.training else y


class AuxiliaryByName(Net):
    def forward(self, x: Tensor) -> Any:
        y = super().forward(x)
        return {"aux": y * 0, "logits": y} if self.training else y


class WithoutReturn(Net):
    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self.bn.eval()


class InPlace(Net):
    def forward(self, x: Tensor) -> Any:
        x.add_(1).mul_(0.5)
        return super().forward(x)


class SamePlace(Net):
    """Writes each answer over the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = torch.zeros(8, CLASSES)

    def head(self, x: Tensor) -> Tensor:
        self.kept[: len(x)] = super().head(x)
        return self.kept[: len(x)]


class AnyNumber(Net):
    def forward(self, *inputs: Tensor) -> Any:
        return super().forward(*inputs)


class OwnFloat32(Net):
    def head(self, x: Tensor) -> Tensor:
        scores = x.flatten(2).softmax(2, dtype=torch.float32).transpose(1, 2)
        return self.fc((x.flatten(2) @ scores).mean(2) + torch.zeros(6, dtype=torch.float32))


class Weightless(Net):
    """Its running statistics are in no file of weights."""

    def __init__(self, persistent: bool | None) -> None:
        super().__init__()
        self.persistent = persistent
        if persistent is None:
            self.mean = torch.zeros(6, 1, 1)
        else:
            self.register_buffer("mean", torch.zeros(6, 1, 1), persistent=persistent)

    def features(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.training:
            self.mean = 0.5 * self.mean + 0.5 * x.detach().mean((0, 2, 3)).reshape(6, 1, 1) + 0.1
        return x - self.mean


class Projection(Net):
    """A fixed projection that build() draws anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.matrices = [torch.randn(6, 6)]

    def head(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)) @ self.matrices[0])


class PlainList(Net):
    """Layers that torch does not know of."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(6, 6)]

    def head(self, x: Tensor) -> Tensor:
        return self.fc(self.layers[0](x.mean((2, 3))))


class ExtraState(Net):
    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


class TensorState(Net):
    def get_extra_state(self) -> Tensor:
        return torch.tensor([3])

    def set_extra_state(self, state: Tensor) -> None:
        self.state = int(state)


class Changed(Net):
    """Gives what `change` makes of the logits."""

    def __init__(self, change: Callable[[Any], Any], **options: int) -> None:
        super().__init__(**options)
        self.change = change

    def forward(self, x: Tensor) -> Any:
        return self.change(super().forward(x))


class TwoInputs(Net):
    def forward(self, x: Tensor, mask: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x * mask)


class Count(Net):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return super().forward(x) * self.calls


def lazy() -> nn.Module:
    return nn.Sequential(
        nn.LazyConv2d(6, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(CLASSES)
    )


def weight_normed() -> nn.Module:
    net = Net()
    weight_norm(net.conv)
    return net


GOOD: dict[str, Build] = {
    "tied weights": Tied,
    "auxiliary outputs": Auxiliary,
    "auxiliary outputs by name": AuxiliaryByName,
    "old weight_norm": weight_normed,
    "train() without a return value": WithoutReturn,
    "input changed in place": InPlace,
    "float32 of its own": OwnFloat32,
    "lazy layers": lazy,
    "forward(*inputs)": AnyNumber,
    "statistics in a buffer": lambda: Weightless(persistent=True),
    "a tensor as extra state": TensorState,
}

REFUSED: dict[str, tuple[Build, tuple[str, ...]]] = {
    "single logit": (lambda: Net(outputs=1), ("(2, 1)", "single logit", "4 classes")),
    "no batch": (lambda: Changed(lambda y: y.sum(0)), ("(4,)", "batch in dimension 0")),
    "squeezed": (lambda: Changed(lambda y: y.squeeze()), ("(4,) for 1 images",)),
    "other classes": (lambda: Net(outputs=7), ("(2, 7)", "(2, 4)")),
    "a map": (lambda: Changed(lambda y: y[:, :, None, None].expand(-1, -1, 2, 2)), ("mean over",)),
    "classes": (lambda: Changed(lambda y: y.argmax(1)), ("int64 (2,)",)),
    "nothing": (lambda: Changed(lambda _: None), ("returns NoneType",)),
    "two outputs": (lambda: Changed(lambda y: (y, y)), ("eval mode returns tuple of 2",)),
    "not finite": (lambda: Changed(lambda y: y / 0), ("not finite",)),
    "no gradient": (lambda: Changed(lambda y: y.detach()), ("no gradient",)),
    "gray": (lambda: Net(channels=1), ("Conv2d 'conv'", "images have 3", "input_shape[0]")),
    "two inputs": (TwoInputs, ("'mask'", "one tensor")),
    "features": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(100, CLASSES)),
        ("Linear '1', given (2, 192)", "100 features"),
    ),
    "no parameters": (nn.Flatten, ("no parameters",)),
    "no module": (lambda: "net", ("returned str",)),  # type: ignore[dict-item,return-value]
    "attribute": (lambda: Weightless(persistent=None), ("answers otherwise", "mean is neither")),
    "buffer": (lambda: Weightless(persistent=False), ("answers otherwise", "mean is neither")),
    "drawn anew": (Projection, ("answers otherwise", "matrices[0] is neither")),
    "plain list": (PlainList, ("answers otherwise", "layers[0].weight", "ModuleList")),
    "extra state": (ExtraState, ("_extra_state (dict)",)),
    "half": (lambda: Net().half(), ("Conv2d 'conv'", "float16", ".float()")),
}


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[Build], str]:
    """Make a function the plug-in ``field``, and return that name."""

    def make(build: Build) -> str:
        def build_any(*, classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
            return build()

        plug_in = SimpleNamespace(build=build_any, VERSION=1)
        monkeypatch.setattr(Registry, "load", lambda *_: plug_in)
        return "field"

    return make


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (5, *SHAPE)).astype(np.float32)


def trained(build: Build, images: np.ndarray) -> nn.Module:
    """Return the network after it has seen images in train mode."""
    torch.manual_seed(0)
    network = build()
    network.train()
    with torch.no_grad():
        network(torch.tensor(images))
    network.eval()
    return network


@pytest.mark.parametrize("kind", GOOD)
def test_a_network_that_torch_takes_is_taken(kind: str, register: Callable[[Build], str]) -> None:
    before = torch.random.get_rng_state()
    notes = try_network(register(GOOD[kind]), {}, CLASSES, SHAPE)
    assert len(notes) == ("auxiliary" in kind)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("kind", REFUSED)
def test_a_network_that_cannot_be_used_is_one_line_with_the_cause(
    kind: str, register: Callable[[Build], str]
) -> None:
    build, words = REFUSED[kind]
    with pytest.raises(ConfigError) as caught:
        try_network(register(build), {}, CLASSES, SHAPE)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in GOOD if kind != "statistics in a buffer"])
def test_it_exports_folded_and_unfolded_and_parity_passes(
    kind: str, images: np.ndarray, register: Callable[[Build], str]
) -> None:
    name = register(GOOD[kind])
    network = trained(lambda: build_model(name, {}, CLASSES, SHAPE), images)
    folded, report = fold_linear(network, torch.tensor(images[:2]))
    assert (report.batchnorms_before, report.batchnorms_after) == (1, 0)
    given = images.copy()
    for one, fold in ((folded, True), (network, False)):
        exported = to_onnx(one, images[:2].copy(), ExportOptions(fold, 20, ()))
        parity = check_parity(exported.SerializeToString(), network, given)
        assert parity.passed, parity.reason
        assert parity.reference == "float64"
    np.testing.assert_array_equal(given, images)


def test_shared_weights_are_written_once_and_are_shared_again(tmp_path: Path) -> None:
    network, path = Tied(), tmp_path / "weights.safetensors"
    save_weights(network, path)
    assert "second.weight" not in load_file(path)
    state = decode_weights(path.read_bytes())
    fresh = Tied()
    fresh.load_state_dict(state)
    assert fresh.first.weight is fresh.second.weight
    assert torch.equal(fresh.first.weight, network.first.weight)
    nets = nn.ModuleList([Net(), Net()])
    nets[1].conv.weight = nets[0].conv.weight  # by a tie that build() does not make
    other = nn.ModuleList([Net(), Net()])
    other.load_state_dict(decode_weights(encode_weights(nets)))
    assert torch.equal(other[1].conv.weight, nets[0].conv.weight)


def test_views_of_one_storage_are_written_apart() -> None:
    network, base = Net(), torch.randn(12, 6)
    network.fc.weight = nn.Parameter(base[:4])
    network.register_buffer("rest", base[2:])
    state = decode_weights(encode_weights(network))
    assert torch.equal(state["fc.weight"], base[:4])
    assert torch.equal(state["rest"], base[2:])


MAPS, FEATURES, SCORES = torch.zeros(2, 4, 3, 3), torch.zeros(2, 9), torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("output", "classes", "expected"),
    [
        (SCORES, None, None),
        ({"aux": SCORES, "logits": SCORES}, None, "logits"),
        ({"maps": MAPS, "scores": SCORES}, None, "scores"),
        ((FEATURES, SCORES), 4, "1"),
        ((FEATURES, SCORES), None, "0"),
        (SimpleNamespace(loss=None, score=SCORES), 4, "score"),
        ({"one": SCORES, "other": SCORES}, 4, None),
        (None, 4, None),
    ],
)
def test_the_logits_are_found_by_their_name_their_shape_or_their_place(
    output: Any, classes: int | None, expected: str | None
) -> None:
    assert find_logits(output, 2, classes) == expected


@pytest.mark.parametrize("output", [(1, 2), {"logits": 1}, None, []])
def test_outputs_without_a_tensor_hold_no_logits(output: Any) -> None:
    assert not isinstance(logits_of(output), Tensor)


def test_a_network_that_cannot_be_copied_names_the_attribute() -> None:
    class Stubborn:
        def __deepcopy__(self, _: Any) -> None:
            raise TypeError("no copies")

    network = Net()
    network.fc.extra = Stubborn()
    with pytest.raises(ExportError, match=r"fc\.extra \(Stubborn\).*no copies"):
        copy_network(network)


def test_computed_tensors_and_modules_of_python_are_copied_as_they_are() -> None:
    network = Net()
    network.kept = [network.fc.weight * 2, np]
    copied = copy_network(network)
    assert torch.equal(copied.kept[0], network.kept[0])
    assert copied.kept[1] is np
    assert copied.fc.weight is not network.fc.weight


def test_a_session_leaves_its_input_as_it_is(images: np.ndarray) -> None:
    network = trained(InPlace, images)
    expected = run_module(network, images)
    given = images.copy()
    with open_session(NetworkSource(Path(), lambda: network), device="cpu", threads=1) as session:
        session.bind(given)
        for _ in range(3):
            session.step()
            np.testing.assert_allclose(session.output(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(given, images)


def test_threads_that_a_network_sets_are_the_ones_that_are_read_back(images: np.ndarray) -> None:
    def one_thread(logits: Tensor) -> Tensor:
        torch.set_num_threads(1)
        return logits

    source = NetworkSource(Path(), lambda: trained(lambda: Changed(one_thread), images))
    with open_session(source, device="cpu", threads=2) as session:
        assert session.threads == 2
        session.bind(images)
        session.step()
        assert session.threads == 1


def test_answers_in_one_place_are_kept_apart(images: np.ndarray) -> None:
    network = trained(SamePlace, images)
    expected = run_module(network, images)
    assert len(np.unique(expected[:, 0])) == len(images)
    np.testing.assert_allclose(run_module(network, images, 2), expected, rtol=1e-5, atol=1e-6)
    for given in run_reference(network, images):
        if given.kind == "images":
            rows = run_module(network, given.x)
            np.testing.assert_allclose(given.reference, rows, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "build", [Count, lambda: Changed(lambda y: F.dropout(y, 0.3)), lambda: Changed(torch.rand_like)]
)
def test_a_network_that_answers_otherwise_each_time_is_not_exported(
    build: Build, images: np.ndarray
) -> None:
    with pytest.raises(ExportError, match="another answer each time"):
        run_reference(trained(build, images), images)


@pytest.mark.parametrize("change", [lambda y: -y, lambda y: 1.05 * y, lambda y: y.flip(1)])
def test_no_tolerance_is_wide_enough_for_other_logits(
    change: Callable[[Tensor], Tensor], images: np.ndarray
) -> None:
    network = trained(Net, images)
    other = Changed(change)
    other.load_state_dict(network.state_dict())
    other.eval()
    exported = to_onnx(other, images[:2], ExportOptions(False, 20, ()))
    parity = check_parity(exported.SerializeToString(), network, images)
    assert not any(case.passed for case in parity.cases)
    assert max(case.tolerance for case in parity.cases) <= MAX_TOLERANCE


def test_a_fold_that_changes_the_answers_fails_the_export(images: np.ndarray) -> None:
    network = trained(Net, images)
    folded, report = fold_linear(network, torch.tensor(images))
    exported = to_onnx(folded, images[:2], ExportOptions(True, 20, ()))
    parity = check_parity(exported.SerializeToString(), network, images)
    for difference, passed in ((1e-7, True), (1e-3, False), (float("nan"), False)):
        agreement = SimpleNamespace(max_rel_difference=difference)
        fold: Any = SimpleNamespace(agreement=agreement, report=report)
        judged: Parity = _judge_fold(parity, fold)
        assert judged.passed == passed


class Attention(nn.Module):
    """Attention with a learnt bias for each distance, as in Swin, MaxViT and BEiT.

    Its buffer has the name that the exporter gives to another value.
    """

    def __init__(self) -> None:
        super().__init__()
        self.distances = nn.Parameter(torch.randn(9, 2))
        self.register_buffer("index", torch.arange(256) % 9)
        self.qkv, self.fc = nn.Linear(3, 18), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 2).flatten(2).transpose(1, 2)
        n, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, 2, 3).permute(2, 0, 3, 1, 4)
        bias = self.distances[self.index].view(16, 16, 2).permute(2, 0, 1)[None]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.fc(y.transpose(1, 2).reshape(n, tokens, 6).mean(1))


def test_attention_whose_parameters_learn_is_exported(images: np.ndarray) -> None:
    network = Attention().eval()
    exported = to_onnx(network, images[:2], ExportOptions(False, 20, ()))
    assert check_parity(exported.SerializeToString(), network, images).passed


def test_an_operator_that_onnx_has_not_is_named(images: np.ndarray) -> None:
    network = nn.Sequential(nn.AdaptiveMaxPool2d(5), nn.Flatten(), nn.Linear(75, CLASSES)).eval()
    with pytest.raises(ExportError, match="adaptive_max_pool2d") as caught:
        to_onnx(network, images[:2], ExportOptions(False, 20, ()))
    assert "step" not in str(caught.value)


def test_answers_in_half_precision_are_compared_in_float32(images: np.ndarray) -> None:
    network = trained(lambda: Changed(lambda y: y.bfloat16()), images)
    assert run_module(network, images).dtype == np.float32


def test_a_scripted_network_is_tried_like_any_other() -> None:
    scripted = torch.jit.trace(Net().eval(), torch.rand(2, *SHAPE))
    with torch.no_grad():
        assert run_network(scripted, torch.rand(3, *SHAPE), "it").shape == (3, CLASSES)
    _, report = fold_linear(scripted, torch.rand(2, *SHAPE))
    assert "TorchScript" in report.skipped[0].reason


def test_a_decision_by_values_is_named_by_its_line(
    images: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    network = trained(lambda: Changed(lambda y: y * 2 if y.mean() > 0 else y), images)
    with pytest.raises(ExportError, match=rf"by the values .*{Path(__file__).name}, line \d+"):
        to_onnx(network, images[:2], ExportOptions(False, 20, ()))
    assert capfd.readouterr().err == ""


def test_probabilities_are_put_through_no_softmax(register: Callable[[Build], str]) -> None:
    logits = np.random.default_rng(0).standard_normal((5, CLASSES)).astype(np.float32)
    probabilities = to_probabilities(logits)
    assert not are_probabilities(logits)
    assert are_probabilities(probabilities)
    np.testing.assert_array_equal(to_probabilities(probabilities), probabilities)
    softened = np.roll(logits, 1, axis=0)
    by_logits = measure_closeness(logits, softened, np.zeros(5, np.int64))
    by_probabilities = measure_closeness(
        probabilities, to_probabilities(softened), np.zeros(5, np.int64)
    )
    assert by_probabilities.kl_nats == pytest.approx(by_logits.kl_nats, rel=1e-4)
    notes = try_network(register(lambda: Changed(lambda y: y.softmax(1))), {}, CLASSES, SHAPE)
    assert ["probabilities" in note for note in notes] == [True, False]


class AmongOthers(Net):
    def head(self, x: Tensor) -> Tensor:
        return super().head(x - x.mean(0, keepdim=True))


class BatchStatistics(Net):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(6, track_running_stats=False)


@pytest.mark.parametrize("build", [AmongOthers, BatchStatistics])
def test_a_network_that_looks_at_other_images_of_the_batch_is_named_so(
    build: Build, register: Callable[[Build], str]
) -> None:
    (note,) = try_network(register(build), {}, CLASSES, SHAPE)
    assert "other images" in note
