"""What onnxruntime is asked for, and whether it really does it."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from foldbench.bench.backends import NetworkSource, ort
from foldbench.bench.backends._ort.options import read_settings
from foldbench.bench.backends._ort.placement import check_nodes
from foldbench.bench.backends._ort.tactics import NO_SPIN_WAIT, WHOLE, TunedSession
from foldbench.bench.errors import BackendError
from foldbench.exporters.export import ExportOptions, to_onnx

NO_GPU = not torch.cuda.is_available()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> NetworkSource:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 10))
    path = tmp_path_factory.mktemp("ort") / "network.onnx"
    example = np.zeros((2, 3, 32, 32), np.float32)
    onnx.save(to_onnx(network.eval(), example, ExportOptions(False, 20, ())), path)
    return NetworkSource(path=path, build_module=lambda: network)


def answer(source: NetworkSource, x: np.ndarray, device="cpu", **options: str) -> np.ndarray:
    with ort.open_session(source, device=device, threads=1, options=options) as session:
        session.bind(x)
        session.step()
        session.synchronize()
        return session.output()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"micro": ""}, "ort:micro "),
        ({"micro": "0"}, "ort:micro=0: "),
        ({"micro": "ten"}, "ort:micro=ten: "),
        ({"tuned": "1"}, "ort:tuned=1: "),
        ({"micro": "8", "tuned": ""}, "ort:micro+tuned: "),
        ({"search": "best"}, "exhaustive, heuristic, default"),
        ({"tensorrt": "", "nhwc": ""}, "ort:tensorrt+nhwc: "),
        ({"tf32": ""}, "ort:tf32 is for cuda "),
        ({"fp16": ""}, "ort:fp16 is TensorRT's: write ort:tensorrt+fp16"),
        ({"tensorrt": "", "tf32": "", "fp16": ""}, "ort:tf32+fp16: "),
        ({"search": "heuristic"}, "ort:search is for cuda alone"),
    ],
)
def test_options_that_cannot_be_had_are_refused_in_one_line(options: dict, said: str) -> None:
    with pytest.raises(BackendError) as caught:
        read_settings(options, "cpu", 1)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["micro", "tuned", "openvino"])
def test_options_for_the_cpu_are_refused_on_cuda(option: str) -> None:
    options = {option: "8" if option == "micro" else ""}
    assert ort.refuse(options, "cpu") is None
    assert str(ort.refuse(options, "cuda")).startswith(f"ort:{option} is for cpu ")


def test_without_options_nothing_of_cuda_is_left_to_its_own_default() -> None:
    settings = read_settings({}, "cuda", 1)
    assert settings.provider_options == {
        "use_tf32": "0",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
    }
    assert (settings.precision, settings.cuda_graph) == ("float32", False)


def test_every_cuda_option_is_one_of_the_provider_s_own() -> None:
    options = {"tf32": "", "search": "heuristic", "nhwc": "", "cuda_graph": ""}
    settings = read_settings(options, "cuda", 1)
    assert settings.providers == [
        (
            "CUDAExecutionProvider",
            {
                "use_tf32": "1",
                "cudnn_conv_algo_search": "HEURISTIC",
                "prefer_nhwc": "1",
                "enable_cuda_graph": "1",
            },
        )
    ]
    assert settings.precision == "tf32"
    assert settings.reported == (
        "TF32 on",
        "cuDNN search heuristic",
        "NHWC preferred",
        "CUDA graph replayed",
    )


@pytest.mark.parametrize(
    ("option", "precision", "fp16"),
    [(None, "float32", "0"), ("tf32", "tf32", "0"), ("fp16", "float16", "1")],
)
def test_tensorrt_says_what_it_computes_in(option: str | None, precision: str, fp16: str) -> None:
    options = {"tensorrt": "", **({option: ""} if option else {})}
    settings = read_settings(options, "cuda", 1)
    assert settings.precision == precision
    assert settings.providers == [
        ("TensorrtExecutionProvider", {"trt_fp16_enable": fp16}),
        "CUDAExecutionProvider",
    ]


def test_tensorrt_keeps_its_engines_apart_by_what_they_were_built_from(
    source: NetworkSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What onnxruntime is handed, without a GPU."""
    handed: list[dict[str, str]] = []

    class Handed(Exception):
        pass

    def refuse(path: str, settings: object, providers: list, **_: object) -> None:
        handed.append(providers[0][1])
        raise Handed

    monkeypatch.setattr(ort.onnxruntime, "InferenceSession", refuse)
    monkeypatch.setattr(
        ort.onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider"]
    )
    monkeypatch.setattr(ort, "_prepare_cuda", lambda *_: None)
    network = onnx.load(source.path)
    for name in ("a.onnx", "same.onnx", "other.onnx"):
        if name == "other.onnx":  # the same graph, one weight is another
            weight = next(t for t in network.graph.initializer if t.data_type == 1)
            values = onnx.numpy_helper.to_array(weight) + np.float32(1)
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(network, tmp_path / name)
        for options in ({"tensorrt": ""}, {"tensorrt": "", "fp16": ""}):
            with pytest.raises(BackendError):
                ort.open_session(
                    NetworkSource(tmp_path / name, lambda: None),
                    device="cuda",
                    threads=1,
                    options=options,
                )
    folders = [options["trt_engine_cache_path"] for options in handed]
    assert all(options["trt_engine_cache_enable"] == "1" for options in handed)
    assert folders[:2] == folders[2:4], "of the same bytes, the same engines"
    assert len({*folders}) == 4, "other weights or another precision: other engines"
    assert all(Path(folder).is_dir() and tmp_path in Path(folder).parents for folder in folders)


