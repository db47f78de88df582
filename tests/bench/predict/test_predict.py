"""What a network says about images, and what its layers make of them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from foldbench.bench.cli import cli
from foldbench.bench.errors import BenchError, CheckpointError, DataError, UnknownNameError
from foldbench.bench.predict.feature_maps import choose_layers, collect_maps, record_maps
from foldbench.bench.predict.networks import open_network
from foldbench.bench.predict.picture import open_picture
from foldbench.bench.store.directory import RunDirectory
from foldbench.models.building.network import build_model
from foldbench.models.zoo import networks
from foldbench.reports.pictures.feature_maps import draw_feature_maps

NETWORK = "timm:test_vit"


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny network that takes 160x160 pixels and knows ImageNet's classes."""
    torch.manual_seed(0)
    module = timm.create_model("test_vit")
    nn.init.normal_(module.head.weight, std=1.0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(module.state_dict(), path)
    return path


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FOLDBENCH_RUNS", str(tmp_path / "runs"))

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), prog_name="bench")

    return call


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture with something in every corner, wider than high."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (6, 9, 3), np.uint8))
    path = tmp_path / "photo.png"
    coarse.resize((240, 180), Image.Resampling.BICUBIC).save(path)
    return path


def top_of(bench, weights: Path, *images: Path) -> list[list[tuple[str, float]]]:
    shown = bench("predict", NETWORK, *map(str, images), "--weights", str(weights), "--json")
    assert shown.exit_code == 0, shown.output
    return [
        [(guess["class"], guess["probability"]) for guess in image["predictions"][0]["top"]]
        for image in json.loads(shown.stdout)["images"]
    ]


def test_it_says_what_timm_says_with_timms_own_preprocessing(
    bench, weights: Path, photo: Path
) -> None:
    from timm.data import ImageNetInfo, create_transform, resolve_data_config

    network = networks.find_network(NETWORK)
    module = networks.create(network).eval()
    networks.fill(module, network, str(weights), download=False)
    with Image.open(photo) as image:
        x = create_transform(**resolve_data_config({}, model=module))(image.convert("RGB"))
    with torch.inference_mode():
        shares, classes = module(x[None]).softmax(1)[0].topk(3)
    ((*found,),) = top_of(bench, weights, photo)
    names = ImageNetInfo()
    assert [name for name, _ in found] == [names.index_to_description(int(c)) for c in classes]
    assert [p for _, p in found] == pytest.approx(shares.tolist(), abs=1e-5)


def test_the_text_names_the_network_the_weights_and_the_preprocessing(
    bench, weights: Path, photo: Path
) -> None:
    shown = bench("predict", NETWORK, str(photo), "--weights", str(weights), "--top", "2")
    assert shown.exit_code == 0, shown.output
    header, _, backend, *guesses = shown.stdout.splitlines()
    named = ("timm:test_vit", "tiny.safetensors", "168", "160x160", "bicubic")
    assert all(part in header for part in named)
    assert backend.strip() == "torch"
    assert len(guesses) == 2


def test_grey_rgba_cmyk_16_bit_and_rotated_files_mean_the_same_picture(
    bench, weights: Path, photo: Path, tmp_path: Path
) -> None:
    with Image.open(photo) as image:
        grey = image.convert("L")
        grey.convert("RGB").save(tmp_path / "plain.png")
        grey.save(tmp_path / "grey.png")
        opaque = grey.convert("RGBA")
        opaque.save(tmp_path / "rgba.png")
        grey.convert("RGB").convert("CMYK").save(tmp_path / "cmyk.tif")
        wide = np.asarray(grey).astype(np.uint16) * 256
        Image.fromarray(wide).save(tmp_path / "wide.png")
        turned = grey.convert("RGB").transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
        turned.save(tmp_path / "turned.png", exif=exif)
    names = ("plain.png", "grey.png", "rgba.png", "cmyk.tif", "wide.png", "turned.png")
    found = top_of(bench, weights, *(tmp_path / name for name in names))
    for name, guesses in zip(names, found, strict=True):
        assert [c for c, _ in guesses] == [c for c, _ in found[0]], name
        assert [p for _, p in guesses] == pytest.approx([p for _, p in found[0]], abs=1e-3), name


def test_what_is_no_image_is_told_and_the_others_are_answered(
    bench, weights: Path, photo: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:500])
    Image.new("1", (12_000, 12_000)).save(tmp_path / "huge.png")
    Image.new("1", (60_000, 1)).save(tmp_path / "thin.png")
    names = ("text.jpg", "cut.png", "huge.png", "thin.png", "missing.png")
    images = [str(tmp_path / name) for name in names]
    shown = bench("predict", NETWORK, *images, str(photo), "--weights", str(weights))
    assert shown.exit_code == 1
    refused = [line for line in shown.stdout.splitlines() if "not read:" in line]
    for line, words in zip(
        refused,
        ("no image", "damaged image", "too large", "too large", "cannot be read"),
        strict=True,
    ):
        assert words in line
    assert "5 of 6 images" in shown.stderr
    assert "torch" in shown.stdout


def test_other_weights_are_refused(bench, weights: Path, photo: Path) -> None:
    shown = bench("predict", "resnet18", str(photo), "--weights", str(weights))
    assert shown.exit_code == 1
    assert str(weights) in shown.stderr
    assert "conv1.weight" in shown.stderr
    assert len(shown.stderr.strip().splitlines()) == 1


def test_a_run_answers_with_its_own_classes(trained_run: RunDirectory, photo: Path) -> None:
    call = ["predict", trained_run.name, str(photo), "--runs", str(trained_run.path.parent)]
    said = json.loads(CliRunner().invoke(cli, [*call, "--json"]).stdout)
    guesses = said["images"][0]["predictions"][0]["top"]
    assert {guess["class"] for guess in guesses} <= set("0123456789")
    assert said["network"] == trained_run.name


