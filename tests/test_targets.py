"""Which of several exported files a backend is given."""

from types import SimpleNamespace

import pytest

from bench.targets import files_for


def artifact(variant: str, target: str = "cpu") -> SimpleNamespace:
    return SimpleNamespace(variant=variant, target=target)


CPU = (artifact("unfolded"), artifact("folded"))
HOST = artifact("folded.host", "host")
CUDA = artifact("folded.cuda", "cuda")


@pytest.mark.parametrize(
    ("artifacts", "target", "runs_host_files", "rows"),
    [
        (CPU, "cpu", True, [("unfolded", "cpu"), ("folded", "cpu")]),
        (CPU, "cuda", True, [("unfolded", "cpu"), ("folded", "cpu")]),
        ((*CPU, CUDA), "cuda", True, [("unfolded", "cpu"), ("folded", "cuda")]),
        ((*CPU, CUDA), "cpu", True, [("unfolded", "cpu"), ("folded", "cpu")]),
        ((*CPU, CUDA), "tensorrt", False, [("unfolded", "cpu"), ("folded", "cpu")]),
        ((CPU[1], HOST), "cpu", True, [("folded", "cpu"), ("folded.host", "host")]),
        ((CPU[1], HOST), "cpu", False, [("folded", "cpu")]),
        ((CPU[1], HOST), "cuda", True, [("folded", "cpu")]),
        ((CUDA,), "cpu", True, []),
    ],
)
def test_it_is_the_one_for_the_target_or_else_the_one_for_the_cpu(
    artifacts, target, runs_host_files, rows
) -> None:
    found = [(variant, a.target) for a, variant in files_for(artifacts, target, runs_host_files)]
    assert found == rows
