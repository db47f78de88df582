"""The command line's --passes and --target: what they write, say and refuse."""

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import Result

from builders import QUICK
from foldbench.bench.errors import ConfigError, UnknownNameError
from foldbench.bench.measure.contenders import Subject, list_contenders
from foldbench.bench.store.directory import RunDirectory
from foldbench.exporters import export as exporting

Export = Callable[..., Result]


@pytest.fixture
def export(bench) -> Export:
    """Export the run in the test's own folder."""
    overrides = [f"--set={text}" for text in QUICK if text.startswith("export")]
    return lambda *arguments: bench("export", "digits-001", *overrides, *arguments)


def operators(run: RunDirectory, file: str) -> list[str]:
    return [node.op_type for node in onnx.load(run.path / "artifacts" / file).graph.node]


def own_operators(run: RunDirectory) -> list[str]:
    """Return foldbench's own operators in the file for this machine."""
    found = operators(run, "digits.folded.host.onnx")
    return [name for name in found if name.startswith("Elementwise_")]


def test_by_default_every_pass_for_the_cpu_is_made(exported_run: RunDirectory) -> None:
    (artifact,) = exported_run.artifacts()
    assert (artifact.target, artifact.variant) == ("cpu", "folded")
    assert [p.name for p in artifact.passes] == ["strip_metadata", "fold_batchnorm", "mish"]
    assert [p.changed for p in artifact.passes[1:]] == [0, 3]
    assert "Mish" not in operators(exported_run, "digits.folded.onnx")


def test_without_passes_the_graph_stays_as_exported_but_for_its_notes(
    export: Export, own_run: RunDirectory
) -> None:
    assert export("--passes", "none").exit_code == 0
    (artifact,) = own_run.artifacts()
    assert [p.name for p in artifact.passes] == ["strip_metadata"]
    assert operators(own_run, "digits.folded.onnx").count("Mish") == 3


def test_a_run_that_is_deleted_during_its_export_is_not_brought_back(
    export: Export, own_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "check_graph", lambda model: shutil.rmtree(own_run.path))
    assert export().exit_code == 1
    assert not own_run.path.exists()


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_a_pass_that_a_missing_compiler_left_out_is_made_up_for_once_there_is_one(
    export: Export, own_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOLDBENCH_CACHE", str(tmp_path / "operators"))
    monkeypatch.setenv("CC", "no-such-compiler")
    assert export("--target", "host").exit_code == 0
    assert not own_operators(own_run)
    monkeypatch.setenv("CC", "cc")
    assert export("--target", "host").exit_code == 0
    assert len(own_operators(own_run)) == 3
    monkeypatch.setenv("CC", "no-such-compiler")
    made = own_run.artifacts()
    assert export("--target", "host").exit_code == 0
    assert own_run.artifacts() == made, "the library is still there"


def test_files_for_other_targets_lie_beside_each_other(
    export: Export, own_exported_run: RunDirectory
) -> None:
    for target in ("cuda", "host"):
        assert export("--target", target).exit_code == 0
    artifacts = own_exported_run.artifacts()
    assert {a.path: a.target for a in artifacts} == {
        "artifacts/digits.folded.onnx": "cpu",
        "artifacts/digits.folded.cuda.onnx": "cuda",
        "artifacts/digits.folded.host.onnx": "host",
    }
    assert all(a.parity.passed for a in artifacts)
    assert operators(own_exported_run, "digits.folded.cuda.onnx").count("Mish") == 3
    subject = Subject(own_exported_run.path, own_exported_run.checkpoint(), artifacts)
    rows = {c.name: c.path for c in list_contenders(subject, ["ort"], ["cpu", "cuda"])}
    assert {name: path.name for name, path in rows.items() if path} == {
        "ort/folded/cpu": "digits.folded.onnx",
        "ort/folded.host/cpu": "digits.folded.host.onnx",
        "ort/folded/cuda": "digits.folded.cuda.onnx",
    }


def test_a_device_without_any_file_for_it_is_a_row_with_the_reason(
    export: Export, own_run: RunDirectory
) -> None:
    assert export("--target", "cuda").exit_code == 0
    subject = Subject(own_run.path, own_run.checkpoint(), own_run.artifacts())
    (row,) = list_contenders(subject, ["ort"], ["cpu"])
    assert row.status == "skipped"
    assert str(row.reason).endswith(f" cpu: bench export {own_run.name}")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--passes", "mihs"), "'mish'"),
        (("--passes", "fold_batchnorm", "--no-fold-bn"), "export.fold_bn"),
        (("--passes", "nchwc_strip"), "host"),
        (("--set", "export.passes=3"), "export.passes"),
        (("--set", "export.target=cud"), "'cuda'"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: tuple[str, ...], named: str, refusal, own_run: RunDirectory
) -> None:
    error = refusal("export", own_run.name, *arguments)
    assert isinstance(error, ConfigError | UnknownNameError)
    assert named in str(error)
    assert not own_run.artifacts()
