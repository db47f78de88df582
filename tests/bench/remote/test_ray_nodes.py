"""Bundles on a Ray cluster: one task on each node, with all that it has. Ray itself is a double."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cloudpickle
import pytest

from foldbench.bench.errors import BenchError, UnknownNameError
from foldbench.bench.progress import NullListener
from foldbench.bench.remote.ray_nodes import _task, connected
from foldbench.bench.stages.bundle import _write
from foldbench.bench.stages.remote import measure_elsewhere

NODES = [
    ("one", "a1" * 20, {"CPU": 8.0, "GPU": 2.0, "fast": 1.0, "node:10.0.0.1": 1.0}, {"kind": "pi"}),
    ("two", "b2" * 20, {"CPU": 4.0}, {"kind": "pc"}),
    ("two", "c3" * 20, {"memory": 1.0}, {}),
]


class RayError(Exception):
    """What Ray raises."""


class Cluster:
    """The calls of Ray that are used; a task runs where its result is asked for."""

    def __init__(self) -> None:
        self.reserved: list[dict[str, object]] = []
        self.is_connected = False

    def init(self, *, address: str, **_: object) -> None:
        if address == "off:1":
            raise ConnectionError("could not find any\nrunning instance")
        self.is_connected = True

    def shutdown(self) -> None:
        self.is_connected = False

    def nodes(self) -> list[dict[str, object]]:
        keys = ("NodeManagerHostname", "NodeID", "Resources", "Labels")
        dead = dict(zip(keys, ("three", "d4", {"CPU": 1}, {}), strict=True), Alive=False)
        alive = [dict(zip(keys, node, strict=True), Alive=True) for node in NODES]
        return [*alive, dead]

    def remote(self, **options: object) -> Callable[..., SimpleNamespace]:
        self.reserved.append(options)
        where = options["scheduling_strategy"]
        return lambda run: SimpleNamespace(remote=lambda *given: (where, lambda: run(*given)))

    def get(self, task: tuple[str, Callable[[], object]]) -> object:
        if task[0] == NODES[1][1]:
            raise RayError("the node died")
        return task[1]()

    def cancel(self, task: object) -> None:
        """Nothing runs any more."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster()
    calls = ("init", "shutdown", "nodes", "remote", "get", "cancel")
    parts: dict[str, dict[str, object]] = {
        "ray": {name: getattr(found, name) for name in calls},
        "ray.exceptions": {"RayError": RayError},
        "ray.util": {},
        "ray.util.scheduling_strategies": {
            "NodeAffinitySchedulingStrategy": lambda identity, *, soft: identity
        },
    }
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return found


def test_every_node_runs_one_task_with_all_that_it_has(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(there))
    bundle = tmp_path / "net.pyz"
    packages = ("foldbench", "foldbench/bench", "foldbench/bench/carried")
    code = {f"code/{package}/__init__.py": b"" for package in packages}
    code["code/foldbench/bench/carried/main.py"] = b"def main(*_): raise OSError(28, 'full')"
    _write(bundle, code)
    with connected("10.0.0.1:6379", None) as nodes:
        assert cluster.is_connected
        found = measure_elsewhere(bundle, nodes, tmp_path / "records", NullListener())
    assert not cluster.is_connected
    reasons = {one.place: one.reason or "" for one in found}
    assert list(reasons) == ["one", "two-b2b2b2b2", "two-c3c3c3c3"]
    assert "full; TMPDIR" in reasons["one"]
    assert reasons["two-b2b2b2b2"] == "the node died"
    assert "no CPU" in reasons["two-c3c3c3c3"]
    reserved = {o["scheduling_strategy"]: (o["num_cpus"], o["num_gpus"]) for o in cluster.reserved}
    assert reserved == {NODES[0][1]: (8, 2), NODES[1][1]: (4, 0)}
    assert os.listdir(there) == []


@pytest.mark.parametrize(
    ("wanted", "names"),
    [("fast", ["one"]), ("kind=pc", ["two-b2b2b2b2"]), ("CPU", ["one", "two-b2b2b2b2"])],
)
def test_nodes_are_chosen_by_resource_or_label(
    cluster: Cluster, wanted: str, names: list[str]
) -> None:
    with connected("auto", wanted) as nodes:
        assert [node.name for node in nodes] == names


def test_a_cluster_that_cannot_be_used_is_one_line(cluster: Cluster) -> None:
    with pytest.raises(BenchError, match="off:1") as told, connected("off:1", None):
        pass
    assert "\n" not in str(told.value)
    known = r"\(resources and labels: CPU, GPU, fast, kind="
    with pytest.raises(UnknownNameError, match=known), connected("auto", "slow"):
        pass
    assert not cluster.is_connected


def test_a_node_needs_no_foldbench(tmp_path: Path) -> None:
    (tmp_path / "task").write_bytes(cloudpickle.dumps(_task()))
    program = "def measure(name, write, say):\n    write(name)\n    return {'record': name}"
    code = f"""
import sys
sys.modules["foldbench"] = None
import cloudpickle
run = cloudpickle.load(open("task", "rb"))
print(run({program!r}, "net.pyz", b"bundle")["record"])
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "net.pyz\n", done.stderr
    assert (tmp_path / "net.pyz").read_bytes() == b"bundle"
