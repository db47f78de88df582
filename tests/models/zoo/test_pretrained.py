"""Networks of torchvision and timm: found, filled, prepared for a new classifier."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from foldbench.bench.errors import BenchError, CheckpointError, ConfigError, UnknownNameError
from foldbench.bench.images.pixels import fit
from foldbench.bench.images.preprocessing import preprocess
from foldbench.exporters.folding.fold import fold_linear
from foldbench.models.building.foreign_weights import fit_classes
from foldbench.models.building.network import build_model
from foldbench.models.pretrained import build_filled
from foldbench.models.zoo import networks
from foldbench.models.zoo import timm as _timm_zoo
from foldbench.models.zoo import torchvision as _torchvision_zoo

SHAPE = (3, 64, 64)


def randomised(arch: str) -> nn.Module:
    """Return timm's network with BatchNorm statistics that matter."""
    torch.manual_seed(0)
    module = timm.create_model(arch)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return module


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of tf_efficientnet_lite0, which pads by the size of its input."""
    path = tmp_path / "lite0.safetensors"
    save_file(randomised("tf_efficientnet_lite0").state_dict(), path)
    return path


def filled(weights: Path, **args: object) -> nn.Module:
    return build_filled(
        weights=str(weights), download=False, classes=3, input_shape=SHAPE,
        source="timm", arch="tf_efficientnet_lite0", **args,
    )[0].eval()  # fmt: skip


def original(weights: Path) -> nn.Module:
    module = timm.create_model("tf_efficientnet_lite0")
    module.load_state_dict(load_file(weights))
    module.reset_classifier(0)
    return module


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("resnet50", "torchvision:resnet50"),
        ("timm:resnet50", "timm:resnet50"),
        ("tf_efficientnet_lite0", "timm:tf_efficientnet_lite0"),
        ("timm:resnet50.a1_in1k", "timm:resnet50.a1_in1k"),
    ],
)
def test_a_network_is_found_by_name(text: str, name: str) -> None:
    assert networks.find_network(text).name == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("resnt50", "did you mean 'resnet50'?"),
        ("torchvision:tf_efficientnet_lite0", "no network 'tf_efficientnet_lite0' in torchvision"),
        ("keras:resnet50", "'keras' (known: torchvision, timm)"),
    ],
)
def test_an_unknown_network_is_told(text: str, words: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        networks.find_network(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("arch", ["resnet50", "swin_t", "efficientnet_b1", "vit_b_16"])
def test_torchvisions_preprocessing_is_that_of_its_weights(arch: str) -> None:
    from torchvision.models import get_model_weights

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (301, 399, 3), np.uint8))
    found = networks.preprocessing_of(networks.find_network(arch), "default")
    expected = get_model_weights(arch).DEFAULT.transforms()(image)
    assert_same_input(found, image, expected)


@pytest.mark.parametrize("arch", ["tf_efficientnet_lite0", "swin_tiny_patch4_window7_224"])
def test_timms_preprocessing_is_that_of_its_data_configuration(arch: str) -> None:
    from timm.data import create_transform, resolve_data_config

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (301, 399, 3), np.uint8))
    settings = resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(arch).to_dict())
    found = networks.preprocessing_of(networks.find_network(f"timm:{arch}"), "default")
    assert_same_input(found, image, create_transform(**settings)(image))


def assert_same_input(found, image: Image.Image, expected: torch.Tensor) -> None:
    square = np.asarray(fit(image, found.input_shape[-1], found.resize)).transpose(2, 0, 1)
    np.testing.assert_allclose(preprocess(square[None], found)[0], expected.numpy(), atol=1e-5)


def test_a_preprocessing_that_cannot_be_expressed_is_refused() -> None:
    with pytest.raises(ValueError, match="crop mode 'border'"):
        _timm_zoo._resize(224, 0.9, "border", "bicubic")
    assert _timm_zoo._resize(224, 1.0, "squash", "bilinear").stretch


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("resnet50", "IMAGENET1K_V9", "known: IMAGENET1K_V1, IMAGENET1K_V2"),
        ("timm:resnet50", "IMAGENET1K_V1", "IMAGENET1K_V1"),
        ("resnet50", "no/such/file", "no/such/file"),
        ("timm:test_vit2", "default", ": --download"),
    ],
)
def test_weights_that_are_not_to_be_had_are_told(
    name: str, given: str, words: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(_timm_zoo, "try_to_load_from_cache", lambda *_: None)
    network = networks.find_network(name)
    with pytest.raises(BenchError) as caught:
        networks.fill(networks.create(network), network, given, download=False)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_torchvision_fetches_nothing_without_leave_and_fails_in_one_line(
    tmp_path: Path, monkeypatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(CheckpointError, match=r"not on this machine .*--download"):
        _torchvision_zoo.locate("resnet18", "default", download=False)
    with pytest.raises(CheckpointError, match="https://.*no route to host"):
        _torchvision_zoo.locate("resnet18", "default", download=True)


def test_timm_fails_in_one_line_without_a_network(monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(_timm_zoo, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(_timm_zoo, "hf_hub_download", fail)
    with pytest.raises(CheckpointError, match="timm/test_vit.*no route to host"):
        _timm_zoo.locate("test_vit", "default", download=True)


def test_a_cached_file_is_checked_by_the_hash_in_its_name(tmp_path: Path, monkeypatch) -> None:
    import hashlib

    from torchvision.models import resnet18

    torch.manual_seed(1)
    state = resnet18(weights=None).state_dict()
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    torch.save(state, folder / "new.pth")
    prefix = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    class Entry:
        name = "MINE"
        url = f"https://example.org/resnet18-{prefix}.pth"

    monkeypatch.setattr(_torchvision_zoo, "_entry", lambda *_: Entry)
    cached = (folder / "new.pth").rename(folder / f"resnet18-{prefix}.pth")
    network = networks.find_network("resnet18")
    module = networks.create(network)
    assert networks.fill(module, network, "default", download=False).title == "MINE"
    assert torch.equal(module.conv1.weight, state["conv1.weight"])
    cached.write_bytes(cached.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="sha256"):
        networks.fill(module, network, "default", download=False)


def test_timms_files_are_read_through_timm(weights: Path) -> None:
    state = _timm_zoo.read("tf_efficientnet_lite0", weights)
    expected = load_file(weights)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in state)


def test_weights_of_another_network_are_refused(weights: Path) -> None:
    network = networks.find_network("resnet18")
    with pytest.raises(CheckpointError, match="does not fit ResNet: .* missing"):
        networks.fill(networks.create(network), network, str(weights), download=False)


def test_a_damaged_file_is_refused(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:1000])
    network = networks.find_network("tf_efficientnet_lite0")
    with pytest.raises(CheckpointError, match="no whole .safetensors file"):
        networks.fill(networks.create(network), network, str(weights), download=False)


def test_counters_that_a_file_leaves_out_are_no_fault(weights: Path, tmp_path: Path) -> None:
    state = load_file(weights)
    kept = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    save_file(kept, tmp_path / "less.safetensors")
    network = networks.find_network("tf_efficientnet_lite0")
    found = networks.fill(
        networks.create(network), network, str(tmp_path / "less.safetensors"), False
    )
    assert not found.random


def test_a_new_classifier_leaves_the_features_as_they_were(weights: Path) -> None:
    x = torch.randn(2, *SHAPE)
    with torch.inference_mode():
        expected = original(weights).eval()(x)
        assert torch.equal(filled(weights).backbone(x), expected)
        normalised = filled(weights).features(x)
        raw = filled(weights, l2_normalise=False).features(x)
    assert torch.equal(raw, expected)
    torch.testing.assert_close(normalised, expected / expected.norm(dim=1, keepdim=True))


def test_per_image_statistics_are_train_mode_one_image_at_a_time(weights: Path) -> None:
    x = torch.randn(3, *SHAPE, dtype=torch.float64)
    reference = original(weights).train().double()
    with torch.no_grad():
        one_by_one = torch.cat([reference(image[None]) for image in x])
        found = filled(weights, batchnorm="per_image").double().backbone(x)
        running = filled(weights).double().backbone(x)
    torch.testing.assert_close(found, one_by_one)
    assert not torch.allclose(running, one_by_one, rtol=0.1)


def test_padding_by_the_input_is_fixed_so_that_every_batchnorm_folds(weights: Path) -> None:
    x = torch.randn(2, *SHAPE)
    model = filled(weights)
    folded, report = fold_linear(model, x)
    assert (report.batchnorms_before, report.batchnorms_after) == (49, 0)
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "pooled", "features"),
    [
        ("torchvision:resnet18", True, 512),
        ("torchvision:resnet18", False, 512 * 2 * 2),
        ("torchvision:vgg11", True, 4096),
        ("timm:test_efficientnet", True, 256),
        ("timm:test_efficientnet", False, 256 * 2 * 2),
    ],
)
def test_features_are_pooled_or_the_whole_map(arch: str, pooled: bool, features: int) -> None:
    model = build_model("pretrained", {"arch": arch, "pooled": pooled}, 5, SHAPE)
    assert model.head.in_features == features


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"arch": "squeezenet1_0"}, "squeezenet1_0"),
        ({"arch": "vgg11", "pooled": 3}, None),
        ({"arch": "mobilenet_v2", "pooled": False}, "mobilenet_v2"),
        ({"arch": "no_such_network"}, "no network 'no_such_network'"),
        ({"arch": "resnet18", "batchnorm": "none"}, "allowed: running, per_image"),
        ({"arch": "resnet18", "pool": True}, "did you mean 'pooled'?"),
    ],
)
def test_what_cannot_be_built_is_told(args: dict, words: str | None) -> None:
    if words is None:
        assert build_model("pretrained", args, 5, SHAPE)
        return
    with pytest.raises(BenchError) as caught:
        build_model("pretrained", args, 5, SHAPE)
    assert words in str(caught.value)


def test_a_batchnorm_of_an_unknown_kind_is_not_replaced() -> None:
    from foldbench.models.zoo.backbone import normalise_each_image

    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    with pytest.raises(ConfigError, match="is a BatchNorm1d"):
        normalise_each_image(module, "mine")


def test_the_hash_of_weights_follows_every_tensor(weights: Path) -> None:
    module = original(weights)
    same, other = copy.deepcopy(module), copy.deepcopy(module)
    with torch.no_grad():
        other.conv_stem.weight[0, 0, 0, 0] += 1
    assert networks.hash_state(module) == networks.hash_state(same) != networks.hash_state(other)


def test_a_pickle_of_a_wrapped_network_fills_it(weights: Path, tmp_path: Path) -> None:
    state = load_file(weights)
    torch.save({"model": {f"module.{n}": v.half() for n, v in state.items()}}, tmp_path / "w.pt")
    network = networks.find_network("tf_efficientnet_lite0")
    module = networks.create(network)
    found = networks.fill(module, network, str(tmp_path / "w.pt"), download=False)
    assert ["module." in note or "float16" in note for note in found.notes] == [True, True]
    assert torch.equal(module.conv_stem.weight, state["conv_stem.weight"].half().float())


def test_densenets_files_have_names_of_an_older_form(tmp_path: Path) -> None:
    network = networks.find_network("densenet121")
    state = networks.create(network).state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", n): v for n, v in state.items()}
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "w.pth")
    assert _torchvision_zoo.read("densenet121", tmp_path / "w.pth").keys() == state.keys()


def test_imagenets_classes_have_ids() -> None:
    network = networks.find_network("torchvision:squeezenet1_1")
    names = networks.classes_of(network, networks.create(network))
    ids = networks.class_ids_of(names)
    assert (names[0], ids[0], ids[999]) == ("tench", "n01440764", "n15075141")
    assert networks.class_ids_of(names[:7]) == ()


def test_the_head_of_fine_tuned_weights_is_found(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_mambaout", num_classes=5).state_dict(), tmp_path / "w.pt")
    assert fit_classes(
        lambda classes: timm.create_model("test_mambaout", num_classes=classes),
        tmp_path / "w.pt", default=1000,
    ) == 5  # fmt: skip
