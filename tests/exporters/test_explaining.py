"""What an exported file costs and how exact it is, held against torch's own counters."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import builders as B
from foldbench.bench.measure.roofline import count_flops, count_traffic
from foldbench.bench.records import Preprocessing
from foldbench.exporters.explaining import (
    count_file,
    first_convolution,
    measure_errors,
    optimised_nodes,
    read_nodes,
)
from foldbench.exporters.module_names import module_names

SHAPE = (3, 8, 8)


class Network(nn.Module):
    """A convolution in groups, a gate in a module of its own, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.Sigmoid())
        self.head = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.head(self.stem(x).mean((2, 3)))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Network().eval()


@pytest.fixture(scope="module")
def exported(network: nn.Module) -> onnx.ModelProto:
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        network,
        (torch.zeros(2, *SHAPE),),
        dynamo=True,
        dynamic_shapes=({0: batch},),
        external_data=False,
        verbose=False,
    )
    return program.model_proto


@pytest.fixture
def path(exported: onnx.ModelProto, tmp_path: Path) -> Path:
    onnx.save(exported, tmp_path / "network.onnx")
    return tmp_path / "network.onnx"


def test_operations_and_traffic_of_a_file_are_those_of_its_module(
    network: nn.Module, path: Path
) -> None:
    known = Preprocessing(input_shape=SHAPE, mean=(0.5,) * 3, std=(0.5,) * 3)
    checkpoint = B.make_checkpoint(weights=path.name, preprocessing=known)
    flops, traffic = count_file(checkpoint, path.parent)
    assert flops == count_flops(network, SHAPE)
    assert traffic == count_traffic(network, SHAPE)


def test_the_values_of_a_file_have_the_modules_that_they_were_traced_in(
    exported: onnx.ModelProto,
) -> None:
    names = module_names(exported, exported)
    by_operator = {node.op_type: names[node.output[0]] for node in exported.graph.node}
    assert by_operator["Conv"] == ("stem.0",)
    assert by_operator["Sigmoid"] == ("stem.1",)
    assert by_operator["Gemm"] == ("head",)


def test_a_file_without_notes_names_no_modules() -> None:
    assert module_names(onnx.ModelProto(), onnx.ModelProto()) == {}


def test_errors_are_against_float64_and_grow_where_a_weight_is_changed(
    exported: onnx.ModelProto, path: Path, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    wanted = [node.output[0] for node in exported.graph.node]
    exact = measure_errors(path, path, images, wanted)
    assert 0 < max(exact.values()) < 1e-5
    changed = onnx.ModelProto()
    changed.CopyFrom(exported)
    for tensor in changed.graph.initializer:
        if tensor.name == "head.bias":
            values = onnx.numpy_helper.to_array(tensor) + 1
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(changed, tmp_path / "changed.onnx")
    found = measure_errors(tmp_path / "changed.onnx", path, images, [*wanted, "not there"])
    (logits,) = (value.name for value in exported.graph.output)
    assert found.pop(logits) > 0.1
    assert found == {name: exact[name] for name in found}


def test_onnxruntime_runs_fewer_nodes_than_the_file_has(path: Path) -> None:
    assert {"Conv", "Sigmoid"} <= {node.operator for node in read_nodes(path)}
    assert "Sigmoid" not in {node.operator for node in optimised_nodes(path)}


def test_the_first_convolution_is_found_with_its_weights(network: nn.Module, path: Path) -> None:
    found = first_convolution(path)
    assert found is not None
    assert np.array_equal(found[1], network.stem[0].weight.detach().numpy())
