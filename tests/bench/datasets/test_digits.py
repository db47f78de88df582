from pathlib import Path

import numpy as np
import pytest

from foldbench.bench.datasets.digits import load
from foldbench.bench.errors import DataError
from foldbench.bench.images.image_set import DataOptions, ImageSet


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return load(DataOptions(None, False, 32, tmp_path_factory.mktemp("cache")))


def test_all_digits_are_there_once(digits: ImageSet) -> None:
    images = np.concatenate([digits.train.images, digits.test.images])
    assert images.shape == (1797, 3, 32, 32)
    from sklearn.datasets import load_digits

    distinct = len({image.tobytes() for image in load_digits().images})
    assert len({image.tobytes() for image in images}) == distinct


def test_a_fifth_of_every_class_is_the_test_split(digits: ImageSet) -> None:
    train, test = (np.bincount(split.labels) for split in (digits.train, digits.test))
    np.testing.assert_allclose(test / (train + test), 0.2, atol=0.005)


def test_the_info_names_the_source_and_the_scaling(digits: ImageSet) -> None:
    assert "scikit-learn" in digits.info.title
    assert "8x8 scaled to 32x32" in digits.info.title
    assert digits.info.classes == tuple("0123456789")
    assert digits.info.original
    assert digits.info.path is None


def test_unscaled_pixels_are_those_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    loaded = load(DataOptions(None, False, 8, tmp_path))
    mine = {image[0].tobytes() for image in loaded.train.images}
    expected = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    assert mine <= {image.tobytes() for image in expected}
    assert loaded.train.images.min() == 0
    assert loaded.train.images.max() == 255


def test_all_three_channels_are_equal(digits: ImageSet) -> None:
    np.testing.assert_array_equal(digits.train.images[:, 0], digits.train.images[:, 2])


def test_nearest_neighbours_recognise_the_test_split(digits: ImageSet) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    train, test = (
        split.images[:, 0, ::4, ::4].reshape(-1, 64) for split in (digits.train, digits.test)
    )
    model = KNeighborsClassifier(1).fit(train.astype(np.float32), digits.train.labels)
    assert model.score(test.astype(np.float32), digits.test.labels) > 0.95


def test_a_path_is_refused_because_nothing_is_read_from_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"scikit-learn .*leave out"):
        load(DataOptions(tmp_path, False, 32, tmp_path))
