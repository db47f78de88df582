"""The pass `fuse_attention`: one operator, however attention is written; what is not that stays."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.version_converter import convert_version
from torch import Tensor, nn

from foldbench.exporters.export import ExportOptions, to_onnx
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.passes import fuse_attention, merge_moves

HEADS, SIZE, TOKENS = 3, 8, 20
WIDTH = HEADS * SIZE
X = np.random.default_rng(0).standard_normal((3, TOKENS, WIDTH)).astype(np.float32)


class Attention(nn.Module):
    """As timm's vision transformers have it: one layer, a permutation, three views."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=bias)
        self.out = nn.Linear(WIDTH, WIDTH)

    def views(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.qkv(x).reshape(x.shape[0], -1, 3, HEADS, SIZE).permute(2, 0, 3, 1, 4)
        return y.unbind(0)

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        return (q * SIZE**-0.5) @ k.transpose(-2, -1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.views(x)
        y = self.scores(q, k).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(x.shape[0], -1, WIDTH))


class Dotted(Attention):
    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.scaled_dot_product_attention(*self.views(x))
        return self.out(y.transpose(1, 2).flatten(2))


class Chunked(Attention):
    """Three chunks, each with heads of its own."""

    def views(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (y.unflatten(2, (HEADS, SIZE)).transpose(1, 2) for y in self.qkv(x).chunk(3, 2))
        return q, k, v


class Apart(Attention):
    """Three layers, keys and values of fewer tokens, scores divided."""

    def __init__(self) -> None:
        super().__init__()
        self.kv, self.q = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def views(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = self.q(x).reshape(x.shape[0], -1, HEADS, SIZE).permute(0, 2, 1, 3)
        kv = self.kv(x[:, :5]).reshape(x.shape[0], -1, 2, HEADS, SIZE).permute(2, 0, 3, 1, 4)
        return q, kv[0], kv[1]

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        return (q @ k.transpose(-2, -1)) / SIZE**0.5


class Biased(Attention):
    """Relative positions are added to the scores."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__(bias)
        self.table = nn.Parameter(torch.randn(HEADS, TOKENS, TOKENS))

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        return super().scores(q, k) + self.table.unsqueeze(0)


class Windows(Attention):
    """Windows of five tokens, each with a mask of its own: the batch is that of windows."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.where(torch.rand(4, 5, 5) < 0.3, -100.0, 0.0))

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        scores = super().scores(q, k).reshape(-1, 4, HEADS, 5, 5)
        return (scores + self.mask[None, :, None]).reshape(-1, HEADS, 5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(-1, 5, WIDTH)).reshape(-1, TOKENS, WIDTH)


class Causal(Attention):
    """Tokens see those before them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.full((TOKENS, TOKENS), -torch.inf).triu(1))

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        return super().scores(q, k) + self.mask


class Torchs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class SharedHeads(Attention):
    """Keys and values of one head serve all."""

    def views(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().views(x)
        return q, k[:, :1], v[:, :1]


class OfChannels(Attention):
    """Channels attend to channels."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (y.transpose(-2, -1) for y in self.views(x))
        y = self.scores(q, k).softmax(-1) @ v
        return self.out(y.permute(0, 3, 1, 2).flatten(2))


class Gated(Attention):
    """What is added to the scores depends on the image."""

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        return super().scores(q, k) + q.mean((1, 3), keepdim=True)


class Normalised(Attention):
    """Queries and keys are no views: the layer's output is normalised first."""

    def views(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().views(x)
        return nn.functional.normalize(q, dim=-1), nn.functional.normalize(k, dim=-1), v


class Scaled(Attention):
    """Scores are multiplied by a number of each head."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(HEADS, 1, 1))

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        return super().scores(q, k) * self.scale


def export(network: nn.Module) -> onnx.ModelProto:
    torch.manual_seed(0)
    for weights in network.parameters():
        nn.init.normal_(weights, std=0.5)
    return to_onnx(network.eval(), X[:2], ExportOptions(True, 20, ()))


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return open_session(model.SerializeToString()).run(None, {"input": x})[0]


WAYS = [Attention, Dotted, Chunked, Apart, Torchs, Biased, Causal, Windows]


@pytest.mark.parametrize("merged_before", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_however_it_is_written_it_is_one_operator(
    way: Callable[[], nn.Module], merged_before: bool
) -> None:
    network = way()
    model = export(network)
    given = merge_moves.apply(model)[0] if merged_before else model
    made, report = fuse_attention.apply(given)
    onnx.checker.check_model(made)
    found = operators(made)
    assert report.changed == 1
    assert found["Attention"] + found["MultiHeadAttention"] == 1
    assert found["Softmax"] == 0
    assert len(made.graph.node) < len(given.graph.node)
    assert fuse_attention.apply(made)[1].changed == 0
    for count in (1, 2, 3):
        x = X[:count]
        with torch.no_grad():
            expected = network.double()(torch.from_numpy(x).double()).numpy()
        error = np.abs(run(made, x) - expected).max()
        assert error < 5e-6 * np.abs(expected).max()


def test_one_layer_is_computed_with_it_where_something_is_added_to_the_scores() -> None:
    for way, operator, products in (
        (Attention(), "MultiHeadAttention", 2),
        (Biased(), "Attention", 1),
        (Windows(), "Attention", 1),
        (Biased(bias=False), "MultiHeadAttention", 2),
    ):
        found = operators(fuse_attention.apply(export(way))[0])
        assert (found[operator], found["MatMul"]) == (1, products)


@pytest.mark.parametrize(
    ("way", "why"),
    [
        (SharedHeads, "heads"),
        (OfChannels, "heads do not lie side by side"),
        (Normalised, "of three dimensions"),
        (Scaled, "more than constants"),
        (Gated, None),
    ],
)
def test_what_onnxruntimes_operators_do_not_compute_stays(
    way: Callable[[], nn.Module], why: str | None
) -> None:
    model = export(way())
    made, report = fuse_attention.apply(model)
    assert made == model
    assert report.changed == 0
    assert why is None or why in report.detail


def test_scores_that_are_read_elsewhere_stay() -> None:
    class Shown(Attention):
        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.views(x)
            weights = self.scores(q, k).softmax(-1)
            y = (weights @ v).transpose(1, 2).reshape(x.shape[0], -1, WIDTH)
            return self.out(y) + weights.amax((1, 2, 3))[:, None, None]

    model = export(Shown())
    assert fuse_attention.apply(model)[0] == model


def test_a_layer_that_something_else_reads_is_computed_once() -> None:
    class Read(Biased):
        def forward(self, x: Tensor) -> Tensor:
            layer = self.qkv(x)
            y = layer.reshape(x.shape[0], -1, 3, HEADS, SIZE).permute(2, 0, 3, 1, 4)
            y = self.scores(y[0], y[1]).softmax(-1) @ y[2]
            return self.out(y.transpose(1, 2).flatten(2)) + layer[..., :WIDTH].relu()

    made, report = fuse_attention.apply(export(Read()))
    assert (report.changed, operators(made)["MultiHeadAttention"]) == (1, 1)
    assert operators(made)["MatMul"] == 2


@pytest.mark.parametrize("way", [Attention, Windows])
def test_files_of_older_opsets_are_fused_or_told(way: Callable[[], nn.Module]) -> None:
    model = convert_version(export(way()), 17)
    made, report = fuse_attention.apply(model)
    assert report.changed == 1
    np.testing.assert_allclose(run(made, X), run(model, X), rtol=1e-4, atol=1e-4)
    older = onnx.ModelProto()
    older.CopyFrom(model)
    older.opset_import[0].version = fuse_attention.LEAST_OPSET - 1
    assert "or newer is needed" in fuse_attention.apply(older)[1].detail


def test_a_graph_that_runs_for_one_image_alone_stays() -> None:
    model = export(Attention())
    for node in model.graph.node:  # as careless exports have it: a batch in name only
        if node.op_type == "Reshape":
            shape = next(c for c in model.graph.initializer if c.name == node.input[1])
            numbers = numpy_helper.to_array(shape).copy()
            numbers[0] = 1
            shape.CopyFrom(numpy_helper.from_array(numbers, shape.name))
    made, report = fuse_attention.apply(model)
    assert made == model
    assert "does not run with 2 images" in report.detail