def test_a_saved_graph_is_made_once_and_answers_the_same(
    source: NetworkSource, tmp_path: Path
) -> None:
    copied = NetworkSource(tmp_path / "a.onnx", source.build_module)
    copied.path.write_bytes(source.path.read_bytes())
    x = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    expected = answer(copied, x)
    kept = []
    for _ in range(2):
        assert np.allclose(answer(copied, x, saved=""), expected, atol=1e-5)
        kept.append([(path, path.stat().st_ino) for path in tmp_path.glob("optimised/*.onnx")])
    assert len(kept[0]) == 1
    assert kept[0] == kept[1]
    with ort.open_session(copied, device="cpu", threads=1, options={"saved": ""}) as session:
        assert "graph optimisation as in the file" in session.runtime


def test_a_provider_that_is_not_there_is_named_with_the_package_that_has_it(
    source: NetworkSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        ort.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"]
    )
    with pytest.raises(BackendError, match="pip install onnxruntime-openvino"):
        ort.open_session(source, device="cpu", threads=1, options={"openvino": ""})
    with pytest.raises(BackendError, match="pip install onnxruntime-gpu 'tensorrt"):
        ort.open_session(source, device="cuda", threads=1, options={"tensorrt": ""})


def placed(*parts: tuple[str, list[str]]) -> SimpleNamespace:
    """A session that says which provider runs nodes of which types."""
    subgraphs = [
        SimpleNamespace(
            ep_name=provider,
            get_nodes=lambda kinds=kinds: [SimpleNamespace(op_type=kind) for kind in kinds],
        )
        for provider, kinds in parts
    ]
    return SimpleNamespace(get_provider_graph_assignment_info=lambda: subgraphs)


def test_a_convolution_on_another_provider_than_asked_for_is_refused() -> None:
    session = placed(("Wanted", ["MaxPool", "Relu"]), ("CPU", ["Conv", "Softplus"]))
    with pytest.raises(BackendError, match="2 of 4 nodes; Conv, Softplus"):
        check_nodes(session, "Wanted")


def test_shapes_may_be_computed_elsewhere_and_are_counted() -> None:
    session = placed(("Wanted", ["Conv", "Gemm"]), ("CPU", ["Shape", "Gather"]))
    assert check_nodes(session, "Wanted") == "2 of 4 nodes on it"


