"""Bad configurations: each is one line that names the right place, within a second."""

import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foldbench.bench.cli import cli
from foldbench.bench.config.files import load
from foldbench.bench.errors import BenchError, ConfigError
from foldbench.bench.machine import environment

NINE = range(1, 10)


def show(path: Path, *more: str) -> Result:
    return CliRunner().invoke(cli, ["config", "show", str(path), *more])


SECTIONS = ("model:", "data:", "train:", "compare:", "export:", "seed:")
BOMBS = {
    "lists in lists": "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in NINE),
    "mappings in mappings": "a0: &a0 {x: 1}\n"
    + "\n".join(f"a{n}: &a{n} {{{', '.join(f'k{m}: *a{n - 1}' for m in NINE)}}}" for n in NINE),
    "merged mappings": "a0: &a0 {x: 1}\n"
    + "\n".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in NINE),
    "in the arguments of a model": "model:\n  name: bn_cnn\n  args:\n    a0: &a0 [x, x]\n"
    + "\n".join(f"    a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in NINE),
    "nested lists": "a: " + "[" * 5000 + "]" * 5000,
    "nested mappings": "a: " + "{a: " * 5000 + "1" + "}" * 5000,
    "nested a little": "a: " + "[" * 60 + "]" * 60,
    "an alias in itself": "a: &a [*a]",
    "an alias in what is in it": "a: &a {b: {c: [*a]}}",
    "too many values": "a: [" + "1, " * 10_001 + "1]",
    "too long": "# " + "x" * 2**20,
    "a number of many digits": "seed: " + "9" * 5000,
    "a hexadecimal number of many digits": "seed: 0x" + "f" * 9000,
    "keys that are lists": "? [a, b]\n: 1",
    "keys that are mappings": "? {a: b}\n: 1",
    "keys that are numbers": "1: 2",
    "keys that are null": "~: 2",
    "two documents": "a: 1\n---\nb: 2",
    "tag of Python": "a: !!python/object/apply:os.system [echo]",
    "tag of bytes": "data: {path: !!binary aGVsbG8=}",
    "tag of a set": "compare: {backends: !!set {ort, torch}}",
    "a date": "seed: 2020-01-01",
    "not a number": "train: {learning_rate: .nan}",
    "infinity": "train: {learning_rate: .inf}",
    "a number beyond floats": "train: {learning_rate: 1e999}",
    "a list": "[1, 2]",
    "text": "just text",
    "tabs": "a:\n\t- b",
    "an unknown alias": "a: *nowhere",
    "a key given twice": "seed: 1\nseed: 2",
    "a broken quote": "a: 'b",
    "a directive": "%YAML 9.9\n---\na: 1",
    "a null byte": "a: \0",
    "empty name": "model: {name: ''}",
    "extends a number": "extends: 5",
    "extends a mapping": "extends: {a: b}",
    "extends a list of lists": "extends: [[a]]",
    "extends nothing there": "extends: nowhere",
    "extends a folder": "extends: /",
    "extends an empty name": "extends: ''",
    "extends a null byte": 'extends: "a\\0b"',
    "extends a name that is too long": f"extends: {'n' * 300}",
    "extends many": "extends: [" + "digits, " * 1000 + "digits]",
    "no path": "data: {path: ''}",
    "no threads": "train: {threads: 0}",
    "too many threads": "train: {threads: 100000}",
    "text for a number": "train: {epochs: many}",
    "a fraction for a count": "train: {epochs: 1.5}",
    "a truth for a count": "train: {epochs: true}",
    "a negative count": "train: {epochs: -1}",
    "zero batch": "train: {batch_size: 0}",
    "a backend twice": "compare: {backends: [ort, ort]}",
    "a backend of no name": "compare: {backends: ['']}",
    "a backend that is null": "compare: {backends: [null]}",
    "an option without a name": "compare: {backends: ['ort:']}",
    "an unknown pass": "export: {passes: [nosuch]}",
    "a model that is a path": "model: {name: ../../etc/passwd}",
    "a data set that is a path": "data: {name: ../../etc/passwd}",
    "a backend that is a path": "compare: {backends: [../os]}",
    "a hidden model": "model: {name: __init__}",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=list(BOMBS))
