"""What becomes of a single image file."""

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foldbench.bench.errors import DataError
from foldbench.bench.images.decode import decoded
from foldbench.bench.images.pixels import fit, fit_all, read
from foldbench.bench.records import Resize


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def corners(size: int = 8) -> Image.Image:
    """Return an image that is red, green, blue and white in its four quarters."""
    half = size // 2
    image = Image.new("RGB", (size, size))
    for index, colour in enumerate(("red", "lime", "blue", "white")):
        image.paste(colour, (index % 2 * half, index // 2 * half, size, size))
    return image


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_an_image_of_the_right_size_keeps_every_pixel(kind: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    pixels, found = read(encoded(image, kind), 8, "x")
    assert found == kind
    np.testing.assert_array_equal(pixels, np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 0xFFFF, np.uint16))
    else:
        image = Image.new("L", (8, 8), 255).convert(mode)
    assert (read(encoded(image), 8, "x")[0] == 255).all()


def test_sixteen_bit_grey_keeps_its_upper_bits_instead_of_saturating() -> None:
    image = Image.fromarray(np.full((8, 8), 0x4080, np.uint16))
    assert (read(encoded(image), 8, "x")[0] == 0x40).all()


def png_of_16_bits(values: np.ndarray) -> bytes:
    """Return (H, W, 3) uint16 as a PNG with 16 bits per channel, which Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width, _ = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_sixteen_bits_of_each_colour_keep_their_upper_eight() -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 65536, (8, 8, 3), np.uint16)
    pixels, _ = read(png_of_16_bits(values), 8, "x")
    np.testing.assert_array_equal(pixels, (values >> 8).transpose(2, 0, 1))


def test_cmyk_keeps_its_colours() -> None:
    pixels, _ = read(encoded(corners().convert("CMYK"), "TIFF"), 8, "x")
    np.testing.assert_array_equal(pixels[:, 0, 0], [255, 0, 0])


def test_cmyk_in_a_jpeg_keeps_its_colours() -> None:
    red = Image.new("RGB", (8, 8), "red").convert("CMYK")
    pixels, _ = read(encoded(red, "JPEG"), 8, "x")
    np.testing.assert_allclose(pixels[:, 4, 4], [255, 0, 0], atol=3)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_becomes_white(mode: str) -> None:
    image = Image.new(mode, (8, 8), (0, 0) if mode == "LA" else (0, 0, 0, 0))
    assert (read(encoded(image), 8, "x")[0] == 255).all()


def test_a_transparent_palette_colour_becomes_white_without_a_warning() -> None:
    image = corners().quantize(4)
    index = image.getpixel((0, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels, _ = read(encoded(image, "GIF", transparency=index), 8, "x")
    np.testing.assert_array_equal(pixels[:, 0, 0], [255, 255, 255])
    np.testing.assert_array_equal(pixels[:, 7, 0], [0, 0, 255])


def test_the_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees
    pixels, _ = read(encoded(corners(), exif=exif), 8, "x")
    np.testing.assert_array_equal(pixels[:, 0, 7], [255, 0, 0])


def test_the_first_picture_of_a_moving_one_is_taken() -> None:
    second = Image.new("RGB", (8, 8), "black")
    data = encoded(corners(), "GIF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(read(data, 8, "x")[0][:, 0, 0], [255, 0, 0])


def test_two_pictures_of_a_camera_in_one_jpeg_are_read() -> None:
    data = encoded(corners(), "MPO", save_all=True, append_images=[corners()])
    assert read(data, 8, "x")[0].shape == (3, 8, 8)


def test_a_wide_image_is_cut_at_both_sides() -> None:
    image = Image.new("RGB", (24, 8), "black")
    image.paste("white", (8, 0, 16, 8))
    assert (read(encoded(image), 8, "x")[0] == 255).all()


def test_scaling_down_averages_instead_of_skipping_pixels() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    pixels, _ = read(encoded(Image.fromarray(stripes)), 8, "x")
    assert abs(pixels[:, 1:-1, 1:-1].astype(int) - 127).max() <= 8


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(1, 40))
def test_any_image_fits_and_a_plain_one_stays_plain(width: int, height: int, size: int) -> None:
    image = Image.new("RGB", (width, height), (10, 200, 77))
    fitted = np.asarray(fit(image, size))
    assert fitted.shape == (size, size, 3)
    assert (fitted == (10, 200, 77)).all()


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 60), height=st.integers(1, 60), size=st.integers(1, 40))
def test_the_centre_stays_the_centre(width: int, height: int, size: int) -> None:
    symmetric = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    symmetric = np.maximum(symmetric, symmetric[:, ::-1])
    fitted = np.asarray(fit(Image.fromarray(symmetric), size)).astype(int)
    assert abs(fitted - fitted[:, ::-1]).max() <= 1


def test_a_very_long_image_needs_no_memory_for_what_is_cut_off() -> None:
    assert fit(Image.new("RGB", (60_000, 1)), 1024).size == (1024, 1024)


def test_no_more_threads_decode_than_the_control_group_gives_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("foldbench.bench.machine.environment.usable_cpus", lambda: tuple(range(64)))
    monkeypatch.setattr("foldbench.bench.machine.environment.cgroup_cores", lambda root: 5.0)
    threads: list[int] = []

    def pool(workers: int, **options: str) -> ThreadPoolExecutor:
        threads.append(workers)
        return ThreadPoolExecutor(workers)

    monkeypatch.setattr("foldbench.bench.images.pixels.ThreadPoolExecutor", pool)
    monkeypatch.setattr("foldbench.bench.images.decode.ThreadPoolExecutor", pool)
    fit_all(np.zeros((3, 3, 8, 8), np.uint8), 4)
    assert list(decoded([], 4)) == []
    assert threads == [5, 5]


def test_an_array_of_images_is_scaled_like_single_ones() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 9, 9), np.uint8)
    scaled = fit_all(images, 6)
    one = Image.fromarray(np.ascontiguousarray(images[3].transpose(1, 2, 0)))
    np.testing.assert_array_equal(scaled[3], np.asarray(fit(one, 6)).transpose(2, 0, 1))
    assert fit_all(images, 9) is images


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_cut_image_is_refused_by_name(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(DataError, match=r"^the/file\.x is .*damaged"):
        read(data[: int(len(data) * share)], 8, "the/file.x")


def test_an_image_of_another_kind_is_refused() -> None:
    with pytest.raises(DataError, match=r"^x\.jpg is damaged .*: JPEG, PNG"):
        read(encoded(corners(), "ICO"), 8, "x.jpg")


def test_floating_point_pixels_are_refused() -> None:
    image = Image.fromarray(np.zeros((8, 8), np.float32))
    with pytest.raises(DataError, match="^x .*floating-point pixels"):
        read(encoded(image, "TIFF"), 8, "x")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [10, 40])
def test_a_huge_image_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match=r"^x is too large .*scale it") as caught:
        read(encoded(corners()), 8, "x")
    assert "attack" not in str(caught.value)


NOISE = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))
    for seed, (height, width) in enumerate([(40, 61), (61, 40), (24, 24), (33, 90), (32, 45)])
]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("image", NOISE, ids=lambda image: "x".join(map(str, image.size)))
def test_a_shorter_side_and_a_stretch_are_what_torchvision_does(
    image: Image.Image, interpolation: str
) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode
    from torchvision.transforms import Resize as TorchvisionResize

    mode = InterpolationMode(interpolation)
    expected = Compose([TorchvisionResize(32, mode), CenterCrop(24)])(image)
    found = fit(image, 24, Resize(shorter_side=32, interpolation=interpolation))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    expected = TorchvisionResize((24, 24), mode)(image)
    found = fit(image, 24, Resize(stretch=True, interpolation=interpolation))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_an_image_too_thin_for_its_shorter_side_is_refused_before_it_takes_the_memory() -> None:
    data = encoded(Image.new("RGB", (60_000, 1)))
    with pytest.raises(DataError, match=r"^thin\.png .*60000 x 1 .*15360000 x 256"):
        read(data, 224, "thin.png", Resize(shorter_side=256))


def test_a_resize_is_one_or_the_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        Resize(shorter_side=256, stretch=True)


def test_an_array_that_fits_is_resized_nevertheless_when_its_shorter_side_is_to_be_longer() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 9), np.uint8)
    assert not np.array_equal(fit_all(images, 9, Resize(shorter_side=12)), images)
