"""The pass `fuse_elementwise`: which chains become one operator, and what that computes."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.parser import parse_model
from torch import nn

from builders import MishSpellings, make_graph, needs_c_compiler, needs_nvrtc, operators
from foldbench.bench.backends import NetworkSource, ort
from foldbench.bench.compiler.body import Body, parse_body
from foldbench.bench.errors import BackendError
from foldbench.bench.host_files import custom_operators
from foldbench.bench.host_files.marks import OPERATORS, how_to_run
from foldbench.exporters.export import ExportOptions, to_onnx
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.passes import fuse_elementwise, fuse_elementwise_cuda, mish, nchwc_strip


@pytest.fixture(scope="module")
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


@pytest.fixture
def for_cuda(convolutions: onnx.ModelProto, tmp_path: Path) -> NetworkSource:
    path = tmp_path / "cuda.onnx"
    onnx.save(fuse_elementwise_cuda.apply(convolutions)[0], path)
    return NetworkSource(path=path, build_module=lambda: None)


@needs_c_compiler
@needs_nvrtc
def test_a_file_for_cuda_is_for_no_machine_alone_and_computes_the_same_on_a_cpu(
    convolutions: onnx.ModelProto, for_cuda: NetworkSource
) -> None:
    how = how_to_run(for_cuda.path, "another version")
    assert how.operators == ("float32 full -> float32: mish(0)",)
    assert not how.host
    x = np.random.default_rng(0).standard_normal((3, 3, 12, 12)).astype(np.float32)
    found = run(onnx.load(for_cuda.path), x)
    np.testing.assert_allclose(found, run(convolutions, x), rtol=1e-4, atol=1e-5)


@needs_c_compiler
@needs_nvrtc
def test_tensorrt_refuses_it_and_cuda_asks_for_a_driver(
    for_cuda: NetworkSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort.onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr("foldbench.bench.compiler.driver._DRIVER", "libnowhere.so.1")
    with pytest.raises(BackendError, match="not for Tensorrt"):
        ort.open_session(for_cuda, device="cuda", threads=1, options={"tensorrt": ""})
    with pytest.raises(BackendError, match=r"libnowhere\.so\.1"):
        ort.open_session(for_cuda, device="cuda", threads=1)


def test_without_nvrtc_a_file_for_cuda_stays_as_it_was(
    convolutions: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, architecture: str) -> bytes:
        raise BackendError("there is no NVRTC here")

    monkeypatch.setattr(custom_operators, "compile_cuda", refuse)
    copy, report = fuse_elementwise_cuda.apply(convolutions)
    assert copy == convolutions
    assert (report.changed, report.detail) == (0, "there is no NVRTC here")


@pytest.mark.gpu
@needs_c_compiler
@needs_nvrtc
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_file_for_cuda_computes_the_same_on_a_gpu(
    convolutions: onnx.ModelProto, for_cuda: NetworkSource
) -> None:
    x = np.random.default_rng(0).standard_normal((70, 3, 12, 12)).astype(np.float32)
    for options in ({}, {"cuda_graph": ""}):
        with ort.open_session(for_cuda, device="cuda", threads=1, options=options) as session:
            for _ in range(3):
                session.bind(x)
                session.step()
            session.synchronize()
            np.testing.assert_allclose(session.output(), run(convolutions, x), rtol=1e-3, atol=1e-4)


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


IMAGES = "float[n,8,6,6] x"
WEIGHTS = {"w": (8, 8, 1, 1), "v": (8, 8, 3, 3), "m": (6, 6), "scale": (8, 1, 1), "row": (6,)}
THREE = "three = Constant <value_float = 3.0> () zero = Constant <value_float = 0.0> () "
SIX = "six = Constant <value_float = 6.0> () "


def graph(body: str, takes: str = IMAGES, gives: str = "float[n,8,6,6] y") -> onnx.ModelProto:
    """A graph of one input and the `WEIGHTS`."""
    model = parse_model(
        f'<ir_version: 10, opset_import: ["": 20]> g ({takes}) => ({gives}) {{ {body} }}'
    )
    rng = np.random.default_rng(0)
    for name, shape in WEIGHTS.items():
        array = (rng.standard_normal(shape) / 3).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


LEFT_TO_ONNXRUNTIME = {
    "an activation": "h = Conv(x, w) y = Relu(h)",
    "a sum of convolutions and its activation": (
        "a = Conv(x, w) h = Conv(x, w) b = Conv(h, w) s = Add(a, b) y = Relu(s)"
    ),
    "Swish": "h = Conv(x, w) s = Sigmoid(h) y = Mul(h, s)",
    "GELU": (
        "r = Constant <value_float = 1.41421356> () one = Constant <value_float = 1.0> () "
        "half = Constant <value_float = 0.5> () h = Conv(x, w) d = Div(h, r) e = Erf(d) "
        "f = Add(e, one) p = Mul(h, f) y = Mul(p, half)"
    ),
    "HardSwish": "h = Conv(x, w) y = HardSwish(h)",
    "a constant factor": "h = Conv(x, w) y = Mul(h, scale)",
    "one operator": "y = Exp(x)",
    "operators that are not element-wise": "h = Transpose <perm = [0, 1, 3, 2]> (x) y = Softmax(h)",
}


@needs_c_compiler
@pytest.mark.parametrize("case", LEFT_TO_ONNXRUNTIME)
def test_what_onnxruntime_does_in_one_pass_is_left_to_it(case: str) -> None:
    model = graph(LEFT_TO_ONNXRUNTIME[case])
    copy, report = fuse_elementwise.apply(model)
    assert (report.changed, copy == model) == (0, True), report.detail


FUSED: dict[str, tuple[str, list[str]]] = {
    "HardSwish by hand": (
        THREE + SIX + "h = Conv(x, w) a = Add(h, three) c = Clip(a, zero, six) "
        "p = Mul(h, c) q = Div(p, six) y = Conv(q, w)",
        ["Conv", "Elementwise", "Conv"],
    ),
    "a residual and its activation": (
        "h = Conv(x, w) a = Mish(h) s = Add(a, x) y = Mish(s)",
        ["Conv", "Elementwise"],
    ),
    "a gate and a constant of each channel": (
        "g = GlobalAveragePool(x) a = Elu(x) b = Mul(a, g) y = Add(b, scale)",
        ["GlobalAveragePool", "Broadcast"],
    ),
    "a constant along the last axis": (
        "h = MatMul(x, m) a = Mul(h, row) b = Tanh(a) y = Add(b, x)",
        ["MatMul", "Broadcast"],
    ),
    "a comparison": (
        THREE + "c = Less(x, zero) a = Softplus(x) b = Sub(a, three) y = Where(c, b, x)",
        ["Elementwise"],
    ),
    "a value that something else reads ends a chain": (
        THREE + "a = Mish(x) b = Mish(a) c = Exp(b) p = MaxPool <kernel_shape = [1, 1]> (a) "
        "d = Mish(c) y = Add(d, p)",
        ["Elementwise", "MaxPool", "Elementwise"],
    ),
    "a detour out of the chain": (
        "a = Mish(x) p = MaxPool <kernel_shape = [1, 1]> (a) b = Mish(a) c = Mul(b, p) y = Tanh(c)",
        ["Elementwise", "MaxPool", "Elementwise"],
    ),
    "a cast to float16 and back": (
        "a = Cast <to = 10> (x) b = Cast <to = 1> (a) c = Softplus(b) d = Mul(c, x) y = Elu(d)",
        ["Elementwise"],
    ),
    "an integer on the way": (
        "a = Mish(x) b = Cast <to = 6> (a) c = Cast <to = 1> (b) y = Mish(c)",
        ["Elementwise", "Cast", "Cast", "Elementwise"],
    ),
}


@needs_c_compiler
@pytest.mark.parametrize("case", FUSED)
def test_a_chain_becomes_one_operator_at_any_batch_size(case: str) -> None:
    body, expected = FUSED[case]
    model = graph(body)
    fused, report = fuse_elementwise.apply(model)
    onnx.checker.check_model(fused, full_check=True)
    assert [kind.partition("_")[0] for kind in operators(fused)] == expected, report.detail
    assert fuse_elementwise.apply(fused)[1].changed == 0
    for batch in (1, 3):
        x = np.random.default_rng(batch).normal(0, 2, (batch, 8, 6, 6)).astype(np.float32)
        truth = run(model, x)
        close = 1e-3 if "float16" in case else 2e-6
        np.testing.assert_allclose(run(fused, x), truth, rtol=close, atol=close)


@needs_c_compiler
def test_an_output_of_the_graph_is_computed_though_a_chain_goes_on() -> None:
    model = graph("a = Mish(x) y = Mish(a)", gives="float[n,8,6,6] y, float[n,8,6,6] a")
    fused, report = fuse_elementwise.apply(model)
    assert report.changed == 2
    session = open_session(fused)
    x = np.linspace(-4, 4, 288, dtype=np.float32).reshape(1, 8, 6, 6)
    y, a = session.run(["y", "a"], {"x": x})
    np.testing.assert_allclose(a, nn.functional.mish(torch.from_numpy(x)).numpy(), rtol=1e-5)
    np.testing.assert_allclose(y, nn.functional.mish(torch.from_numpy(a)).numpy(), rtol=1e-5)


@needs_c_compiler
def test_shapes_that_are_not_known_to_be_equal_are_not_taken_for_so() -> None:
    takes = "float[n,8,6,6] x, float[k,8,6,6] z"
    _, report = fuse_elementwise.apply(graph("a = Exp(x) b = Add(a, z) y = Tanh(b)", takes=takes))
    assert report.changed == 0


@needs_c_compiler
@pytest.mark.parametrize(
    ("x", "z"), [((1, 1), (1,)), ((1, 1), ()), ((3, 1), (1, 1)), ((1, 5), (1, 1)), ((4, 1), (4, 1))]
)
def test_axes_of_one_element_broadcast_too(x: tuple[int, ...], z: tuple[int, ...]) -> None:
    takes = f"float{list(x)} x, float{list(z) or ''} z"
    body = "a = Mish(x) b = Mul(a, z) y = Neg(b)"
    fused, report = fuse_elementwise.apply(graph(body, takes, f"float{list(x)} y"))
    assert report.changed == 1
    given = {"x": np.full(x, 0.5, np.float32), "z": np.full(z, 2, np.float32)}
    (found,) = open_session(fused).run(None, given)
    truth = -2 * nn.functional.mish(torch.tensor(0.5)).item()
    np.testing.assert_allclose(found, np.full(x, truth), rtol=1e-6)


@needs_c_compiler
def test_equal_chains_share_one_operator() -> None:
    fused, report = fuse_elementwise.apply(graph("a = Mish(x) p = Conv(a, w) y = Mish(p)"))
    assert (report.changed, len(bodies_of(fused))) == (2, 1)


@needs_c_compiler
def test_a_file_with_a_broken_formula_is_refused_in_one_line() -> None:
    fused, _ = fuse_elementwise.apply(graph("y = Mish(x)"))
    (entry,) = (p for p in fused.metadata_props if p.key == OPERATORS)
    entry.value = "float32 full -> float32: system(0)"
    with pytest.raises(BackendError, match="export the file again"):
        open_session(fused)
