"""What every registered backend keeps to: what it opens, where, and what it says of that."""

import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from foldbench.bench.backends import NetworkSource, Resident
from foldbench.bench.errors import BackendError, MissingPackageError
from foldbench.bench.registry import BACKENDS
from foldbench.bench.timing.loop import check_synchronized
from foldbench.exporters.export import ExportOptions, to_onnx

NO_GPU = not torch.cuda.is_available()
NO_COMPILER = shutil.which("g++") is None and shutil.which("clang++") is None

EVERY_OPTION = [(name, option) for name in BACKENDS.names() for option in BACKENDS.options(name)]
VALUES = {"micro": "4", "search": "heuristic", "streams": "2"}
"""Of options that take one."""
ALONGSIDE = {("ort", "fp16"): {"tensorrt": ""}}
"""What an option goes with."""
TOLERANCES = {"float32": 1e-5, "tf32": 1e-2, "float16": 1e-2, "bfloat16": 5e-2}
"""Allowed difference, relative to the largest logit."""


def load(name: str):
    """Return the backend's module; skip the test, with the reason, where it cannot be had."""
    if name == "torch_compile" and NO_COMPILER:
        pytest.skip("needs a C++ compiler: apt-get install g++")
    try:
        return BACKENDS.load(name)
    except MissingPackageError as error:
        pytest.skip(str(error))


@pytest.fixture(params=BACKENDS.names())
def backend(request: pytest.FixtureRequest):
    return load(request.param)


def refusal(backend, options: dict[str, str], device: str) -> str | None:
    """Return why the backend has no contender with `options` on `device`, if it has none."""
    return backend.refuse(options, device) if hasattr(backend, "refuse") else None


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 900, 10)).eval()


