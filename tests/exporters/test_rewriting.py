"""Which passes an export makes, and that one which breaks the answers is undone."""

import re
import sys
from types import ModuleType

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto
from torch import nn

from foldbench.bench.errors import ConfigError, ExportError, UnknownNameError
from foldbench.bench.records import PassReport
from foldbench.bench.registry import PASSES
from foldbench.bench.store.directory import RunDirectory
from foldbench.exporters.export import ExportOptions, export_checkpoint, to_onnx
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.parity import check_outputs, run_reference
from foldbench.exporters.rewriting import apply_passes, choose_passes


@pytest.mark.parametrize(
    ("asked", "target", "fold_bn", "chosen"),
    [
        (["default"], "cpu", True, ("strip_metadata", "fold_batchnorm", "mish")),
        (["default"], "cpu", False, ("strip_metadata", "mish")),
        (["default"], "cuda", True, ("strip_metadata", "fold_batchnorm")),
        (["default"], "openvino", True, ("strip_metadata", "fold_batchnorm")),
        (["default"], "tensorrt", True, ("strip_metadata", "fold_batchnorm")),
        (
            ["default"],
            "host",
            True,
            (
                *("strip_metadata", "fold_batchnorm", "merge_groups", "mish", "pool_means"),
                *("fuse_attention", "fuse_elementwise", "merge_moves", "nchwc_strip"),
            ),
        ),
        (["none"], "cpu", True, ("strip_metadata",)),
        ([], "cpu", True, ("strip_metadata",)),
        (["mish"], "cuda", True, ("strip_metadata", "mish")),
        (["nchwc_strip", "mish"], "host", True, ("strip_metadata", "mish", "nchwc_strip")),
        (["mish", "default"], "cpu", True, ("strip_metadata", "mish", "fold_batchnorm")),
    ],
)
def test_what_is_asked_for_is_chosen(asked, target, fold_bn, chosen) -> None:
    assert choose_passes(asked, target, fold_bn) == chosen


def test_passes_that_contradict_the_rest_are_refused() -> None:
    with pytest.raises(ConfigError, match="fold_batchnorm contradicts export.fold_bn=false"):
        choose_passes(["fold_batchnorm"], "cpu", False)
    with pytest.raises(ConfigError, match="nchwc_strip .*host"):
        choose_passes(["nchwc_strip"], "cpu", True)
    with pytest.raises(UnknownNameError, match="'mihs'.* 'mish'"):
        choose_passes(["mihs"], "cpu", True)


class Network(nn.Module):
    """A linear layer without BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 32 * 32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1))


def scaled(model: ModelProto, factor: float) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(factor), tensor.name))
    return copy


@pytest.fixture
def wrong_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes that scale the weights: by a little, by too much, and one that breaks the graph."""

    def register(name: str, change) -> None:
        module = ModuleType(f"foldbench.exporters.passes.{name}")
        report = PassReport(name=name, changed=2, detail="2 scaled")
        module.apply = lambda model: (change(model), report)
        module.ONLY_FOR, module.TARGETS = None, ()
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def break_graph(model: ModelProto) -> ModelProto:
        copy = scaled(model, 1)
        copy.graph.node[0].input[0] = "nowhere"
        return copy

    def raise_error(model: ModelProto) -> ModelProto:
        raise KeyError("weights")

    register("harmless", lambda model: scaled(model, 1 + 1e-7))
    register("wrong", lambda model: scaled(model, 1.001))
    register("broken", break_graph)
    register("raising", raise_error)
    monkeypatch.setattr(type(PASSES), "check", lambda self, name: name)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (4, 3, 32, 32)).astype(np.float32)


@pytest.mark.usefixtures("wrong_passes")
def test_a_pass_that_breaks_parity_is_undone_and_the_others_stay(images: np.ndarray) -> None:
    network = Network().eval()
    model = to_onnx(network, images[:2], ExportOptions(True, 20, ()))
    inputs = run_reference(network, images)
    names = ("strip_metadata", "wrong", "harmless", "broken")
    result, reports = apply_passes(model, names, lambda file: check_outputs(file, inputs))
    stripped, wrong, harmless, broken = reports
    assert stripped.changed > 0
    assert (wrong.name, wrong.changed) == ("wrong", 0)
    assert re.match(r"undone, .* 1\.00e-03", wrong.detail)
    assert (harmless.changed, harmless.detail) == (2, "2 scaled")
    assert broken.changed == 0
    assert re.match("undone, .* onnxruntime could not run", broken.detail)
    assert check_outputs(result.SerializeToString(), inputs).passed
    found = open_session(result.SerializeToString()).run(None, {"input": images})[0]
    before = open_session(model.SerializeToString()).run(None, {"input": images})[0]
    np.testing.assert_allclose(found, before, rtol=1e-5)


@pytest.mark.usefixtures("wrong_passes")
def test_what_was_wrong_before_is_not_blamed_on_a_pass(images: np.ndarray) -> None:
    network = Network().eval()
    model = scaled(to_onnx(network, images[:2], ExportOptions(True, 20, ())), 2.0)
    inputs = run_reference(network, images)
    _, (report,) = apply_passes(model, ["harmless"], lambda file: check_outputs(file, inputs))
    assert report.changed == 2


@pytest.mark.usefixtures("wrong_passes")
def test_a_pass_that_fails_is_named(images: np.ndarray) -> None:
    model = to_onnx(Network().eval(), images[:2], ExportOptions(True, 20, ()))
    with pytest.raises(ExportError, match="'raising' failed: 'weights'"):
        apply_passes(model, ["raising"], lambda file: check_outputs(file, ()))


@pytest.mark.usefixtures("wrong_passes")
def test_an_undone_pass_is_in_the_record_of_the_artifact(
    own_run: RunDirectory, images: np.ndarray
) -> None:
    options = ExportOptions(True, 20, ("strip_metadata", "wrong"))
    artifact = export_checkpoint(
        Network().eval(), own_run.checkpoint(), own_run.path, images, options
    )
    assert artifact.parity.passed
    assert [(p.name, p.changed) for p in artifact.passes][1] == ("wrong", 0)


def test_a_network_that_makes_float32_of_its_own_is_run_in_float64(images: np.ndarray) -> None:
    class Single(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1).float() @ torch.ones(3072, 10, dtype=torch.float32)

    inputs = run_reference(Single().eval(), images)
    assert {one.precision for one in inputs} == {"float64"}
    expected = images[:1].astype(np.float64).sum()
    np.testing.assert_allclose(inputs[0].reference, expected, rtol=1e-14)


def test_a_network_that_cannot_be_run_in_float64_is_held_against_float32(
    images: np.ndarray,
) -> None:
    class Single(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.numpy().dtype == np.float32
            return x.flatten(1) @ torch.ones(3072, 10)

    inputs = run_reference(Single().eval(), images)
    assert {one.precision for one in inputs} == {"float32"}
    np.testing.assert_array_equal(inputs[0].reference, inputs[0].reference_float32)
