"""What is stored beside a measurement: facts as JSON, nothing that names a person or a place."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from foldbench.bench.machine.environment import (
    describe_environment,
    describe_variables,
    usable_cores,
)
from foldbench.bench.machine.libraries import describe_libraries


def test_the_facts_are_json_and_none_is_unknown() -> None:
    found = describe_environment()
    assert json.loads(json.dumps(found)) == found
    assert None not in found.values()
    assert 2**20 < found["memory_available_bytes"] <= found["memory_bytes"]
    assert 1 <= found["cores_usable"] <= found["cpus_online"]
    assert ("gpu" in found) != ("gpus_unknown" in found)


def test_they_hold_no_path() -> None:
    text = json.dumps(describe_environment())
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text


def test_a_quota_of_a_core_and_a_half_is_one_usable_core(tmp_path: Path) -> None:
    for name, text in (("proc/self/cgroup", "0::/"), ("sys/fs/cgroup/cpu.max", "150000 100000")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == 1


def test_variables_that_libraries_obey_are_kept_without_paths() -> None:
    found = describe_variables(
        {
            "OMP_NUM_THREADS": "2",
            "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
            "CUDA_CACHE_PATH": "/home/alice/.nv",
            "LD_PRELOAD": "/home/alice/lib/libjemalloc.so.2:/opt/libtcmalloc.so",
            "HOME": "/home/alice",
            "PASSWORD": "secret",
            "NVIDIA_TF32_OVERRIDE": "0",
            "NVIDIA_REQUIRE_CUDA": "cuda>=13.0 brand=tesla,driver>=535,driver<536",
        }
    )
    assert found == {
        "CUDA_CACHE_PATH": "a path",
        "LD_PRELOAD": "libjemalloc.so.2 libtcmalloc.so",
        "NVIDIA_TF32_OVERRIDE": "0",
        "OMP_NUM_THREADS": "2",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    }


def test_libraries_say_what_they_were_built_for_and_how_they_are_switched() -> None:
    import torch

    before = torch.backends.cudnn.allow_tf32
    try:
        for switch in (True, False):
            torch.backends.cudnn.allow_tf32 = switch
            assert describe_libraries()["torch"]["tf32_convolution"] is switch
    finally:
        torch.backends.cudnn.allow_tf32 = before
    found = describe_libraries()
    assert found["torch"].get("cuda") == torch.version.cuda
    assert any(pool["kind"] == "openmp" for pool in found["thread_pools"])
    assert json.loads(json.dumps(found)) == found


def test_a_library_that_is_not_loaded_says_nothing_and_is_not_loaded_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    assert set(describe_libraries()) <= {"thread_pools"}
    assert "torch" not in sys.modules


def test_a_question_that_a_version_does_not_know_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    older = SimpleNamespace(get_build_info=lambda: "build 1")
    monkeypatch.setitem(sys.modules, "onnxruntime", older)
    assert describe_libraries()["onnxruntime"] == {"build": "build 1"}
