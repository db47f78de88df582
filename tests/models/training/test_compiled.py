"""Training with compiled code: the same function and gradients, and the network as it was."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mish

from builders import run_training, small_model
from foldbench.bench.errors import TrainingError
from foldbench.models.training import compiled as _compiled
from foldbench.models.training.compiled import compiled, compiled_mish

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))), reason="needs a C++ compiler"
)
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "with gaps": lambda x: x[:, ::2],
    "transposed": lambda x: x.transpose(1, 3),
    "rows": lambda x: x.reshape(len(x), -1),
}


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_mish_is_as_exact_as_torchs_own_everywhere(dtype: torch.dtype) -> None:
    special = torch.tensor([0.0, -0.0, torch.inf, -1e30, 1e30, torch.nan])
    x = torch.cat([torch.linspace(-100, 100, 200_001), special]).to(dtype)
    exact = mish(x.double())
    found, own = compiled_mish(x), mish(x)
    assert found.dtype == dtype
    assert torch.equal(found.isnan(), own.isnan())
    assert torch.equal(found.isinf(), own.isinf())
    finite = exact.isfinite()
    ours, theirs = ((y.double() - exact)[finite].abs() for y in (found, own))
    scale = 1 + exact[finite].abs()
    assert (ours / scale).max() <= max(float((theirs / scale).max()), 4e-7)


@needs_compiler
@pytest.mark.parametrize("arrange", LAYOUTS.values(), ids=LAYOUTS)
def test_compiled_mish_has_the_gradients_of_mish_in_every_layout(
    arrange: Callable[[Tensor], Tensor],
) -> None:
    x = arrange(6 * torch.randn(3, 8, 5, 4))
    gradient = torch.randn(x.shape)
    found_x, exact_x = x.detach().requires_grad_(), x.double().detach().requires_grad_()
    found, exact = compiled_mish(found_x), mish(exact_x)
    found.backward(gradient)
    exact.backward(gradient.double())
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found_x.grad.double(), exact_x.grad, rtol=1e-5, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("what", ["mish", "model"])
def test_compiled_training_ends_where_plain_training_ends_and_leaves_the_network_plain(
    tmp_path: Path, what: str
) -> None:
    plain, quick = small_model(), small_model()
    for model in (plain, quick):
        model[1] = nn.Identity()  # the gradients of a bias before BatchNorm are rounding errors
        model[4] = nn.Identity()  # random choices are other ones once they are compiled
    losses = [
        [epoch.loss for epoch in run_training(tmp_path / name, model, compile=name, epochs=2)]
        for name, model in (("none", plain), (what, quick))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    ours, theirs = quick.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert all("forward" not in vars(module) for module in quick.modules())


@needs_compiler
def test_every_mish_is_compiled_while_it_lasts() -> None:
    model = small_model()
    with compiled(model, "mish") as network:
        assert network is model
        assert model[2].forward is compiled_mish
    assert type(model[2].forward(torch.zeros(1)).grad_fn) is type(None)
    assert "forward" not in vars(model[2])


def test_a_machine_that_cannot_compile_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(function: object) -> Callable[[Tensor], Tensor]:
        raise RuntimeError("no working C++ compiler found")

    monkeypatch.setattr(_compiled, "_kernel", broken)
    wanted = r"train\.compile is mish, but torch cannot compile here \(no working .*\): install"
    with pytest.raises(TrainingError, match=wanted):
        run_training(tmp_path, small_model(), compile="mish")
    assert not list(tmp_path.iterdir())