@pytest.fixture(scope="module")
def source(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> NetworkSource:
    path = tmp_path_factory.mktemp("backend") / "network.onnx"
    example = np.zeros((2, 3, 32, 32), np.float32)
    onnx.save(to_onnx(network, example, ExportOptions(False, 20, ())), path)
    return NetworkSource(path=path, build_module=lambda: network)


def answers(network: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Return what the backend has to answer: the network's logits."""
    return lambda x: network(torch.from_numpy(x)).detach().numpy()


def test_it_answers_what_the_network_computes_at_every_batch_size(
    backend, source: NetworkSource, network: nn.Module, images: np.ndarray
) -> None:
    expected = answers(network)
    with backend.open_session(source, device="cpu", threads=1) as session:
        for size in (1, 5, 12):
            session.bind(images[:size])
            session.step()
            session.synchronize()
            output = session.output()
            assert output.dtype == np.float32
            np.testing.assert_allclose(output, expected(images[:size]), rtol=1e-4, atol=1e-5)


def test_a_new_input_gives_a_new_answer(backend, source: NetworkSource, images: np.ndarray) -> None:
    with backend.open_session(source, device="cpu", threads=1) as session:
        outputs = []
        for x in (images[:1], images[:1] + 3):
            session.bind(x)
            session.step()
            session.synchronize()
            outputs.append(session.output().copy())
    assert not np.array_equal(*outputs)


def test_it_says_where_it_runs_on_what_and_with_how_many_threads(
    backend, source: NetworkSource
) -> None:
    with backend.open_session(source, device="cpu", threads=1) as session:
        assert session.device == "cpu"
        assert session.threads == 1
        assert session.runtime


def test_an_input_that_is_placed_gives_the_answer_of_one_that_is_bound(
    backend, source: NetworkSource, network: nn.Module, images: np.ndarray
) -> None:
    expected = answers(network)
    with backend.open_session(source, device="cpu", threads=1) as session:
        if not isinstance(session, Resident):
            pytest.skip("keeps nothing on a device")
        check_placing(session, images, expected, 1e-4, 1e-5)


def check_placing(session, images: np.ndarray, expected, rtol: float, atol: float) -> None:
    """Place, bind and place again at changing batch sizes; outputs may be fetched repeatedly."""
    for size in (5, 1, 12):
        for give in (session.place, session.bind):
            give(images[:size])
            session.step()
            session.synchronize()
            for _ in range(2):
                output = session.output()
                assert output.dtype == np.float32
                np.testing.assert_allclose(
                    output, expected(images[:size]), rtol=rtol, atol=atol, strict=True
                )


def test_an_answer_before_a_step_is_refused(backend, source: NetworkSource) -> None:
    with (
        backend.open_session(source, device="cpu", threads=1) as session,
        pytest.raises(BackendError),
    ):
        session.output()


def test_an_answer_of_a_placed_input_before_a_step_is_refused(
    backend, source: NetworkSource, images: np.ndarray
) -> None:
    with backend.open_session(source, device="cpu", threads=1) as session:
        if not isinstance(session, Resident):
            pytest.skip("keeps nothing on a device")
        session.place(images[:1])
        with pytest.raises(BackendError):
            session.output()


def source_on_cuda(source: NetworkSource) -> NetworkSource:
    """Return a source whose module can go to the GPU while the network of the tests stays."""
    return NetworkSource(path=source.path, build_module=lambda: deepcopy(source.build_module()))


@pytest.mark.skipif(not NO_GPU, reason="this machine has a CUDA device")
def test_asking_for_cuda_without_a_gpu_is_refused_with_the_reason(
    backend, source: NetworkSource
) -> None:
    with pytest.raises(BackendError, match="asked for cuda"):
        backend.open_session(source, device="cuda", threads=1)


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs an NVIDIA GPU")
def test_on_cuda_it_answers_the_same(
    backend, source: NetworkSource, network: nn.Module, images: np.ndarray
) -> None:
    if refusal(backend, {}, "cuda"):
        pytest.skip("runs on a cpu alone")
    expected = answers(network)(images)
    with backend.open_session(source_on_cuda(source), device="cuda", threads=1) as session:
        assert session.device.startswith("cuda:0")
        session.bind(images)
        session.step()
        session.synchronize()
        np.testing.assert_allclose(session.output(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs an NVIDIA GPU")
def test_on_cuda_a_placed_input_gives_the_same_answer_and_the_device_is_waited_for(
    backend, source: NetworkSource, network: nn.Module, images: np.ndarray
) -> None:
    if refusal(backend, {}, "cuda"):
        pytest.skip("runs on a cpu alone")
    expected = answers(network)
    with backend.open_session(source_on_cuda(source), device="cuda", threads=1) as session:
        if not isinstance(session, Resident):
            pytest.skip("keeps nothing on a device")
        check_placing(session, images, expected, 1e-3, 1e-4)
        check_synchronized(session, images, time.perf_counter)


def test_a_file_that_is_no_network_is_refused(backend, tmp_path: Path) -> None:
    if backend.FORMAT != "onnx":
        pytest.skip("reads no .onnx file")
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a network")
    source = NetworkSource(path=path, build_module=lambda: None)
    with pytest.raises(BackendError, match=" on cpu"):
        backend.open_session(source, device="cpu", threads=1)


def test_each_option_says_what_it_does_and_is_listed_without_an_import(backend) -> None:
    assert all(name and text for name, text in backend.OPTIONS.items())
    assert BACKENDS.options(backend.__name__.rpartition(".")[2]) == backend.OPTIONS


@pytest.mark.parametrize(("name", "option"), EVERY_OPTION, ids=map(":".join, EVERY_OPTION))
def test_each_option_for_the_cpu_gives_the_same_answers_at_changing_batch_sizes(
    name: str, option: str, source: NetworkSource, network: nn.Module, images: np.ndarray
) -> None:
    backend = load(name)
    options = {option: VALUES.get(option, ""), **ALONGSIDE.get((name, option), {})}
    reason = refusal(backend, options, "cpu")
    if reason:
        with pytest.raises(BackendError) as caught:
            backend.open_session(source, device="cpu", threads=1, options=options)
        assert str(caught.value) == reason
        return
    try:
        session = backend.open_session(source, device="cpu", threads=1, options=options)
    except BackendError as error:
        if not any(lacks in str(error) for lacks in ("pip install", "on this CPU")):
            raise
        pytest.skip(str(error))
    expected = answers(network)(images)
    with session:
        for size in (1, 5, 12, 5, 1):
            session.bind(images[:size])
            session.step()
            session.synchronize()
            allowed = TOLERANCES[session.precision] * np.abs(expected).max()
            np.testing.assert_allclose(session.output(), expected[:size], rtol=0, atol=allowed)


@pytest.mark.parametrize(("name", "option"), EVERY_OPTION, ids=map(":".join, EVERY_OPTION))
def test_each_option_is_for_one_device_at_least(name: str, option: str) -> None:
    backend = load(name)
    options = {option: VALUES.get(option, ""), **ALONGSIDE.get((name, option), {})}
    reasons = [refusal(backend, options, device) for device in ("cpu", "cuda")]
    assert None in reasons
    assert all(reason is None or "\n" not in reason for reason in reasons)


def test_it_says_what_it_computes_in(backend, source: NetworkSource) -> None:
    with backend.open_session(source, device="cpu", threads=1) as session:
        assert session.precision == "float32"
