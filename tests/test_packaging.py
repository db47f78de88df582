"""The wheel: what it holds, and that `bench` works from any directory once it is installed."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("bench", "models", "exporters", "reports", "configs")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build.util", reason="needs build")
    pytest.importorskip("setuptools", minversion="77", reason="needs setuptools 77 or newer")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source],
        check=True,
        capture_output=True,
        text=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_module_the_configs_and_the_homeworks_figures(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        p.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for pattern in ("*.py", "*.yaml", "*.json", "*.c", "templates/*")
        for p in (ROOT / package).rglob(pattern)
        if "published" not in p.parts  # results, not code
    }
    assert held == expected
    assert {"configs/deep_mish.yaml", "configs/_homework.yaml", "reports/homework.json"} <= held


def test_installed_elsewhere_it_works_from_any_directory(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    code = (
        "import bench, sys; from bench.cli import cli; print(bench.__file__);"
        "cli(['train', 'digits', '--set=train.epochs=1', '--set=model.name=mish_cnn'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
    assert (elsewhere / "runs" / "digits-001" / "checkpoint.json").is_file()


def test_a_package_of_the_same_name_in_the_way_is_named(tmp_path: Path) -> None:
    intruder = tmp_path / "models" / "__init__.py"
    intruder.parent.mkdir()
    intruder.write_text("")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import bench"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"its own package 'models' in {ROOT}, but Python finds {intruder}" in done.stderr


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
