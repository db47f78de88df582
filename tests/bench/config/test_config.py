"""Configurations: what they hold, how they build on one another, what is said of a bad one."""

from pathlib import Path

import jsonschema
import pytest

from foldbench.bench.config.files import builtin_names, find, load
from foldbench.bench.config.schema import schema
from foldbench.bench.config.yaml_files import to_yaml
from foldbench.bench.errors import BenchError, ConfigError, UnknownNameError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", builtin_names())
def test_every_config_that_comes_along_is_valid(name: str) -> None:
    assert load(name).name == name


@pytest.mark.parametrize("name", builtin_names())
def test_the_schema_accepts_every_config_that_comes_along(name: str) -> None:
    from ruamel.yaml import YAML

    value = YAML(typ="safe").load(find(name).read_text(encoding="utf-8"))
    jsonschema.validate(value, schema())


def test_the_schema_refuses_an_unknown_key() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"train": {"epohcs": 3}}, schema())


@pytest.mark.parametrize(
    ("name", "rate"), [("mish_cnn", 0.005), ("bn_cnn", 0.005), ("deep_mish", 0.0005)]
)
def test_the_homework_configs_hold_the_settings_of_its_code(name: str, rate: float) -> None:
    config = load(name).config
    train = config.train
    assert (train.optimizer, train.learning_rate, train.weight_decay) == ("adamw", rate, 0.01)
    assert (train.epochs, train.batch_size, train.schedule.step_size) == (30, 128, 30)
    assert (train.augment.flip, train.augment.crop_padding) == (True, 4)
    assert (train.protocol, config.evaluate.protocol) == ("homework", "homework")
    assert config.data.mean == config.data.std == (0.5, 0.5, 0.5)


def test_training_and_evaluation_can_follow_different_protocols() -> None:
    config = load("deep_mish", ["evaluate.protocol=clean"]).config
    assert (config.train.protocol, config.evaluate.protocol) == ("homework", "clean")


def test_a_config_holds_what_it_builds_on_and_its_own_fields_win(tmp_path: Path) -> None:
    write(tmp_path, "base", "model: {name: bn_cnn}\ntrain: {epochs: 7, batch_size: 5}\n")
    path = write(tmp_path, "mine", "extends: base\ntrain: {epochs: 9}\n")
    train = load(str(path)).config.train
    assert (train.epochs, train.batch_size) == (9, 5)


def test_of_several_parents_the_later_one_wins(tmp_path: Path) -> None:
    write(tmp_path, "a", "train: {epochs: 1}\n")
    write(tmp_path, "b", "train: {epochs: 2}\n")
    path = write(tmp_path, "c", "extends: [deep_mish, a, b]\n")
    assert load(str(path)).config.train.epochs == 2


def test_overrides_are_read_as_yaml_and_win_over_the_file() -> None:
    config = load("deep_mish", ["train.epochs=2", "compare.batch_sizes=[1, 8]", "seed=3"]).config
    assert (config.train.epochs, config.compare.batch_sizes, config.seed) == (2, (1, 8), 3)


def test_yaml_written_by_show_is_read_back_the_same(tmp_path: Path) -> None:
    loaded = load("digits")
    path = write(tmp_path, "again", to_yaml(loaded.as_dict()))
    assert load(str(path)).config == loaded.config


