"""The pass `nchwc_strip`: which reorderings it takes out, bit for bit, and where its files run."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from foldbench.bench.backends import NetworkSource, ort
from foldbench.bench.errors import BackendError
from foldbench.bench.host_files.marks import (
    HOST,
    OPTIMIZATION,
    HowToRun,
    bodies_in,
    how_to_run,
    read_metadata,
)
from foldbench.exporters.export import ExportOptions, to_onnx
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.passes import fuse_elementwise, mish
from foldbench.exporters.passes.nchwc_strip import apply

X = np.random.default_rng(0).standard_normal((3, 3, 12, 12)).astype(np.float32)


class Layers(nn.Module):
    """Three convolutions, of 32 channels, joined as a test wants it."""

    def __init__(self, join: Callable[["Layers", torch.Tensor], torch.Tensor], width: int) -> None:
        super().__init__()
        self.join = join
        self.a = nn.Conv2d(3, width, 3, padding=1)
        self.b = nn.Conv2d(width, width, 3, padding=1)
        self.c = nn.Conv2d(width, width, 1)
        self.narrow = nn.Conv2d(width, width, (12, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.join(self, x)


@cache
def exported(
    join: Callable[[Layers, torch.Tensor], torch.Tensor], width: int = 32
) -> onnx.ModelProto:
    """Return the network that `join` makes, as the pass gets it; read it only."""
    torch.manual_seed(0)
    model = to_onnx(Layers(join, width).eval(), X[:2], ExportOptions(True, 20, ()))
    return mish.apply(model)[0]


def reorderings(model: onnx.ModelProto) -> int:
    return sum(node.op_type.startswith("Reorder") for node in model.graph.node)


def run(model: onnx.ModelProto, x: np.ndarray = X) -> np.ndarray:
    return open_session(model.SerializeToString()).run(None, {"input": x})[0]


def residual(net: Layers, x: torch.Tensor) -> torch.Tensor:
    first = F.mish(net.a(x))
    return net.c(F.mish(net.b(first) + first))


def excited(net: Layers, x: torch.Tensor) -> torch.Tensor:
    first = F.silu(net.b(net.a(x)))
    gate = net.c(F.silu(net.c(F.adaptive_avg_pool2d(first, 1)))).sigmoid()
    return net.b(first * gate)


def excited_and_summed(net: Layers, x: torch.Tensor) -> torch.Tensor:
    first = net.a(x)
    gated = net.c(F.adaptive_avg_pool2d(first, 1)).sigmoid() * first
    return net.c(net.b(gated) + gated)


def by_channel(net: Layers, x: torch.Tensor) -> torch.Tensor:
    return net.b(net.c.bias.reshape(1, -1, 1, 1) - net.a(x).exp())


def by_row(net: Layers, x: torch.Tensor) -> torch.Tensor:
    return net.b(net.a(x).exp() * net.b.weight[0, 0, 0].repeat(4).reshape(1, 1, 1, -1))


def read_elsewhere(net: Layers, x: torch.Tensor) -> torch.Tensor:
    first = F.mish(net.a(x))
    second = net.c(F.mish(net.b(first)))
    return second.flatten(1).sum(1, keepdim=True) + first.flatten(1)


STRIPPED = {
    "one after the other": (lambda net, x: net.c(F.mish(net.b(F.mish(net.a(x))))), 4),
    "a pool in between": (lambda net, x: net.b(F.max_pool2d(F.mish(net.a(x)), 2)), 2),
    "the graph's output is in it": (lambda net, x: F.mish(net.b(F.mish(net.a(x)))), 2),
    "a residual sum": (residual, 4),
    "something reads it in the usual layout": (read_elsewhere, 3),
    "a gate for each channel": (excited, 2),
    "a gate, and what it gave is summed": (excited_and_summed, 3),
    "numbers that differ by channel": (by_channel, 2),
}


@pytest.mark.parametrize("case", STRIPPED)
def test_reorderings_go_and_every_bit_stays(case: str) -> None:
    join, fewest = STRIPPED[case]
    model = exported(join)
    stripped, report = apply(model)
    assert report.changed >= fewest, report.detail
    assert f" {reorderings(stripped)} kept; " in report.detail
    onnx.checker.check_model(stripped, full_check=True)
    for size in (1, 3):
        np.testing.assert_array_equal(run(stripped, X[:size]), run(model, X[:size]))


NOT_STRIPPED = {
    "channels that do not fill the blocks": (
        lambda net, x: net.c(F.mish(net.b(F.mish(net.a(x))))),
        20,
    ),
    "an operator over channels": (lambda net, x: net.b(net.a(x).softmax(1)), 32),
    "numbers that differ by column": (by_row, 32),
    "a row that is stretched over the others": (
        lambda net, x: net.c(F.mish(net.a(x)) * net.narrow(net.a(x)).exp()),
        32,
    ),
}


@pytest.mark.parametrize("case", NOT_STRIPPED)
def test_where_the_order_of_numbers_matters_they_stay(case: str) -> None:
    join, width = NOT_STRIPPED[case]
    model = exported(join, width)
    stripped, _ = apply(model)
    np.testing.assert_array_equal(run(stripped), run(model))
    if case != "a row that is stretched over the others":
        assert stripped == model
        assert apply(model)[1].changed == 0


@pytest.fixture
def host_file(tmp_path: Path) -> Path:
    path = tmp_path / "host.onnx"
    onnx.save(apply(exported(STRIPPED["one after the other"][0]))[0], path)
    return path


def source(path: Path) -> NetworkSource:
    return NetworkSource(path=path, build_module=lambda: None)


def test_the_file_says_where_it_runs_and_is_run_as_it_is(host_file: Path) -> None:
    facts = read_metadata(host_file.open("rb"))
    assert facts[OPTIMIZATION] == "disabled"
    assert facts[HOST].endswith(f"onnxruntime {ort.onnxruntime.__version__}")
    with ort.open_session(source(host_file), device="cpu", threads=1) as session:
        assert "graph optimisation as in" in session.runtime
        session.bind(X)
        session.step()
        assert session.output().shape == (3, 32, 12, 12)


@pytest.mark.parametrize(
    ("was", "now"), [("onnxruntime ", "onnxruntime 0."), ("", "Another processor; ")]
)
def test_another_processor_or_onnxruntime_refuses_it(host_file: Path, was: str, now: str) -> None:
    model = onnx.load(host_file)
    (entry,) = (p for p in model.metadata_props if p.key == HOST)
    entry.value = entry.value.replace(was, now, 1)
    onnx.save(model, host_file)
    with pytest.raises(BackendError, match=re.escape(entry.value)) as caught:
        ort.open_session(source(host_file), device="cpu", threads=1)
    assert "\n" not in str(caught.value)


def test_it_is_for_the_cpu_alone(host_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort.onnxruntime, "get_available_providers", lambda: providers)
    with pytest.raises(BackendError, match="CPU alone, not .*CUDA"):
        ort.open_session(source(host_file), device="cuda", threads=1)


def test_other_files_are_optimised_by_the_runtime(tmp_path: Path) -> None:
    path = tmp_path / "any.onnx"
    onnx.save(exported(STRIPPED["one after the other"][0]), path)
    assert how_to_run(path, ort.onnxruntime.__version__) == HowToRun()
    with ort.open_session(source(path), device="cpu", threads=1) as session:
        assert "graph optimisation all" in session.runtime


def test_a_gate_within_a_chain_is_found_in_blocks() -> None:
    def chain(net: Layers, x: torch.Tensor) -> torch.Tensor:
        first = net.a(x)
        gate = net.c(F.adaptive_avg_pool2d(first, 1))
        return net.b((first * 3 + gate).tanh() * first.exp())

    fused, report = fuse_elementwise.apply(exported(chain))
    assert report.changed == 1, report.detail
    stripped, report = apply(fused)
    assert report.changed >= 2, report.detail
    facts = {p.key: p.value for p in stripped.metadata_props}
    assert any("lanes" in text for text in bodies_in(facts) or ())
    for size in (1, 3):
        np.testing.assert_array_equal(run(stripped, X[:size]), run(fused, X[:size]))


def test_without_a_c_compiler_gates_stay_in_the_usual_layout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    monkeypatch.setenv("FOLDBENCH_CACHE", str(tmp_path))
    model = exported(excited)
    assert apply(model)[0] == model


@pytest.mark.parametrize("case", STRIPPED)
def test_a_value_that_keeps_its_name_keeps_its_numbers(case: str) -> None:
    model = exported(STRIPPED[case][0])
    stripped, _ = apply(model)
    there = {name for node in model.graph.node for name in node.output}
    kept = [n for node in stripped.graph.node for n in node.output if n in there]
    assert kept
    found = []
    for one in (model, stripped):
        shown = onnx.ModelProto.FromString(one.SerializeToString())
        outputs = {value.name for value in shown.graph.output}
        more = [onnx.ValueInfoProto(name=name) for name in kept if name not in outputs]
        shown.graph.output.extend(more)
        found.append(open_session(shown.SerializeToString()).run(kept, {"input": X}))
    for before, after in zip(*found, strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