def test_a_bad_configuration_is_one_short_line_at_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    base = "extends: digits\n" if text.startswith(SECTIONS) and "---" not in text else ""
    path.write_text(base + text, encoding="utf-8")
    started = time.process_time()
    result = show(path)
    assert time.process_time() - started < 10  # a bomb takes minutes, or all memory
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {path}")
    assert result.output.count("\n") == 1
    assert "did not foresee" not in result.output
    assert len(result.output) < 3000


SETTINGS = (
    *("train.learning_rate=.nan", "train.learning_rate=.inf", "seed=2020-01-01"),
    *("data.path=!!binary aGVsbG8=", "seed=" + "[" * 3000, "seed=&a [*a]", "data.path=''"),
    *("seed", "=1", ".=1", "a..b=1", "seed=[", "seed={", "train=5", "model.args=5"),
    *("nosuch=1", "train.nosuch=1", "train.epochs.more=1", "compare.backends=[ort, ort]"),
)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_bad_setting_is_named_as_one_of_the_command_line(setting: str) -> None:
    with pytest.raises(BenchError) as caught:
        load("digits", [setting])
    assert str(caught.value).startswith("--set ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: \xe9", b"\x00" * 100])
def test_a_file_that_is_no_text_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    result = show(tmp_path / "a.yaml")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)


def test_files_that_build_on_each_other_many_times_over_are_read_once(tmp_path: Path) -> None:
    for number in range(30):
        below = f"extends: [f{number + 1}, f{number + 1}]\n" if number < 29 else ""
        (tmp_path / f"f{number}.yaml").write_text(below or "extends: digits", encoding="utf-8")
    assert load(str(tmp_path / "f0.yaml")).config == load("digits").config


@pytest.mark.parametrize("count", [100, 1500])
def test_a_chain_that_is_too_long_is_named_so(tmp_path: Path, count: int) -> None:
    for number in range(count):
        (tmp_path / f"f{number}.yaml").write_text(f"extends: f{number + 1}")
    (tmp_path / f"f{count}.yaml").write_text("seed: 1")
    with pytest.raises(ConfigError, match="more than 50 files"):
        load(str(tmp_path / "f0.yaml"))


@pytest.mark.parametrize("length", [1, 2, 5])
def test_files_in_a_circle_are_named(tmp_path: Path, length: int) -> None:
    for number in range(length):
        (tmp_path / f"f{number}.yaml").write_text(f"extends: f{(number + 1) % length}")
    with pytest.raises(ConfigError, match="extends itself"):
        load(str(tmp_path / "f0.yaml"))


def test_the_file_that_set_a_key_last_is_named_where_two_set_it(tmp_path: Path) -> None:
    (tmp_path / "low.yaml").write_text("extends: digits\ntrain: {epochs: 1}")
    (tmp_path / "b.yaml").write_text("extends: low\ntrain: {epochs: many}")
    (tmp_path / "a.yaml").write_text("extends: [low, b]")
    with pytest.raises(ConfigError, match=r"b\.yaml: train\.epochs"):
        load(str(tmp_path / "a.yaml"))


def test_a_moderate_use_of_aliases_stays_allowed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: digits\ndata: {mean: &m [0.5, 0.5, 0.5], std: *m}")
    config = load(str(tmp_path / "a.yaml")).config
    assert config.data.mean == config.data.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("option", ["--data", "--runs", "--cache"])
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_path_is_refused(option: str, value: str) -> None:
    command = ["config", "show", "digits"] if option == "--data" else ["list"]
    result = CliRunner().invoke(cli, [*command, option, value])
    assert result.exit_code == 2
    assert "is empty" in result.output


def test_an_empty_output_is_refused() -> None:
    assert CliRunner().invoke(cli, ["report", "--output", ""]).exit_code == 2


@pytest.mark.parametrize(("wanted", "given"), [(None, 2), (1, 1), (2, 2), (3, 2), (1024, 2)])
def test_threads_are_at_most_one_for_each_core_and_that_is_said(
    wanted: int | None,
    given: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(environment, "usable_cores", lambda: 2)
    assert environment.choose_threads(wanted, "train.threads") == given
    assert bool(caplog.messages) == ((wanted or 0) > 2)
