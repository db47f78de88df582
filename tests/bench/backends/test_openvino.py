"""OpenVINO: what it computes in, and that it keeps to itself."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from builders import HAS_VNNI
from foldbench.bench.backends import NetworkSource
from foldbench.bench.errors import BackendError, MissingPackageError
from foldbench.bench.registry import BACKENDS
from foldbench.exporters.export import ExportOptions, to_onnx

needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="needs OpenVINO: pip install 'foldbench[openvino]'"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> NetworkSource:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Mish(), nn.Flatten(), nn.Linear(3600, 10))
    path = tmp_path_factory.mktemp("openvino") / "network.onnx"
    example = np.zeros((2, 3, 32, 32), np.float32)
    onnx.save(to_onnx(network.eval(), example, ExportOptions(False, 20, ())), path)
    return NetworkSource(path=path, build_module=lambda: network)


def open_on_cpu(source: NetworkSource, threads: int = 1, **options: str):
    return BACKENDS.load("openvino").open_session(
        source, device="cpu", threads=threads, options=options
    )


@needs_openvino
def test_it_computes_in_float32_although_the_cpu_may_prefer_another(source: NetworkSource) -> None:
    with open_on_cpu(source) as session:
        assert session.precision == "float32"


@needs_openvino
def test_each_of_its_own_streams_has_all_the_threads_that_were_asked_for(
    source: NetworkSource,
) -> None:
    try:
        session = open_on_cpu(source, streams="2")
    except BackendError as error:  # this process had one core when OpenVINO was loaded
        pytest.skip(str(error))
    with session:
        assert (session.streams, session.threads) == (2, 1)


@needs_openvino
def test_streams_that_it_does_not_run_are_refused(source: NetworkSource) -> None:
    with pytest.raises(BackendError, match="asked for 10000 streams"):
        open_on_cpu(source, streams="10000")
    with pytest.raises(BackendError, match="whole number"):
        open_on_cpu(source, streams="0")


@needs_openvino
def test_a_precision_that_was_not_used_is_no_row() -> None:
    check = BACKENDS.load("openvino").check_precision
    assert check("float32", {"float32"}) == "float32"
    assert check("bfloat16", {"float32", "bfloat16"}) == "bfloat16"
    assert check("float32", {"float32", "int8"}) == "int8"
    with pytest.raises(BackendError, match=r"bfloat16.*\bfloat32"):
        check("bfloat16", {"float32"})
    with pytest.raises(BackendError, match=r"\bfloat32.*bfloat16"):
        check("float32", {"bfloat16"})


@needs_openvino
@pytest.mark.skipif(not HAS_VNNI, reason="int8 products saturate on this CPU")
def test_a_quantised_file_is_read_and_called_int8(
    source: NetworkSource, images: np.ndarray, tmp_path: Path
) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            name = onnx.load(source.path).graph.input[0].name
            self._batches = iter([{name: images}])

        def get_next(self) -> dict | None:
            return next(self._batches, None)

    path = tmp_path / "int8.onnx"
    quantize_static(source.path, path, Images(), quant_format=QuantFormat.QDQ)
    quantised = NetworkSource(path=path, build_module=source.build_module)
    with open_on_cpu(source) as exact, open_on_cpu(quantised) as session:
        assert session.precision == "int8"
        for one in (exact, session):
            one.bind(images)
            one.step()
        largest = np.abs(exact.output()).max()
        np.testing.assert_allclose(session.output(), exact.output(), atol=0.1 * largest)


READ_BACK = """
import sys
from pathlib import Path
from foldbench.bench.backends import NetworkSource
from foldbench.bench.registry import BACKENDS
source = NetworkSource(path=Path(sys.argv[1]), build_module=None)
backend = BACKENDS.load("openvino")
with backend.open_session(source, device="cpu", threads=2, options={}) as session:
    print(session.threads, session.runtime, sep="\\n")
"""


@needs_openvino
@pytest.mark.usefixtures("all_cores")
def test_threads_and_settings_are_read_back(source: NetworkSource) -> None:
    # OpenVINO counts the cores once a process: one of its own sees all of them.
    command = [sys.executable, "-c", READ_BACK, str(source.path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    threads, runtime = done.stdout.splitlines()
    assert threads == "2"
    assert {"latency hint", "1 stream", "threads not pinned"} <= set(runtime.split(", "))


@needs_openvino
def test_the_caller_s_array_is_kept_until_the_next_one(
    source: NetworkSource, images: np.ndarray
) -> None:
    with open_on_cpu(source) as session:
        session.bind(images[:1])
        session.step()
        expected = session.output()
        session.bind(images[:1].copy())  # nothing else holds this one
        np.full((1 << 20,), np.nan, np.float32)
        session.step()
        np.testing.assert_array_equal(session.output(), expected)


@needs_openvino
def test_it_sends_nothing_and_writes_nothing_to_the_home_directory(tmp_path: Path) -> None:
    code = (
        "import sys; from foldbench.bench.registry import BACKENDS; BACKENDS.load('openvino');"
        "assert not any(m.startswith('openvino_telemetry.') for m in sys.modules), 'telemetry'"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("CI", None)  # where it is set, nothing would be sent anyway
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@needs_openvino
def test_a_profile_counts_a_fused_activation_with_its_convolution(
    source: NetworkSource, images: np.ndarray
) -> None:
    found = BACKENDS.load("openvino").profile(
        source, device="cpu", threads=1, options={}, batches=[images], runs=2
    )
    kinds = {one.operator for one in found}
    assert "Convolution" in kinds
    assert "Mish" not in kinds


def test_without_the_package_the_extra_to_install_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "foldbench.bench.backends.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "openvino_telemetry", SimpleNamespace())
    with pytest.raises(MissingPackageError, match=r"pip install 'foldbench\[openvino\]'"):
        BACKENDS.load("openvino")
