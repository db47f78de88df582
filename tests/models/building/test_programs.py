"""Programs of torch.export run at any batch size, also those that were exported for one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from foldbench.bench.errors import CheckpointError
from foldbench.models.building.programs import input_shape_of, load_program

SHAPE = (3, 8, 8)


class Windows(nn.Module):
    """Shapes with the batch in them: flattened, multiplied by windows, expanded and made anew."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        n = x.shape[0]
        windows = x.view(n, 3, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(n * 4, 3, 16)
        means = windows.mean(2).reshape(n, 12)
        tokens = torch.cat([self.token.expand(n, -1, -1), means[:, None]], 1)
        summed = tokens.sum(1) + torch.zeros(n, 12)
        return self.head(summed), {"mean": means}


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(24, 4, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x.transpose(1, 2).flatten(2))[0][:, -1]


def flat() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 4))


class AcrossImages(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) - x.mean((0, 2, 3))


def save(network: nn.Module, batch: int, path: Path) -> Path:
    torch.manual_seed(0)
    torch.export.save(torch.export.export(network.eval(), (torch.rand(batch, *SHAPE),)), path)
    return path


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("make", [flat, Windows, Recurrent])
def test_a_program_of_one_batch_size_takes_any(
    make: Callable[[], nn.Module], batch: int, tmp_path: Path
) -> None:
    network = make()
    program = load_program(save(network, batch, tmp_path / "a.pt2"), SHAPE)
    images = torch.rand(5, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(program(images), network(images), rtol=1e-4, atol=1e-5)


def test_a_program_says_the_shape_of_its_input(tmp_path: Path) -> None:
    assert input_shape_of(save(flat(), 1, tmp_path / "a.pt2")) == SHAPE
    side = torch.export.Dim("side")
    network, images = AcrossImages().eval(), torch.rand(2, *SHAPE)
    program = torch.export.export(network, (images,), dynamic_shapes=({2: side},))
    torch.export.save(program, tmp_path / "b.pt2")
    assert input_shape_of(tmp_path / "b.pt2") is None
    (tmp_path / "c.pt2").write_bytes(b"PK")
    assert input_shape_of(tmp_path / "c.pt2") is None


@pytest.mark.parametrize(
    ("network", "shape", "words"),
    [(AcrossImages(), SHAPE, "batches of 2 .*Dim"), (flat(), (3, 9, 9), "9, 9")],
)
def test_what_computes_something_else_then_is_refused(
    network: nn.Module, shape: tuple[int, int, int], words: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_program(save(network, 2, tmp_path / "a.pt2"), shape)
