"""Which of several exported files a backend is given."""

from types import SimpleNamespace

import pytest

from foldbench.bench.backends import openvino, ort, torch
from foldbench.bench.measure.targets import files_for, target_of


def artifact(variant: str, target: str = "cpu", precision: str = "float32") -> SimpleNamespace:
    return SimpleNamespace(variant=variant, target=target, precision=precision)


CPU = (artifact("unfolded"), artifact("folded"))
HOST = artifact("folded.host", "host")
CUDA = artifact("folded.cuda", "cuda")
OPENVINO = artifact("folded.openvino", "openvino")
INT8 = artifact("int8", precision="int8")


@pytest.mark.parametrize(
    ("artifacts", "target", "rows"),
    [
        (CPU, "cpu", [("unfolded", "cpu"), ("folded", "cpu")]),
        (CPU, "host", [("unfolded", "cpu"), ("folded", "cpu")]),
        (CPU, "cuda", [("unfolded", "cpu"), ("folded", "cpu")]),
        ((*CPU, CUDA), "cuda", [("unfolded", "cpu"), ("folded", "cuda")]),
        ((*CPU, CUDA), "host", [("unfolded", "cpu"), ("folded", "cpu")]),
        ((*CPU, CUDA), "tensorrt", [("unfolded", "cpu"), ("folded", "cpu")]),
        ((CPU[1], HOST), "host", [("folded", "cpu"), ("folded.host", "host")]),
        ((CPU[1], HOST), "cpu", [("folded", "cpu")]),
        ((CPU[1], HOST), "cuda", [("folded", "cpu")]),
        ((CUDA,), "cpu", []),
        ((CPU[1], INT8), "cpu", [("folded", "cpu"), ("int8", "cpu")]),
        ((CPU[1], INT8), "cuda", [("folded", "cpu")]),
        ((CPU[1], INT8), "openvino", [("folded", "cpu"), ("int8", "cpu")]),
        ((CPU[1], INT8, OPENVINO), "openvino", [("int8", "cpu"), ("folded", "openvino")]),
        ((*CPU, OPENVINO), "cpu", [("unfolded", "cpu"), ("folded", "cpu")]),
        ((*CPU, OPENVINO), "host", [("unfolded", "cpu"), ("folded", "cpu")]),
        ((*CPU, OPENVINO), "cuda", [("unfolded", "cpu"), ("folded", "cpu")]),
    ],
)
def test_it_is_the_one_for_the_target_or_else_the_one_for_the_cpu(artifacts, target, rows) -> None:
    assert [(variant, a.target) for a, variant in files_for(artifacts, target)] == rows


@pytest.mark.parametrize(
    ("backend", "options", "device", "target"),
    [
        (ort, {}, "cpu", "host"),
        (ort, {"micro": "16"}, "cpu", "host"),
        (ort, {"openvino": ""}, "cpu", "openvino"),
        (openvino, {}, "cpu", "openvino"),
        (ort, {}, "cuda", "cuda"),
        (ort, {"tensorrt": ""}, "cuda", "tensorrt"),
        (torch, {}, "cpu", "cpu"),
    ],
)
def test_a_backend_runs_files_for_what_computes_them(backend, options, device, target) -> None:
    assert target_of(backend, options, device) == target
