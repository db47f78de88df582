"""Normalisations in the homework's networks: what each averages over, sizes, names, bias before."""

import numpy as np
import pytest
import torch
from torch import nn

from foldbench.bench.errors import ConfigError
from foldbench.exporters.export import ExportOptions, to_onnx
from foldbench.exporters.folding.fold import fold_linear
from foldbench.exporters.parity import check_parity
from foldbench.models.building.network import build_model
from foldbench.models.building.norms import KINDS, make_norm

SHAPE = (3, 32, 32)
NETWORKS = ("mish_cnn", "bn_cnn", "deep_mish")
NORMALISED = [kind for kind in KINDS if kind != "none"]
AXES = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3)}


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", AXES)
def test_each_normalisation_averages_over_what_it_says(kind: str) -> None:
    x = torch.randn(4, 16, 5, 5) * 3 + torch.arange(16)[:, None, None]
    y = make_norm(kind, 16, groups=4)(x)
    torch.testing.assert_close(y.mean(AXES[kind]), torch.zeros_like(y.mean(AXES[kind])), atol=1e-5,
                               rtol=0)  # fmt: skip
    variance = y.var(AXES[kind], unbiased=False)
    torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-3, rtol=0)


def test_group_normalisation_averages_over_the_channels_of_a_group() -> None:
    y = make_norm("group", 16, groups=4)(torch.randn(4, 16, 5, 5) + torch.arange(16)[:, None, None])
    grouped = y.reshape(4, 4, 4, 5, 5)
    torch.testing.assert_close(grouped.mean((2, 3, 4)), torch.zeros(4, 4), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "batch"])
@pytest.mark.parametrize("name", NETWORKS)
def test_without_batch_statistics_an_image_gets_the_same_logits_in_any_batch_and_mode(
    name: str, kind: str
) -> None:
    model = build_model(name, {"norm": kind}, 10, SHAPE).double().train()
    x = torch.randn(6, *SHAPE, dtype=torch.float64)
    with torch.no_grad():
        whole, part = model(x), model(x[:2])
        evaluated = model.eval()(x)
    torch.testing.assert_close(whole[:2], part)
    torch.testing.assert_close(whole, evaluated)


@pytest.mark.parametrize("name", NETWORKS)
def test_with_batch_normalisation_an_images_logits_in_training_depend_on_its_batch(
    name: str,
) -> None:
    model = build_model(name, {"norm": "batch"}, 10, SHAPE).train()
    x = torch.randn(6, *SHAPE)
    with torch.no_grad():
        assert not torch.allclose(model(x)[:2], model(x[:2]), atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_normalisation_has_a_scale_and_a_shift_for_each_channel(name: str) -> None:
    bare = size(build_model(name, {"norm": "none"}, 10, SHAPE))
    channels = {"mish_cnn": 160, "bn_cnn": 160, "deep_mish": 896 + 1024}[name]
    for kind in NORMALISED:
        spatial = 896 if (name, kind) == ("deep_mish", "instance") else channels
        assert size(build_model(name, {"norm": kind}, 10, SHAPE)) == bare + 2 * spatial, kind


def test_the_names_of_weights_are_those_of_checkpoints_from_before_there_was_a_choice() -> None:
    def names(model: str) -> list[str]:
        return list(build_model(model, {}, 10, SHAPE).state_dict())

    statistics = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    both = ["weight", "bias"]
    assert names("mish_cnn") == [
        f"{n}.{p}" for n in ("conv1", "conv2", "conv3", "fc") for p in both
    ]
    assert names("bn_cnn") == [
        *[
            f"{layer}{i}.{part}"
            for i in (1, 2, 3)
            for layer, parts in (("conv", both), ("bn", statistics))
            for part in parts
        ],
        "fc.weight",
        "fc.bias",
    ]
    convolutions = (0, 3, 7, 10, 14, 17)
    assert names("deep_mish") == [
        f"{place}.{number}.{part}"
        for place, layers in (("features", convolutions), ("classifier", (0, 3)))
        for layer in layers
        for number, parts in ((layer, both), (layer + 1, statistics))
        for part in parts
    ] + ["classifier.6.weight", "classifier.6.bias"]


@pytest.mark.parametrize("kind", NORMALISED)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_normalisation_trains(name: str, kind: str) -> None:
    model = build_model(name, {"norm": kind, "bias_before_norm": False}, 10, SHAPE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0003)
    x, labels = torch.randn(16, *SHAPE), torch.arange(16) % 10
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", ["layer", "instance", "group"])
def test_a_normalisation_that_cannot_be_folded_is_exported_as_it_is(
    kind: str, images: np.ndarray
) -> None:
    model = build_model("bn_cnn", {"norm": kind}, 10, SHAPE).eval()
    _, report = fold_linear(model, torch.from_numpy(images[:2]))
    assert report.batchnorms_before == 0
    exported = to_onnx(model, images[:2], ExportOptions(fold_bn=True, opset=20, passes=()))
    parity = check_parity(exported.SerializeToString(), model, images)
    assert parity.passed, parity.reason


def test_batch_normalisation_of_mish_cnn_folds_into_its_convolutions(images: np.ndarray) -> None:
    for bias in (True, False):
        arguments = {"norm": "batch", "bias_before_norm": bias}
        model = build_model("mish_cnn", arguments, 10, SHAPE).eval()
        _, report = fold_linear(model, torch.from_numpy(images[:2]))
        assert (report.batchnorms_before, report.batchnorms_after) == (3, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "grop"}, "norm 'grop' is unknown .known: batch, layer, instance, group, none"),
        ({"norm": "group", "groups": 7}, "must be divisible by num_groups"),
    ],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_an_impossible_normalisation_is_named(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(name, arguments, 10, SHAPE)


def test_mish_cnn_keeps_its_biases_where_nothing_makes_up_for_them() -> None:
    bare = build_model("mish_cnn", {"bias_before_norm": False}, 10, SHAPE)
    assert size(bare) == size(build_model("mish_cnn", {}, 10, SHAPE))
