"""Images to make a lower precision with, where there are no training images."""

from pathlib import Path

import numpy as np
import pytest

from foldbench.bench.config.data import DataSection
from foldbench.bench.errors import ConfigError, DataError
from foldbench.bench.images.image_set import ImageSet
from foldbench.bench.images.loading import load_data
from foldbench.bench.progress import NullListener

COUNT = 40


def write(path: Path, seed: int, classes: int = 2) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (COUNT, 8, 8, 3), np.uint8)
    np.savez(path, images=pixels, labels=np.arange(COUNT) % classes)
    return path


def read(path: Path, **settings) -> ImageSet:
    data = DataSection(name="images", path=str(path), image_size=8, **settings)
    return load_data(data, path.parent / "cache", NullListener())


def test_a_share_of_the_test_images_is_set_aside_by_class_and_no_longer_tested_on(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "a.npz", 0)
    whole, parted = read(path), read(path, calibration_share=0.25)
    assert parted.train is not None
    assert (len(parted.train), len(parted.test)) == (10, 30)
    assert np.bincount(parted.test.require_labels()).tolist() == [15, 15]
    apart = {one.tobytes() for one in parted.train.images}
    tested = {one.tobytes() for one in parted.test.images}
    assert not apart & tested
    assert apart | tested == {one.tobytes() for one in whole.test.images}
    assert parted.info.test_files_sha256 != whole.info.test_files_sha256


def test_other_images_can_be_given_and_the_tested_ones_stay(tmp_path: Path) -> None:
    path, other = write(tmp_path / "a.npz", 0), write(tmp_path / "b.npz", 1)
    found = read(path, calibration_path=str(other))
    assert found.train is not None
    assert np.array_equal(found.test.images, read(path).test.images)
    assert np.array_equal(found.train.images, read(other).test.images)
    assert found.info.key == read(path).info.key


def test_images_of_other_classes_are_refused(tmp_path: Path) -> None:
    path, other = write(tmp_path / "a.npz", 0), write(tmp_path / "b.npz", 1, classes=3)
    with pytest.raises(DataError, match="2"):
        read(path, calibration_path=str(other))


def test_a_share_is_refused_where_there_are_training_images() -> None:
    with pytest.raises(ConfigError, match="calibration_share"):
        load_data(
            DataSection(name="digits", image_size=8, calibration_share=0.5),
            Path("unused"),
            NullListener(),
        )
