"""A configuration at a git revision: whose code exports it, and what stays as it was."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from foldbench.bench.errors import RunError, UnknownNameError
from foldbench.bench.progress import NullListener
from foldbench.bench.stages.gate_revision import export_revision, is_revision
from foldbench.bench.store.directory import Paths, RunDirectory

EXPORTER = """
import os, pathlib, sys
print("from the revision", file=sys.stderr)
assert sys.argv[1] == "export" and sys.argv[3] == "--runs", sys.argv
run = pathlib.Path(sys.argv[4], sys.argv[2].replace(".yaml", "-001"))
run.mkdir(parents=True, exist_ok=True)
(run / "run.json").write_text("{}")
(run / "made-by").write_text(VERSION + " " + os.getcwd() + " " + " ".join(sys.argv[5:]))
if VERSION == "broken":
    sys.exit("Error: cannot export that")
"""


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two revisions of a foldbench that says which one exported, and a broken one."""
    root = tmp_path / "repository"
    (root / "foldbench").mkdir(parents=True)
    (root / "foldbench" / "__init__.py").touch()
    git(tmp_path, "init", "-q", str(root))
    for version in ("old", "broken", "new"):
        text = f"VERSION = {version!r}\n{EXPORTER}"
        (root / "foldbench" / "__main__.py").write_text(text)
        (root / "net.yaml").write_text("model: {}\n")
        git(root, "add", ".")
        git(root, "commit", "-q", "-m", version)
        git(root, "tag", version)
    monkeypatch.chdir(root)
    return root


def export(name: str, paths: Paths, tmp_path: Path, *overrides: str) -> RunDirectory:
    return export_revision(name, overrides, paths, tmp_path / "made", NullListener())


def test_the_code_of_the_revision_exports_in_a_worktree_that_goes_again(
    repository: Path, paths: Paths, tmp_path: Path
) -> None:
    run = export("old:net.yaml", paths, tmp_path, "export.images=9")
    version, where, *options = (run.path / "made-by").read_text().split()
    assert version == "old"
    assert not Path(where).exists()
    assert Path(where) != repository
    assert options == ["--set", "export.images=9"]
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert git(repository, "status", "--porcelain") == ""
    assert "'new'" in (repository / "foldbench" / "__main__.py").read_text()


def test_the_checkpoint_is_copied_without_what_was_exported_before(
    repository: Path, paths: Paths, tmp_path: Path, own_run: RunDirectory
) -> None:
    (own_run.path / "artifacts").mkdir(exist_ok=True)
    (own_run.path / "artifacts" / "folded.onnx").touch()
    before = sorted(os.listdir(own_run.path))
    run = export(f"new:{own_run.name}", paths, tmp_path)
    assert run.name == own_run.name
    assert run.checkpoint() == own_run.checkpoint()
    assert not (run.path / "artifacts").exists()
    assert sorted(os.listdir(own_run.path)) == before


def test_a_checkpoint_of_the_revision_itself_goes_first(
    repository: Path, paths: Paths, tmp_path: Path, own_run: RunDirectory
) -> None:
    tracked = repository / paths.runs.name / own_run.name
    shutil.copytree(own_run.path, tracked)
    (tracked / "of-the-revision").touch()
    git(repository, "add", "-f", ".")
    git(repository, "commit", "-q", "-m", "with a run")
    run = export(f"HEAD:{own_run.name}", paths, tmp_path)
    assert (run.path / "of-the-revision").exists()


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("nowhere:net.yaml", UnknownNameError, "no revision"),
        ("--all:net.yaml", UnknownNameError, "no git revision"),
        ("new:other.yaml", RunError, "other.yaml"),
        ("broken:net.yaml", RunError, "cannot export that"),
    ],
)
def test_what_cannot_be_exported_is_said_and_leaves_no_worktree(
    repository: Path, paths: Paths, tmp_path: Path, name: str, error: type, said: str
) -> None:
    with pytest.raises(error, match=said):
        export(name, paths, tmp_path)
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_outside_of_a_repository_a_revision_is_no_name(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UnknownNameError, match="repository"):
        export("main:net.yaml", paths, tmp_path)


def test_a_path_is_no_revision(tmp_path: Path) -> None:
    assert is_revision("main:net.onnx")
    assert not is_revision("C:\\files\\net.onnx")
    (tmp_path / "a:b.onnx").touch()
    assert not is_revision(str(tmp_path / "a:b.onnx"))
