"""The pass `fuse_elementwise`: which chains become one operator, and what that computes."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from builders import MishSpellings, make_graph, needs_c_compiler, operators
from foldbench.bench.backends import NetworkSource, ort
from foldbench.bench.compiler.body import Body, parse_body
from foldbench.bench.errors import BackendError
from foldbench.bench.host_files import custom_operators
from foldbench.bench.host_files.marks import OPERATORS, how_to_run
from foldbench.exporters.export import ExportOptions, to_onnx
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.passes import fuse_elementwise, mish, nchwc_strip


@pytest.fixture
def convolutions() -> onnx.ModelProto:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.Mish(), nn.Conv2d(32, 64, 3, padding=1), nn.Mish(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 36, 10), nn.Mish(),
    )  # fmt: skip
    example = np.zeros((2, 3, 12, 12), np.float32)
    return to_onnx(network.eval(), example, ExportOptions(True, 20, ()))


def bodies_of(model: onnx.ModelProto) -> list[Body]:
    (texts,) = (p.value for p in model.metadata_props if p.key == OPERATORS)
    return [parse_body(text) for text in texts.splitlines()]


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = open_session(model.SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@needs_c_compiler
@pytest.mark.parametrize("written_before", [False, True])
def test_every_spelling_and_the_form_of_the_pass_mish_become_mish(written_before: bool) -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    original = to_onnx(MishSpellings().eval(), x, ExportOptions(True, 20, ()))
    model = mish.apply(original)[0] if written_before else original
    rewritten, report = fuse_elementwise.apply(model)
    (body,) = bodies_of(rewritten)
    assert (report.changed, body.text.count("mish("), body.text.count("exp(")) == (1, 5, 0)
    assert len(operators(rewritten)) == 3, "the sum of all five, a reshape and the linear layer"
    np.testing.assert_allclose(run(rewritten, x), run(original, x), rtol=1e-5, atol=1e-5)


@needs_c_compiler
def test_the_reorderings_around_it_go_and_the_answers_stay_bit_for_bit(
    convolutions: onnx.ModelProto,
) -> None:
    once, _ = fuse_elementwise.apply(mish.apply(convolutions)[0])
    stripped, report = nchwc_strip.apply(once)
    assert report.changed > 0
    x = np.random.default_rng(0).standard_normal((5, 3, 12, 12)).astype(np.float32)
    np.testing.assert_array_equal(run(stripped, x), run(once, x))


@needs_c_compiler
def test_a_file_with_it_says_so_and_runs_in_the_backend(
    convolutions: onnx.ModelProto, tmp_path: Path
) -> None:
    path = tmp_path / "host.onnx"
    onnx.save(fuse_elementwise.apply(convolutions)[0], path)
    how = how_to_run(path, ort.onnxruntime.__version__)
    assert how.operators == ("float32 full -> float32: mish(0)",)
    x = np.random.default_rng(0).standard_normal((70, 3, 12, 12)).astype(np.float32)
    source = NetworkSource(path=path, build_module=lambda: None)
    with ort.open_session(source, device="cpu", threads=2) as session:
        assert "custom operators" in session.runtime
        session.bind(x)
        session.step()
        np.testing.assert_allclose(session.output(), run(convolutions, x), rtol=1e-4, atol=1e-5)


@needs_c_compiler
@pytest.mark.parametrize("count", [0, 1, 8191, 8192, 8193, 100_001])
def test_it_takes_any_number_of_elements(count: int) -> None:
    model, _ = fuse_elementwise.apply(make_graph("y = Mish(x)"))
    x = np.linspace(-30, 30, count, dtype=np.float32)
    truth = nn.functional.mish(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(run(model, x), truth, rtol=1e-6, atol=1e-6)


def test_without_a_compiler_nothing_changes_and_the_report_says_why(
    convolutions: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOLDBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "no-such-compiler")
    copy, report = fuse_elementwise.apply(convolutions)
    assert copy == convolutions
    assert "no-such-compiler" in report.detail


def test_a_compiler_that_fails_is_named_in_one_line_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOLDBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", shutil.which("false") or "false")
    with pytest.raises(BackendError, match="false could not compile") as caught:
        custom_operators.library()
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "kernels").iterdir())


@needs_c_compiler
def test_the_library_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOLDBENCH_CACHE", str(tmp_path))
    path = custom_operators.library()
    monkeypatch.setenv("CC", "no-such-compiler")
    assert custom_operators.library() == path
    assert [p.name for p in (tmp_path / "kernels").iterdir()] == [path.name]
