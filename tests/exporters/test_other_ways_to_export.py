"""Networks that torch exports wrongly as usual are exported another way, which the record says."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import builders as B
from foldbench.exporters.export import ExportOptions, export_checkpoint, plain_options

OPTIONS = ExportOptions(True, 20, ())


class CountsItsImages(nn.Module):
    """Its usual capture has the batch size of the trace in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 3))
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return self.head(torch.cat([self.token.expand(len(x), -1, -1), tokens], 1).mean(1))


class DividesBySmallNumbers(nn.Module):
    """torch's optimizer takes its constant for zero."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1) * 1e-6
        return self.head(x / ((x * x).sum(1, keepdim=True) + 1e-8).sqrt())


@pytest.mark.parametrize("kind", [CountsItsImages, DividesBySmallNumbers])
def test_what_is_wrong_as_usual_is_right_another_way(kind, tmp_path) -> None:
    torch.manual_seed(0)
    images = np.random.default_rng(0).random((32, 3, 4, 4), np.float32)
    artifact = export_checkpoint(kind().eval(), B.make_checkpoint(), tmp_path, images, OPTIONS)
    assert artifact.parity.passed
    assert artifact.passes[0].name == "exporter"


def test_the_plain_file_is_what_torch_gives_as_usual(tmp_path) -> None:
    images = np.random.default_rng(0).random((32, 3, 4, 4), np.float32)
    options = plain_options(OPTIONS)
    network = CountsItsImages().eval()
    artifact = export_checkpoint(network, B.make_checkpoint(), tmp_path, images, options)
    assert not artifact.parity.passed
    assert "x.shape[0]" in str(artifact.parity.reason)
