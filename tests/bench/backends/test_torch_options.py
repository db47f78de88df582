"""torch as several contenders: other layouts, other precisions, compiled."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foldbench.bench.backends import NetworkSource
from foldbench.bench.backends import torch as torch_backend
from foldbench.bench.errors import BackendError
from foldbench.bench.registry import BACKENDS

NO_GPU = not torch.cuda.is_available()
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="needs a C++ compiler: apt-get install g++",
)


@pytest.fixture
def source(tmp_path) -> NetworkSource:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Mish(), nn.Flatten(), nn.Linear(3600, 10))
    return NetworkSource(path=tmp_path / "none", build_module=lambda: network.eval())


@pytest.fixture
def torch_compile() -> ModuleType:
    """The backend; it takes seconds to import, which only some processes have to."""
    return BACKENDS.load("torch_compile")


@pytest.mark.parametrize("name", ["torch", "torch_compile"])
def test_precisions_exclude_one_another_and_some_are_for_cuda(name: str) -> None:
    backend = BACKENDS.load(name)
    with pytest.raises(BackendError, match=r"bf16\+tf32"):
        backend.refuse({"bf16": "", "tf32": ""}, "cuda")
    assert backend.refuse({"bf16": ""}, "cpu") is None
    assert "is for cuda alone" in backend.refuse({"fp16": ""}, "cpu")
    assert "is for cuda alone" in backend.refuse({"tf32": ""}, "cpu")


def test_channels_last_is_the_layout_of_weights_and_images(
    source: NetworkSource, images: np.ndarray
) -> None:
    module = source.build_module()
    seen: list[Tensor] = []
    module[0].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    options = {"channels_last": ""}
    with torch_backend.open_session(source, device="cpu", threads=1, options=options) as session:
        session.bind(images)
        session.step()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert session.runtime.endswith("eager, channels_last")


def test_under_bfloat16_the_layers_compute_in_it_and_the_logits_are_float32(
    source: NetworkSource, images: np.ndarray
) -> None:
    module = source.build_module()
    seen: list[torch.dtype] = []
    module[3].register_forward_hook(lambda _, x, y: seen.append(y.dtype))
    with torch_backend.open_session(
        source, device="cpu", threads=1, options={"bf16": ""}
    ) as session:
        session.bind(images)
        session.step()
        assert session.output().dtype == np.float32
        assert session.precision == "bfloat16"
    assert seen == [torch.bfloat16]
    assert not torch.is_autocast_enabled("cpu")


def test_an_output_on_another_device_than_asked_for_is_refused(images: np.ndarray) -> None:
    class Strays(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)).to("meta")

    source = NetworkSource(path=Path(), build_module=lambda: Strays().eval())
    with torch_backend.open_session(source, device="cpu", threads=1) as session:
        session.bind(images)
        session.step()
        with pytest.raises(BackendError, match="cpu, .* on meta"):
            session.output()


def test_without_a_compiler_the_one_to_install_is_named(
    source: NetworkSource, monkeypatch: pytest.MonkeyPatch, torch_compile: ModuleType
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendError, match=r"no-such-compiler: apt-get install g\+\+"):
        torch_compile.open_session(source, device="cpu", threads=1)


def test_without_python_s_headers_the_package_to_install_is_named(
    source: NetworkSource, monkeypatch: pytest.MonkeyPatch, tmp_path, torch_compile: ModuleType
) -> None:
    monkeypatch.setattr(torch_compile.shutil, "which", lambda name: name)
    monkeypatch.setattr(torch_compile.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(BackendError, match="apt-get install python3-dev"):
        torch_compile.open_session(source, device="cpu", threads=1)


@needs_compiler
def test_only_the_first_call_of_a_batch_size_compiles(
    source: NetworkSource, images: np.ndarray, torch_compile: ModuleType
) -> None:
    from torch._dynamo.utils import counters

    with torch_compile.open_session(source, device="cpu", threads=1) as session:
        graphs = []
        counters.clear()
        for size in (1, 5, 1, 5, 1):
            session.bind(images[:size])
            session.step()
            graphs.append(counters["stats"]["unique_graphs"])
        assert graphs == [1, 2, 2, 2, 2]
        session.bind(images[:5].astype(np.float64))  # would need a third graph
        with pytest.raises(Exception, match="(?i)recompil"):
            session.step()
    assert torch.compiler.is_compiling() is False


@needs_compiler
def test_a_profile_shows_the_kernels_that_were_compiled(
    source: NetworkSource, images: np.ndarray, torch_compile: ModuleType
) -> None:
    found = torch_compile.profile(
        source, device="cpu", threads=1, options={}, batches=[images], runs=2
    )
    kinds = {one.operator for one in found}
    assert any("convolution" in kind for kind in kinds)
    assert "aten::mish" not in kinds


@needs_compiler
def test_a_network_that_is_no_single_graph_is_not_run_half_compiled(
    images: np.ndarray, torch_compile: ModuleType
) -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum((2, 3)) if x.sum() > 0 else x.mean((2, 3))

    source = NetworkSource(path=None, build_module=lambda: Branches().eval())  # type: ignore[arg-type]
    with torch_compile.open_session(source, device="cpu", threads=1) as session:
        session.bind(images)
        with pytest.raises(Exception, match="(?i)data-dependent|graph break|branching"):
            session.step()


@needs_compiler
def test_without_the_cache_kernels_are_kept_in_a_folder_that_ends_with_the_session(
    source: NetworkSource, torch_compile: ModuleType
) -> None:
    options = {"no_cache": ""}
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    with torch_compile.open_session(source, device="cpu", threads=1, options=options):
        folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
        assert folder.is_dir()
        assert folder.parent.name.startswith("foldbench-")
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == before
    assert not folder.parent.exists()


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(
    "options", [{"fp16": ""}, {"bf16": ""}, {"tf32": ""}, {"channels_last": ""}]
)
def test_on_cuda_other_precisions_and_layouts_give_about_the_same(
    source: NetworkSource, images: np.ndarray, options: dict
) -> None:
    expected = source.build_module().cpu()(torch.from_numpy(images)).detach().numpy()
    with torch_backend.open_session(source, device="cuda", threads=1, options=options) as session:
        session.bind(images)
        session.step()
        session.synchronize()
        np.testing.assert_allclose(session.output(), expected, atol=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs an NVIDIA GPU")
def test_on_cuda_a_larger_batch_holds_more_of_the_memory(
    source: NetworkSource, images: np.ndarray
) -> None:
    with torch_backend.open_session(source, device="cuda", threads=1) as session:
        peaks = []
        for batch in (images[:1], np.repeat(images, 64, axis=0)):
            session.allocated_peak_bytes()
            session.bind(batch)
            session.step()
            session.synchronize()
            peaks.append(session.allocated_peak_bytes() or 0)
        assert 0 < peaks[0] < peaks[1]


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs an NVIDIA GPU")
def test_on_cuda_sessions_of_several_threads_have_streams_of_their_own(
    source: NetworkSource, images: np.ndarray
) -> None:
    expected = source.build_module().cpu()(torch.from_numpy(images)).detach().numpy()

    def answer(_: int) -> tuple[int, np.ndarray]:
        options = {"own_stream": ""}
        with torch_backend.open_session(source, device="cuda", threads=1, options=options) as own:
            stream = torch.cuda.current_stream().cuda_stream
            own.bind(images)
            own.step()
            own.synchronize()
            return stream, own.output()

    with ThreadPoolExecutor(2) as pool:
        (one, first), (other, second) = pool.map(answer, range(2))
    assert len({one, other, torch.cuda.default_stream().cuda_stream}) == 3
    np.testing.assert_allclose(first, expected, atol=1e-3)
    np.testing.assert_allclose(second, expected, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("options", [{}, {"reduce_overhead": ""}])
def test_on_cuda_the_compiled_network_gives_the_same_at_changing_batch_sizes(
    source: NetworkSource, images: np.ndarray, options: dict, torch_compile: ModuleType
) -> None:
    expected = source.build_module().cpu()(torch.from_numpy(images)).detach().numpy()
    with torch_compile.open_session(source, device="cuda", threads=1, options=options) as session:
        for size in (1, 12, 1, 12, 1, 12):
            session.bind(images[:size])
            session.step()
            session.synchronize()
            np.testing.assert_allclose(session.output(), expected[:size], atol=1e-3)
