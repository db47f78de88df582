"""The command line as a user meets it: output, exit codes, and one line for whatever goes wrong."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from builders import QUICK
from foldbench.bench.cli import cli
from foldbench.bench.errors import ConfigError, DataError, RunError, TrainingError, UnknownNameError
from foldbench.bench.measure.samples import read_samples
from foldbench.bench.store.directory import Paths, RunDirectory, list_runs

SET = [f"--set={text}" for text in QUICK]


def test_help_names_every_command_and_needs_no_heavy_package() -> None:
    code = (
        "import sys; from foldbench.bench.cli import cli; cli(['--help'], standalone_mode=False);"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'pydantic', 'sklearn', 'rich',"
        "'matplotlib', 'optuna', 'scipy', 'psutil'};"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("train", "export", "compare", "report", "diff", "plot", "run", "list"):
        assert f"  {command} " in done.stdout
    assert "heavy: []" in done.stdout


@pytest.mark.parametrize("command", [[], *[[name] for name in cli.commands]], ids=" ".join)
def test_every_command_explains_itself(command: list[str]) -> None:
    result = CliRunner().invoke(cli, [*command, "--help"])
    assert result.exit_code == 0
    assert max(len(line) for line in result.output.splitlines()) <= 100


def test_list_names_what_there_is(bench) -> None:
    found = json.loads(bench("list", "--json").stdout)
    assert set(found) == {"models", "datasets", "backends", "passes", "configs", "runs"}
    assert {"mish_cnn", "bn_cnn", "deep_mish"} <= set(found["models"])
    assert {"cifar10", "imagefolder", "images", "noise", "digits"} < set(found["datasets"])
    assert {"torch", "ort"} <= set(found["backends"])
    assert all(text for kind in found.values() for text in kind.values())
    assert "deep_mish" in bench("list").stdout


def test_config_show_gives_yaml_or_json_with_overrides(bench) -> None:
    assert "epochs: 2" in bench("config", "show", "deep_mish", "--set", "train.epochs=2").stdout
    shown = json.loads(bench("config", "show", "deep_mish", "--data", "x", "--json").stdout)
    assert shown["data"]["path"] == str(Path("x").resolve())


def test_config_schema_is_a_json_schema(bench) -> None:
    import jsonschema

    jsonschema.Draft202012Validator.check_schema(json.loads(bench("config", "schema").stdout))


@pytest.mark.usefixtures("in_process")
def test_the_main_job_end_to_end_and_again(bench, paths: Paths) -> None:
    trained = bench("train", "digits", *SET)
    assert trained.exit_code == 0, trained.output
    (run,) = list_runs(paths.runs)
    assert len(run.checkpoint().history) == 1

    for option in ("--no-fold-bn", "--fold-bn"):
        assert bench("export", option, *SET).exit_code == 0
    found = {
        a.variant: (a.fold.batchnorms_before, a.fold.batchnorms_after, a.batchnorm_nodes)
        for a in run.artifacts()
    }
    assert found == {"unfolded": (3, 3, 3), "folded": (3, 0, 0)}
    assert all(artifact.parity.passed for artifact in run.artifacts())

    compared = bench("compare", "--backends", "torch,ort", "--devices", "cpu", *SET)
    assert compared.exit_code == 0, compared.output
    assert {(m.contender, m.status) for m in run.results().measurements} == {
        (f"{backend}/{variant}/cpu", "ok")
        for backend in ("torch", "ort")
        for variant in ("unfolded", "folded")
    }
    page = run.path / "report.html"
    assert compared.stdout.splitlines()[-1].endswith(str(page))
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")

    for form, start in (("terminal", run.name), ("md", "# "), ("json", "{")):
        assert bench("report", "--format", form).stdout.startswith(start)
    assert bench("train", "digits", *SET).exit_code == 0
    assert list_runs(paths.runs) == (run,)


def test_train_and_export_print_json_for_machines(bench, own_exported_run: RunDirectory) -> None:
    trained = json.loads(bench("train", "digits", "--json", *SET).stdout)
    assert trained["checkpoint"]["model"] == "bn_cnn"
    assert Path(trained["path"]) == own_exported_run.path
    (exported,) = json.loads(bench("export", "--json", *SET).stdout)
    assert exported["artifact"]["parity"]["passed"] is True
    assert Path(exported["path"]).is_file()


@pytest.mark.usefixtures("in_process")
def test_a_device_that_was_asked_for_and_is_missing_fails_loudly(
    bench, own_exported_run: RunDirectory
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    result = bench("compare", "--devices", "cuda", "--backends", "ort", *SET)
    assert result.exit_code == 1
    (row,) = own_exported_run.results().measurements
    assert (row.contender, row.status, row.timings) == ("ort/folded/cuda", "failed", ())
    assert row.reason
    assert (own_exported_run.path / "report.md").is_file()


COMPARE = ["compare", "digits-001"]
BAD_INPUT = {
    "an unknown config": (["train", "deep_mihs"], UnknownNameError, "'deep_mish'"),
    "an unknown run": (["export", "nope"], UnknownNameError, "'nope'"),
    "no run at all": (["export"], RunError, "bench train NAME"),
    "no comparison": (["report"], RunError, "bench compare"),
    "an unknown backend": ([*COMPARE, "--backends", "ort2"], ConfigError, "'ort'"),
    "an unknown device": ([*COMPARE, "--devices", "gpu"], ConfigError, "'cpu'"),
    "a batch of none": ([*COMPARE, "--batch-sizes", "0"], ConfigError, "batch_sizes"),
    "a batch of words": ([*COMPARE, "--batch-sizes", "x"], ConfigError, '"x"'),
    "a misspelled key": (["train", "digits", "--set", "train.epohcs=1"], ConfigError, "'epochs'"),
    "an override of nothing": (["train", "digits", "--set", "epochs"], ConfigError, "--set epochs"),
    "data that is not there": (["train", "deep_mish", "--data", "no/such"], DataError, "no/such"),
    "data for the digits": (["train", "digits", "--data", "."], DataError, "digits"),
    "data of a user that there is not": (
        ["train", "deep_mish", "--data", "~nobody9/x"],
        DataError,
        "~nobody9/x",
    ),
    "a name that no file can have": (["train", "x" * 300 + ".yaml"], UnknownNameError, "xxx.yaml"),
    "a seed that is too large": (
        ["train", "digits", "--set", "seed=1" + 30 * "0"],
        ConfigError,
        "seed",
    ),
    "a network fixed by training": (
        [*COMPARE, "--set", "model.name=mish_cnn"],
        ConfigError,
        "model.name",
    ),
    "an input fixed by training": (
        ["export", "digits-001", "--set", "data.image_size=48"],
        ConfigError,
        "data.image_size",
    ),
    "a seed fixed by training": ([*COMPARE, "--set", "seed=5"], ConfigError, "seed"),
    "a batch that BatchNorm cannot train on": (
        ["train", "digits", "--set", "train.batch_size=1", "--set", "train.epochs=1"],
        TrainingError,
        "train.batch_size",
    ),
    "images that are too small": (
        ["train", "digits", "--set", "model.name=bn_cnn", "--set", "data.image_size=8"],
        ConfigError,
        "data.image_size",
    ),
    "a config that is no YAML": (["train", __file__ + ".yaml"], UnknownNameError, ".yaml"),
}
"""What is given, the kind of error, and what its one line names."""


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_line_and_exit_code_1(case: str, refusal, request) -> None:
    arguments, kind, named = BAD_INPUT[case]
    if "digits-001" in arguments:
        request.getfixturevalue("own_run")
    error = refusal(*arguments)
    assert type(error) is kind
    assert named in str(error)


def test_an_error_is_the_last_line_on_stderr(bench) -> None:
    result = bench("train", "deep_mihs")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")


@pytest.mark.parametrize("arguments", [["train"], ["nope"], ["report", "--format", "pdf"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str], bench) -> None:
    assert bench(*arguments).exit_code == 2


NUMBERS = {
    "compare --budget": "0 -1s nan infh 1e999 2d 25h",
    "compare --scenario server --duration": "0 nan inf",
    "compare --scenario server --qps": "0 -1 nan inf 1e999",
    "compare --rounds": "0 nan 1.5",
    "compare --repeat": "0 nan inf",
    "export --max-drop": "-1 101 nan inf",
    "diff digits-001 digits-002 --fail-on": "nan% inf% -1% 0.5 1e3%",
    "tune digits --learning-rates": "nan,nan 0.1,inf 0,1 -1,1 2,1 1 1,2,3",
    "tune digits --epochs": "0,1 nan,nan 1,inf 2,1",
    "tune digits --batch-sizes": "0 nan inf 32,32",
    "tune digits --trials": "0 nan",
}


@pytest.mark.parametrize(
    ("option", "value"), [(o, value) for o, values in NUMBERS.items() for value in values.split()]
)
def test_a_number_out_of_range_is_wrong_usage(option: str, value: str, bench) -> None:
    result = bench(*option.split(), value)
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines()[-1].startswith(
        f"Error: Invalid value for '{option.split()[-1]}"
    )


def test_missing_cifar10_names_the_three_ways_to_get_it(bench) -> None:
    result = bench("train", "deep_mish")
    assert result.exit_code == 1
    for way in ("cifar-10-batches-py", "train/<class>", "data.download=true"):
        assert way in result.stderr


@pytest.mark.parametrize("damage", ["cut short", "other bytes", "gone"])
def test_a_corrupted_checkpoint_is_named_and_nothing_is_lost(
    damage: str, bench, own_run: RunDirectory
) -> None:
    weights = own_run.path / "weights.safetensors"
    content = weights.read_bytes()
    if damage == "gone":
        weights.unlink()
    else:
        weights.write_bytes(content[:100] if damage == "cut short" else content[::-1])
    result = bench("export", own_run.name, *SET)
    assert result.exit_code == 1
    assert "weights.safetensors" in result.stderr.splitlines()[-1]
    assert not (own_run.path / "artifacts.json").exists()
    assert own_run.checkpoint().run == own_run.name


def test_the_weights_of_a_damaged_run_are_trained_anew_into_a_run_of_their_own(
    bench, own_run: RunDirectory
) -> None:
    (own_run.path / "weights.safetensors").write_bytes(b"damaged")
    result = bench("train", "digits", *SET)
    assert result.exit_code == 0, result.output
    assert "digits-002" in result.stdout
    assert (own_run.path / "weights.safetensors").read_bytes() == b"damaged"


def test_a_damaged_list_of_artifacts_is_set_aside_and_export_goes_on(
    bench, own_run: RunDirectory
) -> None:
    (own_run.path / "artifacts.json").write_text("{")
    assert "artifacts.json damaged" in bench("list").stdout
    assert bench("compare", own_run.name, *SET).exit_code == 1
    assert bench("export", own_run.name, *SET).exit_code == 0
    assert len(own_run.artifacts()) == 1
    assert (own_run.path / "artifacts.json.damaged").read_text() == "{"


@pytest.mark.usefixtures("in_process")
def test_run_does_all_of_it_and_settings_that_changed_need_no_training_again(
    bench, own_run: RunDirectory, paths: Paths
) -> None:
    trained = own_run.checkpoint()
    changed = [*SET, "--set=compare.batch_sizes=[2]", "--set=export.fold_bn=false"]
    result = bench("run", "digits", "--json", *changed)
    assert result.exit_code == 0, result.output
    (summary,) = json.loads(result.stdout)["runs"]
    assert summary["run"] == own_run.name
    assert list_runs(paths.runs) == (own_run,)
    assert own_run.checkpoint() == trained
    record = own_run.results()
    assert [a.variant for a in record.artifacts] == ["unfolded"]
    assert {t.batch_size for m in record.measurements for t in m.timings} == {2}
    assert record.command[0] == "bench"
    assert bench("compare", "--backends", "torch", *SET[:-1]).exit_code == 0
    assert own_run.results().config["export"]["fold_bn"] is False


@contextmanager
def full_disk(bytes_left: int) -> Iterator[None]:
    """A limit of the size of a file: writing past it fails as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_while_training_is_one_line(refusal) -> None:
    with full_disk(bytes_left=300_000):
        error = refusal("train", "digits", *SET)
    assert isinstance(error, RunError)
    assert isinstance(error.__cause__, OSError)
    assert "digits-001" in str(error)


