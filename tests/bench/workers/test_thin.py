"""The process that is timed needs the standard library, numpy and its contender's runtime."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from onnx import save
from onnx.parser import parse_model

from builders import make_job
from foldbench.bench.backends._ort.placement import check_nodes
from foldbench.bench.errors import BackendError
from foldbench.bench.timing.loop import BlockOptions
from foldbench.bench.workers.client import WorkerClient
from foldbench.bench.workers.runtimes import prepare_runtime

ROOT = Path(__file__).parent.parent.parent.parent
THIN = ("samples", "machine", "backends", "timing", "workers", "errors", "registry")
NOT_IN_WORKERS = {
    "bench.machine.environment": "describes the machine for the parent",
    "bench.workers.runtimes": "makes the environments of other versions for the parent",
    "bench.workers.image_stages": "makes the input from image files where that is what is timed",
    "bench.workers.torch_module": "builds the module where torch is what runs",
}
RUNTIMES = {"torch", "onnxruntime", "openvino", "mlperf_loadgen"}
"""What runs the network or drives it."""
OPTIONAL = {"pynvml", "threadpoolctl", "platformdirs"}
"""Readers that a process may lack, and where the user's cache is if no variable says so."""
ALLOWED = {*sys.stdlib_module_names, *RUNTIMES, *OPTIONAL, "numpy", "foldbench"}
BLOCKED = {"pydantic", "scipy", "psutil", "rich", "click", "onnx", "torch", "sklearn", "yaml"}

TIME_A_BLOCK = """
import sys
from pathlib import Path

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is not to be imported here")

sys.meta_path.insert(0, Refuse())
from foldbench.bench.timing.loop import BlockOptions
from foldbench.bench.workers.protocol import Job
from foldbench.bench.workers.server import WorkerServer

folder = Path({folder!r})
job = Job(
    backend="ort", device="cpu", threads=1, variant="folded", folder=folder,
    path=folder / "network.onnx", images=folder / "images.npy",
    mean=(0.5,), std=(0.5,), classes=4, batch_size=2,
)
with WorkerServer(job) as server:
    opened = server.open()
    assert server.evaluate().shape == (3, 4)
    block, settle_calls = server.time(2, BlockOptions(calls=5, block_s=0, settle_s=0))
print(opened.device, len(block.samples_s), settle_calls)
"""


def write_network(folder: Path) -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,1,2,2] x) => (float[N,4] y) '
        "{ y = Flatten(x) }"
    )
    save(parse_model(text), folder / "network.onnx")
    np.save(folder / "images.npy", np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2))


@pytest.mark.slow
def test_a_worker_runs_in_an_environment_with_numpy_and_an_older_onnxruntime_alone(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    version = "1.23.2"
    try:
        python = prepare_runtime("onnxruntime", version, pytestconfig.cache.mkdir("thin"))
    except BackendError as error:
        pytest.skip(str(error))
    write_network(tmp_path)
    paths = {"path": tmp_path / "network.onnx", "mean": (0.5,), "std": (0.5,), "classes": 4}
    backend = f"ort@{version}"
    job = make_job(tmp_path / "images.npy", backend=backend, python=python, **paths)
    with closing(WorkerClient(job)) as worker:
        opened = worker.open()
        assert (opened.device, opened.runtime.split()[:2]) == ("cpu", ["onnxruntime", version])
        assert worker.evaluate().shape == (3, 4)
        block, _ = worker.time(2, BlockOptions(calls=5, block_s=0, settle_s=0))
        assert len(block.samples_s) == 5
    other = make_job(tmp_path / "images.npy", backend="ort@1.22.0", python=python, **paths)
    with closing(WorkerClient(other)) as worker, pytest.raises(BackendError, match=version):
        worker.open()


def test_where_nodes_run_is_not_proven_by_a_version_that_does_not_say() -> None:
    assert "not proven" in check_nodes(object(), "CUDAExecutionProvider")


def test_a_worker_times_a_network_where_nothing_else_is_installed(tmp_path: Path) -> None:
    write_network(tmp_path)
    code = TIME_A_BLOCK.format(blocked=BLOCKED, folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["cpu", "5", "3"]


def file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in found if file.is_file()), None)


def imports_of(path: Path) -> Iterator[str]:
    """Yield what a file imports anywhere, but for what only a type checker reads."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            todo += ast.iter_child_nodes(node)


def modules_of(name: str) -> Iterator[str]:
    """Yield the modules of a package, or the one module of that name."""
    folder = ROOT / "bench" / name
    if not folder.is_dir():
        yield f"bench.{name}"
    for path in folder.rglob("*.py"):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("package", THIN)
def test_what_a_worker_consists_of_reaches_no_other_package(package: str) -> None:
    todo, reached = list(modules_of(package)), {*NOT_IN_WORKERS}
    while todo:
        module = todo.pop()
        path = file_of(module)
        if module in reached or path is None:
            continue
        reached.add(module)
        for imported in imports_of(path):
            name = imported.removeprefix("foldbench.")
            if imported.startswith("foldbench."):
                parts = name.split(".")
                todo += [".".join(parts[: n + 1]) for n in range(len(parts))]
            else:
                assert imported.partition(".")[0] in ALLOWED, f"{module} imports {imported}"
