"""The wheel: what it holds, and that `bench` works from any directory once it is installed."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from builders import QUICK

ROOT = Path(__file__).parents[2]
FOLDERS = ("bench", "models", "exporters", "reports", "configs")
SMALL = ("data.subset=40", "data.test_subset=40", "export.images=8")
PATTERNS = ("*.py", "*.yaml", "*.json", "*.c", "*.h", "templates/*")


def copy_checkout(target: Path, *, links: bool) -> None:
    """Copy what a wheel is made from, with or without the links in foldbench/."""
    target.mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "foldbench", target / "foldbench", symlinks=True)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    if not links:
        for name in FOLDERS:
            (target / "foldbench" / name).unlink()


@pytest.mark.parametrize(
    ("variable", "name"), [("1", "onnxruntime"), ("", "onnxruntime-gpu"), (None, "onnxruntime-gpu")]
)
def test_without_cuda_onnxruntime_is_the_build_for_cpus(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, name: str
) -> None:
    setuptools = pytest.importorskip("setuptools", reason="setup.py needs it")
    found: dict = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: found.update(arguments))
    monkeypatch.delenv("FOLDBENCH_CPU", raising=False)
    if variable is not None:
        monkeypatch.setenv("FOLDBENCH_CPU", variable)
    runpy.run_path(str(ROOT / "setup.py"))
    required = map(Requirement, found["install_requires"])
    x86 = {"platform_machine": "x86_64", "sys_platform": "linux"}
    chosen = {one.name for one in required if one.marker is None or one.marker.evaluate(x86)}
    assert {one for one in chosen if one.startswith("onnxruntime")} == {name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build.util", reason="needs build")
    pytest.importorskip("setuptools", minversion="77", reason="needs setuptools 77 or newer")
    folder = tmp_path_factory.mktemp("wheel")
    copy_checkout(folder / "source", links=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", folder / "source"]
    subprocess.run([*command, "--outdir", folder], check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_module_and_claims_one_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (top,) = (n for n in archive.namelist() if n.endswith(".dist-info/top_level.txt"))
        assert archive.read(top).decode().split() == ["foldbench"]
    expected = {
        f"foldbench/{p.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for pattern in PATTERNS
        for p in (ROOT / folder).rglob(pattern)
        if "published" not in p.parts  # results, not code
    }
    of_root = {f"foldbench/{name}" for name in ("__init__.py", "__main__.py", "py.typed")}
    assert held == expected | of_root
    assert "foldbench/configs/_homework.yaml" in held
    assert "foldbench/reports/rows/homework.json" in held


def test_a_checkout_without_links_finds_its_folders(tmp_path: Path) -> None:
    copy_checkout(tmp_path / "source", links=False)
    code = "import foldbench.configs, foldbench.bench.errors as e; print(e.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "source",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "source")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "source" / "bench" / "errors.py")


def test_installed_it_works_beside_a_users_packages_of_the_same_names(
    wheel: Path, tmp_path: Path
) -> None:
    site, theirs = tmp_path / "site", tmp_path / "project"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in (*FOLDERS, "tests", "utils"):
        (theirs / name).mkdir(parents=True)
        (theirs / name / "__init__.py").write_text(f"raise ImportError('{name} of the user')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(theirs), str(site)])}
    settings = [f"--set={text}" for text in (*QUICK, *SMALL)]
    done = subprocess.run(
        [sys.executable, "-m", "foldbench", "run", "digits", *settings],
        cwd=theirs,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((theirs / "runs" / "digits-001" / "results.json").read_text())
    assert {(m["contender"], m["status"]) for m in results["measurements"]} == {
        (name, "ok") for name in ("torch/unfolded/cpu", "torch/folded/cpu", "ort/folded/cpu")
    }


def test_every_requirement_is_pinned_to_a_version_within_its_range(wheel: Path) -> None:
    from email import message_from_bytes

    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    stated = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    assert len(stated) > 15
    for requirement in stated:
        assert requirement.specifier.contains(pins[requirement.name.lower()]), requirement