def test_being_told_to_end_leaves_neither_processes_nor_files(
    own_exported_run: RunDirectory, paths: Paths, tmp_path: Path, start_bench
) -> None:
    own_run = own_exported_run
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    folders = ["--runs", str(paths.runs), "--cache", str(paths.cache)]
    settings = [*SET, "--set=compare.rounds=100000", "--set=compare.backends=[ort]"]
    process = start_bench(
        tmp_path, "compare", own_run.name, *folders, *settings, TMPDIR=str(scratch)
    )
    while not own_run.samples.exists() or b'"kind":"timed"' not in own_run.samples.read_bytes():
        assert process.poll() is None, (tmp_path / "stderr").read_text()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130
    said = (tmp_path / "stderr").read_text()
    assert said.splitlines()[-1].startswith("Interrupted: ")
    assert "Traceback" not in said
    assert not list(scratch.glob("foldbench-*"))
    samples = read_samples(own_run.samples)
    assert samples is not None
    assert samples.has_figures()
    assert not own_run.is_compared()


def test_a_full_disk_is_one_line_and_loses_nothing(refusal, own_run: RunDirectory) -> None:
    before = {p.name: p.read_bytes() for p in own_run.path.iterdir() if p.is_file()}
    with full_disk(bytes_left=50_000):
        error = refusal("export", own_run.name, *SET)
    assert isinstance(error.__cause__, OSError)
    assert error.__cause__.errno == errno.EFBIG
    after = {p.name: p.read_bytes() for p in own_run.path.iterdir() if p.is_file()}
    assert {name: after[name] for name in before} == before
    assert not list(own_run.path.glob("artifacts/*"))


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or (os.geteuid() == 0 and shutil.which("setpriv") is None),
    reason="needs an unprivileged user",
)
def test_a_read_only_run_is_one_line(own_run: RunDirectory, paths: Paths) -> None:
    for path in (own_run.path, paths.runs):
        path.chmod(0o555)
    command = [sys.executable, "-m", "foldbench", "train", "digits", "--fresh"]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    done = subprocess.run(
        [*command, "--runs", str(paths.runs), "--cache", str(paths.cache), *SET],
        capture_output=True,
        text=True,
    )
    for path in (own_run.path, paths.runs):
        path.chmod(0o755)
    if done.returncode == 0:
        pytest.skip("this system lets the user write anyway")
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: cannot write in ")


def test_an_interrupt_says_how_to_go_on(paths: Paths, tmp_path: Path, start_bench) -> None:
    folders = ["--runs", str(paths.runs), "--cache", str(paths.cache)]
    settings = [*SET, "--set=train.epochs=500", "--set=data.subset=300"]
    process = start_bench(tmp_path, "train", "digits", *folders, *settings)
    said = tmp_path / "stderr"
    while "epoch 1/" not in said.read_text():
        assert process.poll() is None, said.read_text()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert said.read_text().splitlines()[-1].startswith("Interrupted: ")
    assert "Traceback" not in said.read_text()