def test_where_nodes_run_is_read_from_a_real_session(source: NetworkSource) -> None:
    session = ort._open_session(source, read_settings({}, "cpu", 1), "cpu", 1)
    assert check_nodes(session, "CPUExecutionProvider").endswith("nodes on it")
    with pytest.raises(BackendError, match="0 of"):
        check_nodes(session, "CUDAExecutionProvider")


def test_pieces_give_what_the_whole_batch_gives(source: NetworkSource, images: np.ndarray) -> None:
    whole = answer(source, images)
    for size in ("1", "5", "12", "100"):
        np.testing.assert_allclose(answer(source, images, micro=size), whole, atol=1e-5)


def test_every_way_of_a_tuned_session_gives_the_same(
    source: NetworkSource, images: np.ndarray
) -> None:
    whole = answer(source, images)
    with ort.open_session(source, device="cpu", threads=2, options={"tuned": ""}) as session:
        assert isinstance(session, TunedSession)
        assert session.tactics(len(images)) == (WHOLE, "micro-batches of 8", NO_SPIN_WAIT)
        for tactic in session.tactics(len(images)):
            session.select_tactic(len(images), tactic)
            session.bind(images)
            session.step()
            np.testing.assert_allclose(session.output(), whole, atol=1e-5)


def test_the_runtime_text_says_how_the_session_was_opened(source: NetworkSource) -> None:
    said = {}
    for name, options in {"plain": {}, "micro": {"micro": "8"}, "tuned": {"tuned": ""}}.items():
        with ort.open_session(source, device="cpu", threads=1, options=options) as session:
            said[name] = session.runtime
    settings = "graph optimisation all, sequential, arena on, spinning on"
    assert said["plain"].endswith(f"CPUExecutionProvider, {settings}")
    assert said["micro"] == f"{said['plain']}, micro-batches of 8 images"
    assert said["tuned"].startswith(f"{said['plain']}, tuned")


def test_a_tuned_session_is_not_profiled_under_its_own_name(source: NetworkSource) -> None:
    with pytest.raises(BackendError, match="profile ort"):
        ort.profile(source, device="cpu", threads=1, options={"tuned": ""}, batches=[], runs=1)


def on_cuda(source: NetworkSource, images: np.ndarray, **options: str) -> Iterator[np.ndarray]:
    with ort.open_session(source, device="cuda", threads=1, options=options) as session:
        for size in (1, 5, 12, 5, 1):
            session.bind(images[:size])
            session.step()
            session.synchronize()
            yield session.output().copy()


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("option", ["cuda_graph", "nhwc", "tf32", "search"])
def test_on_cuda_each_option_gives_what_the_cpu_gives(
    source: NetworkSource, images: np.ndarray, option: str
) -> None:
    given = {option: "heuristic" if option == "search" else ""}
    allowed = 1e-2 if option == "tf32" else 1e-3
    for output in on_cuda(source, images, **given):
        expected = answer(source, images[: len(output)])
        np.testing.assert_allclose(output, expected, atol=allowed)


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("option", [None, "tf32", "fp16"])
def test_tensorrt_gives_what_the_cpu_gives_again_from_the_engine_it_kept(
    source: NetworkSource, images: np.ndarray, option: str | None
) -> None:
    options = {"tensorrt": "", **({option: ""} if option else {})}
    for _ in range(2):
        try:
            outputs = list(on_cuda(source, images, **options))
        except BackendError as error:
            if "pip install" not in str(error):
                raise
            pytest.skip(str(error))
        for output in outputs:
            expected = answer(source, images[: len(output)])
            np.testing.assert_allclose(output, expected, atol=1e-2 if option else 1e-3)
    assert list(source.path.parent.glob("engines/*/*.engine"))


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs an NVIDIA GPU")
def test_a_replayed_graph_reads_the_new_input(source: NetworkSource, images: np.ndarray) -> None:
    with ort.open_session(source, device="cuda", threads=1, options={"cuda_graph": ""}) as session:
        for x in (images, images + 1, images):
            session.bind(x)
            session.step()
            session.synchronize()
            np.testing.assert_allclose(session.output(), answer(source, x), atol=1e-3)
