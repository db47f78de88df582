from pathlib import Path

import pytest

from foldbench.bench.config.files import from_dict, load
from foldbench.bench.config.own_network import class_names_of, source_config, with_known_input
from foldbench.bench.errors import ConfigError
from foldbench.bench.records import Preprocessing, Resize

KNOWN = Preprocessing(
    input_shape=(3, 48, 64),
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.2, 0.2),
    resize=Resize(shorter_side=70),
)


def test_a_path_is_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = source_config("net.py:Net", ())
    assert loaded.name == "Net"
    assert loaded.config.model.network == f"{tmp_path}/net.py:Net"


def test_what_is_known_of_a_network_becomes_its_input() -> None:
    loaded, notes = with_known_input(source_config("timm:x", ()), KNOWN)
    data = loaded.config.data
    assert (data.image_size, data.mean, data.std) == ((48, 64), KNOWN.mean, KNOWN.std)
    assert (data.resize.shorter_side, data.name, notes) == (70, "noise", ())


def test_what_the_user_says_goes_before_what_is_known() -> None:
    given = ("data.image_size=32", "data.mean=[0.1, 0.1, 0.1]", "data.path=/photos")
    data = with_known_input(source_config("timm:x", given), KNOWN)[0].config.data
    assert (data.image_size, data.mean, data.std) == (32, (0.1,) * 3, KNOWN.std)
    assert (data.resize, data.name) == (Resize(), "images")
    same_size = ("data.image_size=[48, 64]",)
    data = with_known_input(source_config("timm:x", same_size), KNOWN)[0].config.data
    assert data.resize == KNOWN.resize


def test_mean_and_std_of_other_channels_are_not_taken() -> None:
    given = ("data.image_size=32", "data.channels=1")
    loaded, notes = with_known_input(source_config("timm:x", given), KNOWN)
    assert (loaded.config.data.channels, loaded.config.data.mean) == (1, (0.5,))
    assert "--mean" in notes[0]


def test_a_shape_that_nothing_says_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="--input"):
        with_known_input(source_config("net.py:Net", ()), None)


def test_a_scale_that_nothing_says_is_told() -> None:
    given = ("data.image_size=32",)
    _, notes = with_known_input(source_config("net.py:Net", given), None)
    assert "--mean" in notes[0]
    said = (*given, "data.mean=[0, 0, 0]", "data.std=[1, 1, 1]")
    assert with_known_input(source_config("net.py:Net", said), None)[1] == ()


def classes_of(path: Path, content: bytes) -> tuple[int | None, tuple[str, ...] | None]:
    path.write_bytes(content)
    values = {"model": {"from": "net.py:Net", "classes": str(path)}}
    return class_names_of(from_dict(values, (), "test"))


def test_classes_are_a_name_on_each_line(tmp_path: Path) -> None:
    text = "\ufeffcat\r\ngreat dane \nßeta\n\n"
    assert classes_of(tmp_path / "c.txt", text.encode()) == (3, ("cat", "great dane", "ßeta"))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "is empty"),
        (b"cat\n\ndog\n", "line 2"),
        (b"cat\ndog\ncat\n", "line 3: 'cat'"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_a_list_of_classes_that_cannot_be_one_is_refused(
    tmp_path: Path, content: bytes, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        classes_of(tmp_path / "c.txt", content)


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"name": "bn_cnn", "from": "net.py:Net"},
        {"from": "net.py"},
        {"name": "bn_cnn", "weights": "w.pt"},
        {"from": "net.py:Net", "classes": 0},
    ],
)
def test_a_model_section_names_one_network(model: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="model"):
        from_dict({"model": model}, (), "test")


def test_a_network_of_one_s_own_takes_the_place_of_the_one_that_is_built_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: digits\nmodel: {from: net.py:Net}\n")
    model = load(str(path)).config.model
    assert (model.name, model.source) == (None, f"{tmp_path}/net.py:Net")
    assert load(str(path), ("model.name=bn_cnn",)).config.model.source is None
