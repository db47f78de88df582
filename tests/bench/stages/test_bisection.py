"""Bisections over made-up versions of onnxruntime, which wrap the real one in processes."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_runtimes import make_runtime
from onnx.parser import parse_model

from foldbench.bench.analysis.bisection import Bisected, Question
from foldbench.bench.errors import BackendError, BenchError, ConfigError, RunError
from foldbench.bench.measure.gating import measure_gate
from foldbench.bench.progress import NullListener
from foldbench.bench.stages.bisection import Asked, bisect
from foldbench.bench.store.directory import Paths
from foldbench.bench.timing.simulation import FakeClock, FakeSession
from foldbench.bench.workers.protocol import Job, Opened
from foldbench.bench.workers.runtimes import python_of
from foldbench.bench.workers.server import WorkerServer

QUICK = (
    *("gate.block_s=0", "gate.warm_up_s=0", "gate.rounds=1", "compare.settle_s=0"),
    *("compare.calls=3", "data.test_subset=8"),
)
STAGE = "foldbench.bench.stages"


@pytest.fixture(autouse=True)
def _files_are_read_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("gate_sides", "cutting"):
        monkeypatch.setattr(f"{STAGE}.{module}.run_isolated", lambda call, *args: call(*args))


def write(path: Path, nodes: str) -> Path:
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,1,8,8] x) => (float[N,64] y) '
        f"{{ {nodes} }}"
    )
    onnx.save(parse_model(text), path)
    return path


@pytest.fixture
def one_node(tmp_path: Path) -> Path:
    return write(tmp_path / "flat.onnx", "y = Flatten(x)")


def search(
    path: Path, question: Question, allowed: float, paths: Paths, span: str = "1.20..1.31"
) -> Bisected:
    asked = Asked(
        *(str(path), "ort", span, question, allowed), offline=True, folder=path.parent / "part"
    )
    return bisect(asked, QUICK, paths, NullListener())


def test_changed_answers_are_traced_to_a_version_and_to_one_node_that_runs_without_foldbench(
    tmp_path: Path, paths: Paths
) -> None:
    network = write(tmp_path / "net.onnx", "a = Flatten(x) [culprit] y = Neg(a)")
    for version, fault in (("1.20.0", None), ("1.21.1", None), ("1.22.0", "answers")):
        make_runtime(paths.cache, version, fault, culprit=b"culprit")
    make_runtime(paths.cache, "1.19.2", "answers")
    make_runtime(paths.cache, "1.25.0", "refuses")
    found = search(network, "answers", 0.01, paths)
    assert found.versions == ("1.20.0", "1.21.1", "1.22.0", "1.25.0")
    assert (found.base, found.good, found.bad) == ("1.20.0", "1.21.1", "1.22.0")
    assert (found.outcome, found.fails, found.between) == ("worse", True, ())
    skipped = {one.version: one.reason for one in found.tried if one.check is None}
    assert list(skipped) == ["1.25.0"]
    assert "opset 20" in str(skipped["1.25.0"])
    part = found.part
    assert part is not None
    assert (part.operators, part.nodes, part.of_nodes) == (("Neg",), 1, 2)
    assert (part.good, part.bad) == ("1.21.1", "1.22.0")
    assert part.check.change == pytest.approx(0.5)
    folder = Path(part.folder)
    for version in (part.good, part.bad):
        profile = json.loads((folder / f"profile-{version}.json").read_text())
        assert any(event["cat"] == "Node" for event in profile)
    done = subprocess.run(
        [sys.executable, "-I", folder / "reproduce.py", "--profile"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "largest difference 0" in done.stdout
    assert np.load(folder / "input.npy").shape == (1, 64)


def test_a_slower_version_is_found_and_a_network_of_one_node_is_its_own_part(
    one_node: Path, paths: Paths
) -> None:
    make_runtime(paths.cache, "1.20.0", pause_s=2e-3)
    make_runtime(paths.cache, "1.21.0", pause_s=8e-3)
    found = search(one_node, "latency", 0.5, paths)
    assert (found.good, found.bad, found.outcome) == ("1.20.0", "1.21.0", "worse")
    assert found.between == ()
    (tried,) = found.tried
    assert tried.check is not None
    assert tried.check.low is not None
    assert tried.check.low > 0.5
    assert found.part is not None
    assert (found.part.operators, found.part.check) == (("Flatten",), tried.check)


class Worker(WorkerServer):
    """Runs nothing, and has the memory of its version."""

    def load(self) -> tuple[float, float]:
        return 0.0, 0.0

    def open(self) -> Opened:
        return Opened("cpu", "fake", 1, "float32", 0.0, 0.0)

    def memory(self) -> int:
        return {"ort@1.20.0": 100, "ort@1.21.0": 104, "ort@1.22.0": 130}[self._job.backend] * 2**20


def test_memory_that_grew_is_found(
    one_node: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(job: Job) -> WorkerServer:
        clock = FakeClock()
        return Worker(job, clock, FakeSession(lambda size: 1e-3 * size, clock, classes=64))

    measured = partial(measure_gate, start_worker=start)
    monkeypatch.setattr(f"{STAGE}.versions.measure_gate", measured)
    for version in ("1.20.0", "1.21.0", "1.22.0"):
        make_runtime(paths.cache, version)
    found = search(one_node, "peak memory", 0.1, paths)
    assert (found.good, found.bad) == ("1.21.0", "1.22.0")
    assert [one.version for one in found.tried] == ["1.22.0", "1.21.0"]
    changes = [one.check.change for one in found.tried if one.check]
    assert changes == [pytest.approx(0.3), pytest.approx(0.04)]


def test_versions_that_do_not_differ_end_it_at_the_newest(one_node: Path, paths: Paths) -> None:
    for version in ("1.20.0", "1.21.0", "1.22.0"):
        make_runtime(paths.cache, version)
    found = search(one_node, "answers", 0.01, paths)
    assert (found.outcome, found.bad, found.part) == ("not worse", None, None)
    assert [one.version for one in found.tried] == ["1.22.0"]
    assert not (one_node.parent / "part").exists()


def test_a_damaged_environment_is_no_version_and_one_that_runs_nothing_is_named(
    one_node: Path, paths: Paths
) -> None:
    make_runtime(paths.cache, "1.20.0")
    python_of(make_runtime(paths.cache, "1.21.0")).unlink()
    make_runtime(paths.cache, "1.22.0", "refuses")
    with pytest.raises(ConfigError, match="1.20.0"):
        search(one_node, "answers", 0.01, paths, "1.20..1.21")
    found = search(one_node, "answers", 0.01, paths, "1.20..1.22")
    assert (found.outcome, found.fails) == ("cannot tell", False)
    make_runtime(paths.cache, "1.19.0", "refuses")
    make_runtime(paths.cache, "1.18.0", "refuses")
    with pytest.raises(BackendError, match="opset 20"):
        search(one_node, "answers", 0.01, paths, "1.18..1.19")


@pytest.mark.parametrize(
    ("runtime", "span", "error"),
    [
        ("torch", "1..2", ConfigError),
        ("ort@1.20.0", "1.20..1.31", ConfigError),
        ("ort", "1.20-1.31", ConfigError),
        ("ort", "1.31..1.20", ConfigError),
        ("ort", "1.20..", ConfigError),
        ("nothing", "1.20..1.31", BenchError),
    ],
)
def test_what_is_no_runtime_or_no_range_is_refused(
    one_node: Path, paths: Paths, runtime: str, span: str, error: type
) -> None:
    asked = Asked(str(one_node), runtime, span, "answers", 0.01, offline=True)
    with pytest.raises(error):
        bisect(asked, QUICK, paths, NullListener())


def test_a_folder_that_exists_is_never_written_to(one_node: Path, paths: Paths) -> None:
    (one_node.parent / "part").mkdir()
    with pytest.raises(RunError, match="part"):
        search(one_node, "answers", 0.01, paths)
