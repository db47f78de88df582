"""Inputs that are not square or not RGB: decoded, cached, normalised, and inside an .onnx file."""

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.parser import parse_model
from PIL import Image

from builders import QUICK
from foldbench.bench.config.files import load
from foldbench.bench.datasets import digits, imagefolder
from foldbench.bench.errors import ConfigError
from foldbench.bench.images.image_set import DataOptions, ImageSize
from foldbench.bench.images.pixels import fit, fit_all, read
from foldbench.bench.predict.image_model import open_file, run_image_model
from foldbench.bench.predict.picture import fit_picture
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Preprocessing, Resize
from foldbench.bench.stages.train import train
from foldbench.bench.store.directory import Paths
from foldbench.exporters.image_input import add_preprocessing


def noise(height: int, width: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def test_cover_cuts_the_largest_part_of_the_wanted_proportions() -> None:
    image = noise(40, 100)
    found = np.asarray(fit(image, (20, 10)))
    expected = image.resize((10, 20), Image.Resampling.BILINEAR, box=(40, 0, 60, 40))
    np.testing.assert_array_equal(found, np.asarray(expected))
    wide = image.resize((50, 10), Image.Resampling.BILINEAR, box=(0, 10, 100, 30))
    np.testing.assert_array_equal(np.asarray(fit(image, (10, 50))), np.asarray(wide))


@pytest.mark.parametrize("resize", [Resize(stretch=True), Resize(shorter_side=30), Resize()])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_way_of_resizing_gives_the_asked_shape(resize: Resize, channels: int) -> None:
    stream = io.BytesIO()
    noise(33, 47).save(stream, "PNG")
    pixels, _ = read(stream.getvalue(), (16, 24), "x", resize, channels)
    assert pixels.shape == (channels, 16, 24)
    assert pixels.dtype == np.uint8
    whole = np.asarray(noise(33, 47)).transpose(2, 0, 1)[None]
    np.testing.assert_array_equal(fit_all(whole, (16, 24), resize, channels)[0], pixels)


def test_a_grey_image_keeps_its_values_in_one_channel() -> None:
    grey = np.random.default_rng(1).integers(0, 256, (8, 8), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "PNG")
    np.testing.assert_array_equal(read(stream.getvalue(), 8, "x", channels=1)[0][0], grey)


def test_the_cache_keeps_shapes_apart(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "i" / split / name).mkdir(parents=True)
            noise(9, 9).save(tmp_path / "i" / split / name / "0.png")
    shapes: list[tuple[ImageSize, int]] = [(8, 3), ((8, 12), 3), (8, 1)]
    for _ in range(2):
        for size, channels in shapes:
            options = DataOptions(
                tmp_path / "i", False, size, tmp_path / "cache", channels=channels
            )
            images = imagefolder.load(options).test.images
            assert images.shape[1:] == options.shape
    assert len(list((tmp_path / "cache" / "imagefolder").iterdir())) == len(shapes)


def test_image_files_have_one_or_three_channels(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.channels: found 4.*arrays"):
        digits.load(DataOptions(None, False, 8, tmp_path, channels=4))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.mean=[0.1307]", (0.1307,)),
        ("data.mean=[0.2, 0.2, 0.2]", (0.2,)),
    ],
)
def test_a_mean_that_is_the_same_for_all_channels_is_repeated(
    override: str, expected: tuple[float, ...]
) -> None:
    data = load("digits", ["data.channels=1", override]).config.data
    assert (data.mean, data.std) == (expected, (0.5,))
    assert load("digits", [override]).config.data.mean == expected * 3


def test_a_size_given_twice_is_the_same_setting() -> None:
    as_list, as_number = (load("digits", [f"data.image_size={s}"]) for s in ("[32, 32]", "32"))
    assert as_list.as_dict() == as_number.as_dict()


def test_one_value_too_many_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.mean: found 3 values, and data.channels is 1"):
        load("digits", ["data.channels=1", "data.mean=[0.1, 0.2, 0.3]"])


@pytest.mark.parametrize("resize", [Resize(), Resize(stretch=True), Resize(shorter_side=24)])
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 24), (1, 24, 16)])
def test_a_file_with_preprocessing_inside_sees_what_is_seen_outside(
    tmp_path: Path, shape: tuple[int, int, int], resize: Resize
) -> None:
    channels, tall, wide = shape
    size = channels * tall * wide
    network = parse_model(f"""<ir_version: 8, opset_import: ["": 18]>
        net (float[batch, {channels}, {tall}, {wide}] x) => (float[batch, {size}] y)
        {{ y = Flatten<axis=1>(x) }}""")
    half = (0.5,) * channels
    preprocessing = Preprocessing(input_shape=shape, mean=half, std=half, resize=resize)
    path = tmp_path / "image.onnx"
    onnx.save(add_preprocessing(network, preprocessing, softmax=False), path)
    image = noise(5, 7).resize((60, 40), Image.Resampling.BICUBIC)  # smooth, as photographs are
    with open_file(path) as session:
        inside = run_image_model(session, np.asarray(image))
    outside = fit_picture(image, preprocessing, "x")[0].astype(np.float32) / 255
    gap = np.abs(inside.reshape(shape) - (outside - 0.5) / 0.5)
    # At the edge of what is cut out, Pillow looks at the pixels beyond; it cuts at fractions.
    assert gap[:, 2:-2, 2:-2].max() <= 4.01 / 255 / 0.5


def test_a_network_of_one_channel_and_two_sides_is_trained(tmp_path: Path) -> None:
    overrides = (*QUICK, "data.channels=1", "data.image_size=[16, 24]")
    run = train(load("digits", overrides), Paths(tmp_path, tmp_path / "c"), NullListener())
    assert run.checkpoint().preprocessing.input_shape == (1, 16, 24)