BAD = {
    "a misspelled key": (
        "train: {epohcs: 3}",
        ["bad.yaml: train.epohcs: ", "'epochs'", "allowed: protocol, "],
    ),
    "a misspelled section": ("trian: {}", ["trian: ", "'train'"]),
    "a wrong type": ("train: {epochs: two}", ['train.epochs: found "two"', "allowed: "]),
    "a number as text": (
        "train: {learning_rate: '0.1'}",
        ['train.learning_rate: found "0.1"', "allowed: "],
    ),
    "an impossible value": ("train: {epochs: 0}", ["train.epochs: found 0", "allowed: "]),
    "a misspelled choice": (
        "train: {optimizer: adamv}",
        [
            'train.optimizer: found "adamv"',
            *("'adamw'", "'adam'", "'sgd'", "'muon'"),
        ],
    ),
    "an unknown model": ("model: {name: deep_mihs}", ["model.name: ", "'deep_mish'"]),
    "an unknown backend": (
        "compare: {backends: [torhc]}",
        ["compare.backends: ", "'torhc'", "'torch'"],
    ),
    "an unknown pass": ("export: {passes: [nope]}", ["export.passes: ", "'nope'"]),
    "holding out under homework": (
        "train: {validation_fraction: 0.1}",
        ["validation_fraction", "'homework'", "'clean'"],
    ),
    "a section that is a number": ("train: 3", ["train: found 3", "allowed: "]),
    "a number that is not finite": (
        "train: {learning_rate: .nan}",
        ["bad.yaml: train.learning_rate: found nan"],
    ),
    "a number too large": ("data: {std: [1, 1.0e+999, 1]}", ["bad.yaml: data.std: found inf"]),
    "a date": ("seed: 2020-01-02", ['bad.yaml: seed: found "2020-01-02"']),
    "a list that is too short": ("data: {mean: [1, 2]}", ["data.mean: found 2 values"]),
    "an empty list": (
        "compare: {batch_sizes: []}",
        ["compare.batch_sizes: found []", "allowed: at least 1"],
    ),
    "a date that there is not": ("seed: 2020-13-45", ["bad.yaml", "YAML"]),
    "a negative seed": ("seed: -1", ["seed: found -1", "allowed: "]),
    "too many threads": ("train: {threads: 99999999999}", ["train.threads: found 99999999999"]),
    "an alias inside what it names": ("model: &a {args: *a}", ["bad.yaml", "alias"]),
    "a list inside itself": ("compare: {backends: &a [*a]}", ["bad.yaml", "alias"]),
    "broken YAML": ("train: {epochs: 3", ["bad.yaml:", "YAML"]),
    "a duplicate key": ("seed: 1\nseed: 2", ["bad.yaml", "duplicate"]),
    "a list": ("- a", ["holds", "allowed: keys"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_config_gets_one_line_that_says_where_and_what_is_allowed(
    case: str, tmp_path: Path
) -> None:
    text, expected = BAD[case]
    extends = "" if text.startswith("-") else "extends: deep_mish\n"
    path = write(tmp_path, "bad", extends + text + "\n")
    with pytest.raises(BenchError) as caught:
        load(str(path))
    message = str(caught.value)
    assert "\n" not in message
    for part in expected:
        assert part in message


def test_a_bad_override_is_named_as_such() -> None:
    with pytest.raises(ConfigError, match="train.epochs: found 0"):
        load("deep_mish", ["train.epochs=0"])
    with pytest.raises(ConfigError, match="key.path=value"):
        load("deep_mish", ["train.epochs"])
    with pytest.raises(ConfigError, match=r"^--set train.learning_rate=.nan: train.learning_rate:"):
        load("deep_mish", ["train.learning_rate=.nan"])
    with pytest.raises(ConfigError, match=r"^--set model=&a .*: an alias"):
        load("deep_mish", ["model=&a {args: *a}"])


@pytest.mark.parametrize(
    "given",
    [
        "compare.backends=[torch, torch]",
        "compare.backends=[torch-compile, torch_compile]",
        "compare.backends=['torch:bf16+channels_last', 'torch:channels_last+bf16']",
        "compare.devices=[cpu, cpu]",
        "compare.batch_sizes=[1, 64, 1]",
        "compare.loadgen.scenarios=[offline, offline]",
        "export.passes=[mish, mish]",
    ],
)
def test_what_is_given_twice_is_refused_however_it_is_written(given: str) -> None:
    key = given.partition("=")[0]
    with pytest.raises(ConfigError) as caught:
        load("digits", [given])
    assert str(caught.value).startswith(f"--set {given}: {key}: ")
    assert "\n" not in str(caught.value)


def test_a_backend_may_stand_beside_itself_with_other_options() -> None:
    backends = ("torch", "torch:channels_last", "ort:micro=8", "ort:micro=16")
    config = load("digits", [f"compare.backends=[{', '.join(backends)}]"]).config
    assert config.compare.backends == backends


def test_a_fault_is_blamed_on_the_file_that_holds_it(tmp_path: Path) -> None:
    write(tmp_path, "base", "model: {name: bn_cnn}\ntrain: {epochs: -1}\n")
    path = write(tmp_path, "mine", "extends: base\ntrain: {batch_size: 4}\n")
    with pytest.raises(ConfigError, match=r"base\.yaml: train\.epochs"):
        load(str(path))


def test_unknown_names_get_the_nearest_spelling() -> None:
    with pytest.raises(UnknownNameError, match="'deep_mish'"):
        load("deep_mihs")
    with pytest.raises(UnknownNameError, match="no configuration file"):
        load("nowhere/x.yaml")


def test_a_config_that_extends_itself_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", "extends: b\n")
    path = write(tmp_path, "b", "extends: a\n")
    with pytest.raises(ConfigError, match="extends itself"):
        load(str(path))


def test_an_unknown_parent_is_named_with_the_known_ones(tmp_path: Path) -> None:
    path = write(tmp_path, "mine", "extends: _homewrok\n")
    with pytest.raises(ConfigError, match="'_homework'"):
        load(str(path))


def test_where_images_are_is_relative_to_the_file_that_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "base.yaml").write_text("extends: digits\ndata: {path: photos}\n")
    (tmp_path / "top.yaml").write_text("extends: sub/base.yaml\n")
    monkeypatch.chdir(tmp_path)
    assert load("top.yaml").config.data.path == str(tmp_path / "sub" / "photos")
    assert load("top.yaml", ["data.path=mine"]).config.data.path == str(tmp_path / "mine")
