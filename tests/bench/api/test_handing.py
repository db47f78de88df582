"""A module in memory, as other processes get it."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import foldbench
import isolated_calls
from foldbench.bench.api.handing import pickle_module
from foldbench.bench.api.networks import named
from foldbench.bench.errors import BenchError, ConfigError, DataError
from foldbench.bench.user_code.memory import held, holding, pickle_of
from foldbench.bench.workers.isolated import run_isolated


class Scaled(nn.Module):
    """A class of a module that another process cannot import."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, 3.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(x, 1)[:, :2] * self.weight


def test_another_process_has_the_code_and_the_weights_from_memory() -> None:
    with holding({"scaled": pickle_module(Scaled())}):
        assert run_isolated(isolated_calls.run_module, "scaled", 1.5) == [3.0, 4.5]
    assert held() == {}


def test_a_module_whose_file_was_changed_since_is_handed_over_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x): return x * {}\n"
    )
    (tmp_path / "own_net.py").write_text(source.format(2))
    monkeypatch.syspath_prepend(str(tmp_path))
    import own_net

    try:
        (tmp_path / "own_net.py").write_text(source.format(3))
        with holding({"own": pickle_module(own_net.Net())}):
            assert run_isolated(isolated_calls.run_module, "own", 1.0)[0] == 2.0
    finally:
        del sys.modules["own_net"]


def test_a_module_that_takes_its_process_along_is_one_line() -> None:
    class Crash(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            import os

            os._exit(3)

    images = np.zeros((2, 3, 8, 8), np.float32)
    with pytest.raises(BenchError, match=r"exit code 3"):
        foldbench.export(Crash(), "/nowhere/x.onnx", images)


def test_what_cannot_be_pickled_is_refused_with_its_kind() -> None:
    module = Scaled()
    module.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="Scaled: cannot be handed to another process: .*lock"):
        pickle_module(module)


def test_networks_have_names_of_their_own() -> None:
    networks = [Scaled(), Scaled(), "net.py:Net", "torchvision:resnet18"]
    with named(networks) as found:
        assert [n.name for n in found] == ["Scaled", "Scaled_2", "Net", "resnet18"]
        assert [n.text for n in found][:2] == ["memory:Scaled", "memory:Scaled_2"]
        assert set(held()) == {"Scaled", "Scaled_2"}
        assert found[2].text == f"{Path.cwd()}/net.py:Net"
    with named({"a/b": Scaled()}) as found:
        assert [n.name for n in found] == ["a_b"]
    assert held() == {}


@pytest.mark.parametrize("network", ["resnet18", "memory:Net", 3, "", []])
def test_what_names_no_network_is_refused(network: object) -> None:
    with pytest.raises(BenchError) as caught:
        foldbench.compare(network, np.zeros((1, 3, 8, 8), np.float32))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 8, 8), np.uint8), None),
        (np.zeros((2, 3, 8, 8)), None),
        (np.full((2, 3, 8, 8), np.nan, np.float32), None),
        ([[1], [2, 3]], None),
        (np.zeros((2, 3, 8, 8), np.uint8), [0]),
        (np.zeros((2, 3, 8, 8), np.uint8), [0, -1]),
        (np.zeros((2, 3, 8, 8), np.uint8), [0.5, 1]),
    ],
)
def test_images_and_labels_of_another_form_are_refused(images: object, labels: object) -> None:
    with pytest.raises(DataError) as caught:
        foldbench.compare(Scaled(), images, labels)
    assert (
        "allowed" in str(caught.value)
        or "correct" in str(caught.value)
        or "no array" in str(caught.value)
    )


def test_a_network_of_a_program_that_has_ended_is_told_so() -> None:
    with pytest.raises(ConfigError, match="run that program again"):
        pickle_of("gone")


def test_a_file_to_optimize_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="there is no such file"):
        foldbench.optimize(tmp_path / "x.onnx", tmp_path / "y.onnx")
    with pytest.raises(BenchError, match="allowed: cpu"):
        foldbench.optimize(tmp_path / "x.onnx", tmp_path / "y.onnx", target="tpu")
