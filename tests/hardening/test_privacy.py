"""Nothing is reported to the makers of libraries, and no code of the current folder runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import foldbench

HOME = Path(foldbench.__file__).parents[1]
SESSION = """
import os
import foldbench
import numpy as np
from onnx import TensorProto, helper
from foldbench.bench.backends import NetworkSource, {backend}
floats = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", floats[:1], floats[1:])
opset = [helper.make_opsetid("", 20)]
model = helper.make_model(graph, ir_version=10, opset_imports=opset)
with open({path!r}, "wb") as stream:
    stream.write(model.SerializeToString())
from pathlib import Path
source = NetworkSource(path=Path({path!r}), build_module=lambda: None)
with {backend}.open_session(source, device="cpu", threads=1, options={{}}) as session:
    session.bind(np.ones((2, 4), np.float32))
    session.step()
{more}
opened = [os.readlink(f"/proc/self/fd/{{n}}") for n in os.listdir("/proc/self/fd")
          if os.path.lexists(f"/proc/self/fd/{{n}}")]
print(*[name for name in opened if name.startswith("socket:")])
"""


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return an environment whose home and temporary folder are empty ones below `folder`."""
    for name in ("home", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(HOME),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        **more,
    }


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_a_session_leaves_no_file_and_opens_no_socket(tmp_path: Path, backend: str) -> None:
    pytest.importorskip({"ort": "onnxruntime"}.get(backend, backend))
    assert traces(tmp_path, backend) == []


REPORTS = {
    "socket": "import socket; kept = socket.socket()",
    "home": "from pathlib import Path; (Path.home() / 'id').touch()",
    "temporary": "import tempfile; kept = tempfile.mkstemp()",
}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("what", REPORTS)
def test_a_session_that_reports_is_found(tmp_path: Path, what: str) -> None:
    pytest.importorskip("onnxruntime")
    assert len(traces(tmp_path, "ort", REPORTS[what])) == 1


def traces(folder: Path, backend: str, more: str = "") -> list[str]:
    """Return what a session leaves behind and the sockets it holds, in a process of its own.

    `more` is code that runs in it, too.
    """
    code = SESSION.format(path=str(folder / "net.onnx"), backend=backend, more=more)
    command = [sys.executable, "-c", code]
    given = environment(folder)
    ended = subprocess.run(command, env=given, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return [
        *files_below(folder / "home"),
        *files_below(folder / "tmp"),
        *ended.stdout.split(),
    ]


REPORTING = ("DO_NOT_TRACK", "ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY")
WHERE = {
    "a worker": "from foldbench.bench.workers.isolated import run_isolated as run",
    "a backend": "import foldbench.bench.backends; run = lambda get, name: get(name)",
    "a command": "import sys; from foldbench.bench.cli import main; sys.argv = ['bench', 'list']\n"
    "try:\n    main()\nexcept SystemExit: pass\n"
    "run = lambda get, name: get(name)",
}


@pytest.mark.parametrize("where", WHERE)
def test_nothing_is_reported_unless_the_user_decides_otherwise(tmp_path: Path, where: str) -> None:
    code = f"{WHERE[where]}\nimport os\nprint(*(run(os.getenv, name) for name in {REPORTING}))"
    given = environment(tmp_path, ORT_DISABLE_TELEMETRY="0")
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, env=given, capture_output=True, text=True)
    assert ended.stdout.splitlines()[-1:] == ["1 0 1"], ended.stderr


def test_a_program_that_imports_foldbench_keeps_its_environment(tmp_path: Path) -> None:
    code = (
        "import os\nbefore = dict(os.environ)\nimport foldbench\n"
        "foldbench.compare, foldbench.export, foldbench.fold\nassert {**os.environ} == before"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), check=True)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder whose modules are called like those of the standard library, and leave a trace."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    for name in ("signal", "socket", "queue", "click", "numpy", "selectors", "bench", "models"):
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'trace')!r}, 'a').write('{name} ')"
        )
    return folder


def test_a_process_that_is_spawned_imports_nothing_from_the_current_folder(
    tmp_path: Path, hostile: Path
) -> None:
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "bench"  # as an installed command: its folder is first on the path
    script.write_text(
        "import platform\n"
        "from foldbench.bench.workers.isolated import run_isolated\n"
        "assert run_isolated(platform.node) == platform.node()\n"
    )
    subprocess.run([sys.executable, script], cwd=hostile, env=environment(tmp_path), check=True)
    assert not (tmp_path / "trace").exists()


def test_the_module_imports_nothing_from_the_current_folder(tmp_path: Path, hostile: Path) -> None:
    command = [sys.executable, "-m", "foldbench", "list"]
    subprocess.run(
        command, cwd=hostile, env=environment(tmp_path), check=True, stdout=subprocess.DEVNULL
    )
    assert not (tmp_path / "trace").exists()
