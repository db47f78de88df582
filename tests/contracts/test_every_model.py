"""What every registered model keeps to: shapes, gradients, folding and export."""

import numpy as np
import pytest
import torch
from torch import nn

from foldbench.bench.analysis.logits import measure_agreement
from foldbench.bench.errors import ConfigError
from foldbench.bench.registry import MODELS
from foldbench.exporters.export import ExportOptions, count_batchnorm_nodes, to_onnx
from foldbench.exporters.folding.fold import count_batchnorms, fold_linear
from foldbench.exporters.parity import check_parity
from foldbench.models.building.network import build_model

SHAPE = (3, 32, 32)

# Parameters counted by hand from the homework's listings, ten classes, 32x32 RGB: a convolution has
# out * (in * k * k + 1), a linear layer out * (in + 1), BatchNorm 2 per channel.
HOMEWORK_PARAMETERS = {
    "mish_cnn": 32 * (3 * 49 + 1) + 64 * (32 * 9 + 1) + 64 * (64 * 9 + 1) + 10 * 65,
    "bn_cnn": 32 * (3 * 49 + 1) + 64 * (32 * 9 + 1) + 64 * (64 * 9 + 1) + 10 * 65 + 2 * 160,
    "deep_mish": sum(o * (i * 9 + 1) + 2 * o for i, o in zip(
        (3, 64, 64, 128, 128, 256), (64, 64, 128, 128, 256, 256), strict=True))
    + 512 * (4096 + 1) + 512 * (512 + 1) + 10 * (512 + 1) + 4 * 512,
}  # fmt: skip

# Shapes after each step of the homework's forward functions, for a batch of 2.
HOMEWORK_SHAPES = {
    "mish_cnn": [
        ("Conv2d", (2, 32, 32, 32)), ("MaxPool2d", (2, 32, 16, 16)), ("Mish", (2, 32, 16, 16)),
        ("Conv2d", (2, 64, 16, 16)), ("Mish", (2, 64, 16, 16)), ("Conv2d", (2, 64, 16, 16)),
        ("Mish", (2, 64, 16, 16)), ("AdaptiveAvgPool2d", (2, 64, 1, 1)), ("Linear", (2, 10)),
    ],
    "bn_cnn": [
        ("Conv2d", (2, 32, 26, 26)), ("BatchNorm2d", (2, 32, 26, 26)), ("Mish", (2, 32, 26, 26)),
        ("MaxPool2d", (2, 32, 13, 13)), ("Conv2d", (2, 64, 11, 11)),
        ("BatchNorm2d", (2, 64, 11, 11)), ("Mish", (2, 64, 11, 11)), ("Conv2d", (2, 64, 9, 9)),
        ("BatchNorm2d", (2, 64, 9, 9)), ("Mish", (2, 64, 9, 9)),
        ("AdaptiveAvgPool2d", (2, 64, 1, 1)), ("Linear", (2, 10)),
    ],
    "deep_mish": [
        step
        for filters, size in ((64, 32), (128, 16), (256, 8))
        for step in [
            *[(kind, (2, filters, size, size)) for kind in ("Conv2d", "BatchNorm2d", "Mish")] * 2,
            ("MaxPool2d", (2, filters, size // 2, size // 2)),
        ]
    ]
    + [(kind, (2, 512)) for kind in ("Linear", "BatchNorm1d", "Mish")] * 2
    + [("Linear", (2, 10))],
}  # fmt: skip


def randomise_batchnorm(model: nn.Module) -> None:
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)


@pytest.fixture(params=MODELS.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(name: str) -> nn.Module:
    built = build_model(name, {}, 10, SHAPE)
    randomise_batchnorm(built)
    return built.eval()


def test_it_gives_one_finite_logit_per_class_at_any_batch_size(name: str) -> None:
    for classes, size in ((10, 1), (3, 5)):
        built = build_model(name, {}, classes, SHAPE).eval()
        logits = built(torch.randn(size, *SHAPE))
        assert logits.shape == (size, classes)
        assert logits.isfinite().all()


def test_every_parameter_gets_a_gradient_and_one_step_changes_it(name: str) -> None:
    model = build_model(name, {}, 10, SHAPE)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    loss = nn.functional.cross_entropy(model(torch.randn(8, *SHAPE)), torch.arange(8))
    loss.backward()
    optimizer.step()
    for key, value in model.named_parameters():
        assert value.grad is not None, key
        assert value.grad.isfinite().all(), key
        assert not torch.equal(value, before[key]), key


def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(build_model(name, {}, 10, SHAPE).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_it_refuses_arguments_that_it_does_not_take(name: str) -> None:
    with pytest.raises(ConfigError, match="has no such argument"):
        build_model(name, {"no_such_argument": 1}, 10, SHAPE)


def test_folding_leaves_no_batchnorm_and_the_same_function(
    model: nn.Module, images: np.ndarray
) -> None:
    x = torch.from_numpy(images)
    folded, report = fold_linear(model, x[:2])
    assert report.batchnorms_before == sum(
        isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()
    )
    assert (report.batchnorms_after, report.skipped) == (0, ())
    with torch.inference_mode():
        agreement = measure_agreement(model(x).numpy(), folded(x).numpy())
    assert agreement.max_rel_difference < 1e-5
    assert agreement.top1_equal == len(images)


@pytest.mark.parametrize("fold", [True, False])
def test_it_exports_with_a_dynamic_batch_and_computes_the_same(
    model: nn.Module, images: np.ndarray, fold: bool
) -> None:
    options = ExportOptions(fold_bn=fold, opset=20, passes=())
    network = fold_linear(model, torch.from_numpy(images[:2]))[0] if fold else model
    exported = to_onnx(network, images[:2], options)
    expected = 0 if fold else count_batchnorms(model, torch.from_numpy(images[:2]))
    assert count_batchnorm_nodes(exported) == expected
    parity = check_parity(exported.SerializeToString(), model, images)
    assert parity.passed, parity.reason
    assert {case.batch_size for case in parity.cases} - {2}, "a size other than the traced one"


@pytest.mark.parametrize("name", HOMEWORK_PARAMETERS)
def test_the_homework_models_have_the_parameters_of_its_code(name: str) -> None:
    model = build_model(name, {}, 10, SHAPE)
    assert sum(p.numel() for p in model.parameters()) == HOMEWORK_PARAMETERS[name]


@pytest.mark.parametrize("name", HOMEWORK_SHAPES)
def test_the_homework_models_take_the_steps_of_its_code_in_order(name: str) -> None:
    model = build_model(name, {}, 10, SHAPE).eval()
    steps: list[tuple[str, tuple[int, ...]]] = []
    for part in model.modules():
        if not list(part.children()):
            part.register_forward_hook(
                lambda module, _, output: steps.append((type(module).__name__, (*output.shape,)))
            )
    model(torch.zeros(2, *SHAPE))
    assert steps == HOMEWORK_SHAPES[name]