def test_a_network_without_weights_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="weights"):
        open_network("resnet18", "none", False, tmp_path)


def test_a_run_with_random_weights_says_nothing_either(own_run: RunDirectory) -> None:
    random = own_run.checkpoint().model_copy(update={"random_weights": True})
    own_run.write_checkpoint(random)
    with pytest.raises(CheckpointError, match=own_run.name):
        open_network(own_run.name, None, False, own_run.path.parent)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_before_it_is_read(make, tmp_path: Path) -> None:
    make(tmp_path / "photo.png")
    with pytest.raises(DataError, match=r"photo\.png"):
        open_picture(tmp_path / "photo.png")


def test_weights_that_are_not_finite_give_no_answer_and_no_maps(
    bench, weights: Path, photo: Path, tmp_path: Path
) -> None:
    state = load_file(weights)
    state["norm.weight"][:] = float("nan")
    state["blocks.0.norm1.weight"][:] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    given = (NETWORK, str(photo), "--weights", str(tmp_path / "nan.safetensors"))
    shown = bench("predict", *given)
    assert shown.exit_code == 1
    assert "not all finite" in shown.stdout
    shown = bench("features", *given, "--out", str(tmp_path))
    assert shown.exit_code == 1
    assert "not all finite" in shown.stderr


def test_features_refuse_an_image_by_its_name(
    bench, weights: Path, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:500])
    Image.new("1", (60_000, 1)).save(tmp_path / "thin.png")
    for name, words in (("cut.png", "is a damaged image"), ("thin.png", "is too large to decode")):
        image = str(tmp_path / name)
        shown = bench("features", NETWORK, image, "--weights", str(weights))
        assert shown.exit_code == 1
        assert shown.stderr.startswith(f"Error: {image} {words}")
        assert len(shown.stderr.splitlines()) == 1


def test_an_unknown_name_lists_the_runs_too(trained_run: RunDirectory) -> None:
    with pytest.raises(UnknownNameError, match=f"'digts'.*{trained_run.name}"):
        open_network("digts", None, False, trained_run.path.parent)


@pytest.mark.parametrize(
    ("name", "layers", "sides"),
    [
        ("resnet18", ("layer1", "layer2", "layer3"), (56, 28, 14)),
        ("torchvision:swin_t", ("features.1", "features.3", "features.5"), (56, 28, 14)),
        ("timm:tf_efficientnet_lite0", ("blocks.1", "blocks.2", "blocks.4"), (56, 28, 14)),
        ("timm:vit_tiny_patch16_224", ("blocks.2", "blocks.5", "blocks.8"), (14, 14, 14)),
    ],
)
def test_early_middle_and_late_are_the_ends_of_stages_or_blocks(name, layers, sides) -> None:
    module = networks.create(networks.find_network(name)).eval()
    found = record_maps(module, np.zeros((1, 3, 224, 224), np.float32))
    assert choose_layers(module, found) == layers
    assert tuple(found[layer].shape[-1] for layer in layers) == sides


def test_a_run_has_the_layers_of_the_network_it_was_made_of() -> None:
    own = networks.create(networks.find_network("tf_efficientnet_lite0")).eval()
    args = {"arch": "tf_efficientnet_lite0"}
    inside = build_model("pretrained", args, 3, (3, 224, 224)).backbone.eval()
    x = np.zeros((1, 3, 224, 224), np.float32)
    chosen = [choose_layers(module, record_maps(module, x)) for module in (own, inside)]
    assert chosen[0] == chosen[1], "fixed padding is no stage"


def test_maps_are_what_the_layer_gives_whatever_its_layout() -> None:
    class Tokens(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            patches = x.flatten(2).transpose(1, 2)
            return torch.cat([torch.zeros(1, 1, 3), patches], 1)

    class Last(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.permute(0, 2, 3, 1)

    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    for part in (nn.Identity(), Tokens(), Last()):
        ((*found,),) = (collect_maps(nn.Sequential(part), x, ["0"]),)
        np.testing.assert_array_equal(found[0].maps, x[0])


def test_a_layer_that_is_unknown_or_makes_no_maps_is_told() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())
    x = np.zeros((1, 3, 8, 8), np.float32)
    with pytest.raises(UnknownNameError, match="'2' .*early, middle, late"):
        collect_maps(module, x, ["2"])
    with pytest.raises(BenchError, match="'1'"):
        collect_maps(module, x, ["1"])
    with pytest.raises(BenchError, match="no layer"):
        collect_maps(nn.Sequential(nn.Flatten()), x, ["early"])


def test_maps_share_one_scale_of_grey() -> None:
    maps = np.stack([np.full((4, 4), value, np.float32) for value in (-2.0, 0.0, 2.0)])
    picture = np.asarray(draw_feature_maps(maps, "x"))
    middle = picture[picture.shape[0] // 2 + 20]
    assert {0, 128, 255} <= set(middle.tolist())
    assert draw_feature_maps(np.zeros((1, 4, 4), np.float32), "constant").mode == "L"


def test_the_command_writes_a_picture_for_each_layer(
    bench, weights: Path, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "maps"
    shown = bench(
        "features", NETWORK, str(photo), "--weights", str(weights), "--out", str(out),
        "--layers", "early,blocks.5", "--maps", "3", "--json",
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    first, second = json.loads(shown.stdout)["layers"]
    assert first["place"] == "early"
    assert second["layer"] == "blocks.5"
    for layer in (first, second):
        with Image.open(layer["path"]) as picture:
            assert picture.format == "PNG"
            assert picture.size[0] >= 3 * 224
