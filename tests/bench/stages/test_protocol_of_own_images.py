"""The homework's protocol belongs to the homework's images."""

from types import SimpleNamespace

import pytest

import builders as B
from foldbench.bench.config.files import load
from foldbench.bench.progress import NullListener
from foldbench.bench.stages.compare import _clean_for_own_images


@pytest.mark.parametrize(
    ("classes", "overrides", "protocol"),
    [
        (("cat", "dog"), (), "clean"),
        (("cat", "dog"), ("evaluate.protocol=homework",), "homework"),
        (B.CIFAR10, (), "homework"),
    ],
)
def test_own_images_are_flipped_and_cropped_only_where_that_is_asked_for(
    classes: tuple[str, ...], overrides: tuple[str, ...], protocol: str
) -> None:
    data = SimpleNamespace(info=SimpleNamespace(classes=classes, name="images", title="mine"))
    config = load("deep_mish", overrides).config
    found = _clean_for_own_images(config, data, overrides, NullListener())
    assert found.evaluate.protocol == protocol
