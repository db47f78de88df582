"""`bench gate` on small .onnx files and on a run, in this process."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import pytest
from graphs import classifier

from builders import QuietWorker, make_row, make_run
from foldbench.bench.errors import BenchError, ConfigError, RunError, UnknownNameError
from foldbench.bench.measure.gating import measure_gate
from foldbench.bench.store.directory import RunDirectory

QUICK = ("--set", "gate.block_s=0", "--set", "gate.warm_up_s=0", "--set", "compare.settle_s=0")
STAGE = "foldbench.bench.stages"


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        f"{STAGE}.gate.measure_gate", partial(measure_gate, start_worker=QuietWorker)
    )
    monkeypatch.setattr(f"{STAGE}.gate_sides.run_isolated", lambda call, *args: call(*args))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A network, and the same with other weights in its last layer."""
    base, head = classifier(), classifier()
    for tensor in head.graph.initializer:
        if tensor.name == "bias":
            changed = -10 * onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(changed, "bias"))
    paths = tmp_path / "base.onnx", tmp_path / "head.onnx"
    onnx.save(base, paths[0])
    onnx.save(head, paths[1])
    return str(paths[0]), str(paths[1])


def test_two_files_are_judged_in_every_property_and_written_in_every_form(
    bench: Callable, files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    forms = {name: str(tmp_path / name) for name in ("junit", "bencher", "benchmark-action")}
    options = [part for name, path in forms.items() for part in (f"--{name}", path)]
    slack = ("--max-slower", "500%", "--set", "gate.processes=3", "--max-memory", "500%")
    done = bench("gate", *files, *QUICK, *slack, *options, "--json")
    assert done.exit_code == 3, done.output
    found = json.loads(done.stdout)
    outcomes = {check["what"]: check["outcome"] for check in found["checks"]}
    assert outcomes == {
        "latency": "not worse",
        "agreement": "worse",
        "file size": "not worse",
        "peak memory": "not worse",
    }
    assert found["processes"] == 3
    assert summary.read_text().startswith("before\n")
    assert "agreement" in summary.read_text()
    assert all(Path(path).stat().st_size > 0 for path in forms.values())


@pytest.mark.parametrize(("on_unclear", "code"), [("pass", 0), ("fail", 4)])
def test_what_cannot_be_told_passes_or_fails_as_chosen(
    bench: Callable, files: tuple[str, str], on_unclear: str, code: int
) -> None:
    done = bench(
        "gate", files[0], files[0], *QUICK, "--budget", "0.01s", "--on-unclear", on_unclear
    )
    assert done.exit_code == code, done.output
    assert "cannot tell" in done.stdout
    assert len(done.stdout.splitlines()) <= 20


def test_a_run_and_a_file_are_given_the_images_and_the_scale_of_the_run(
    bench: Callable, own_exported_run: RunDirectory, tmp_path: Path
) -> None:
    (artifact,) = own_exported_run.artifacts()
    file = shutil.copy(own_exported_run.path / artifact.path, tmp_path / "shipped.onnx")
    slack = ("--max-slower", "500%", "--set", "gate.processes=3", "--max-memory", "500%")
    done = bench("gate", str(own_exported_run.path), str(file), *QUICK, *slack, "--json")
    assert done.exit_code == 0, done.output
    (accuracy,) = [c for c in json.loads(done.stdout)["checks"] if c["what"] == "accuracy"]
    assert accuracy["base"] == accuracy["head"]
    assert accuracy["outcome"] == "not worse"


@pytest.mark.parametrize(
    ("head", "error"),
    [
        ("nowhere.onnx", UnknownNameError),
        ("nothing", UnknownNameError),
        ("v0:nothing", BenchError),
    ],
)
def test_what_is_neither_a_run_nor_a_file_nor_a_revision_is_refused(
    refusal: Callable[..., BenchError], files: tuple[str, str], head: str, error: type
) -> None:
    assert isinstance(refusal("gate", files[0], head), error)


def test_networks_of_other_classes_and_torch_for_a_file_are_refused(
    refusal: Callable[..., BenchError], files: tuple[str, str], own_exported_run: RunDirectory
) -> None:
    other = refusal("gate", files[0], str(own_exported_run.path))
    assert isinstance(other, ConfigError)
    assert "5" in str(other)
    assert "10" in str(other)
    assert isinstance(refusal("gate", *files, "--backend", "torch"), ConfigError)
    assert isinstance(refusal("gate", *files, "--variant", "int8"), ConfigError)


def test_a_run_without_the_file_that_is_asked_for_is_refused(
    refusal: Callable[..., BenchError], own_exported_run: RunDirectory
) -> None:
    path = str(own_exported_run.path)
    assert isinstance(refusal("gate", path, path, "--variant", "int8"), ConfigError)
    shutil.rmtree(own_exported_run.path / "artifacts")
    assert isinstance(refusal("gate", path, path), RunError)


def test_a_comparison_stands_for_the_file_that_it_measured(
    bench: Callable, refusal: Callable[..., BenchError], own_exported_run: RunDirectory
) -> None:
    (artifact,) = own_exported_run.artifacts()
    row = make_row("ort", "folded", source_sha256=artifact.sha256)
    other = make_row("ort", "folded", source_sha256="f" * 64)
    for measured in (row, other):
        record = make_run(
            name=own_exported_run.name,
            checkpoint=own_exported_run.checkpoint(),
            measurements=(measured,),
        )
        own_exported_run.write_results(record)
    name = own_exported_run.name
    assert isinstance(refusal("gate", name, f"{name}@2"), RunError)
    done = bench("gate", name, f"{name}@1", *QUICK, "--budget", "0.01s")
    assert done.exit_code == 0, done.output
    assert f"{name}@1" in done.stdout
