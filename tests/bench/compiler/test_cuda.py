"""CUDA C of bodies: NVRTC takes it without a GPU, and each thread computes the right elements."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from builders import needs_c_compiler, needs_nvrtc
from foldbench.bench.compiler.body import LOOKUP, OPERATIONS, Body, parse_body
from foldbench.bench.compiler.cuda_source import cuda_source
from foldbench.bench.compiler.driver import gpu_architecture
from foldbench.bench.compiler.evaluation import evaluate
from foldbench.bench.compiler.nvrtc import compile_cuda
from foldbench.bench.errors import BackendError
from foldbench.bench.host_files import custom_operators

UNARY = [name for name, (takes, _) in OPERATIONS.items() if takes == ("float",)]
EVERYTHING = " ".join(f"{name}({place})" for place, name in enumerate(UNARY))
GATED = (
    "float32 full, float32 stays, float32 moves -> float32: mul(0,1) add(3,2) less(4,0) "
    "where(5,0,4) number(0x1.8000000000000p+1) min(6,7)"
)
HALF = "float16 full, float16 full -> float16: mish(0) add(2,1)"
MISH = "float32 full -> float32: mish(0)"
SUM = "float32 full, float32 full -> float32: mish(0) add(2,1)"
SHAPES: list[tuple[str, list[tuple[int, ...]]]] = [
    (MISH, [(5, 3, 7, 11)]),
    (MISH, [(3,)]),
    (MISH, [(0, 4)]),
    (SUM, [(40, 64, 8, 8), (40, 64, 8, 8)]),
    (GATED, [(2, 3, 5, 6), (2, 3, 1, 1), (3, 5, 6)]),
    (GATED, [(70, 33, 4, 2), (33, 1, 1), (70, 1, 4, 2)]),
]


@needs_nvrtc
@pytest.mark.parametrize(("architecture", "starts"), [("compute_80", b"//"), ("sm_90", b"\x7fELF")])
def test_nvrtc_makes_ptx_and_cubins(architecture: str, starts: bytes) -> None:
    for text in (f"float32 full -> float32: {EVERYTHING}", GATED, HALF):
        body = parse_body(text)
        made = compile_cuda(cuda_source(body), architecture)
        assert made.startswith(starts)
        assert body.name.encode() in made


@needs_nvrtc
def test_neighbouring_elements_are_read_and_written_at_once() -> None:
    made = compile_cuda(cuda_source(parse_body(MISH)), "compute_80").decode()
    assert "ld.global.v4.f32" in made
    assert "st.global.v4.f32" in made


@needs_nvrtc
@pytest.mark.parametrize(
    ("source", "architecture"), [("int x = ;", "sm_90"), ("int x;", "sm_1"), ("", "sm_90;")]
)
def test_what_nvrtc_refuses_is_one_line(source: str, architecture: str) -> None:
    with pytest.raises(BackendError, match="NVRTC does not compile") as caught:
        compile_cuda(source, architecture)
    assert "\n" not in str(caught.value)


@needs_c_compiler
@needs_nvrtc
def test_a_library_for_a_gpu_is_compiled_without_one() -> None:
    library = custom_operators.library([parse_body(MISH), parse_body(HALF)], "sm_90")
    assert b"\x7fELF" in library.read_bytes()[4:], "a cubin within the library"
    assert library != custom_operators.library([parse_body(MISH), parse_body(HALF)])


@pytest.mark.parametrize(
    "body", [LOOKUP, parse_body("float32 full, float32 lanes8 -> float32: mul(0,1)")]
)
def test_tables_and_lanes_are_no_kernel(body: Body) -> None:
    with pytest.raises(BackendError, match="CPU alone"):
        cuda_source(body)


class Driver:
    """Stands in for libcuda.so.1, with a GPU of compute capability 9.0."""

    def __init__(self, gpus: int) -> None:
        self.gpus = gpus

    def cuInit(self, flags: int) -> int:
        return 0 if self.gpus else 100

    def cuDeviceGet(self, device, ordinal: int) -> int:
        return 0 if ordinal < self.gpus else 101

    def cuDeviceGetAttribute(self, number, attribute: int, device) -> int:
        number._obj.value = {75: 9, 76: 0}[attribute]
        return 0


def test_the_driver_says_which_gpu_kernels_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: Driver(gpus=1))
    assert gpu_architecture() == "sm_90"
    monkeypatch.setattr("ctypes.CDLL", lambda name: Driver(gpus=0))
    with pytest.raises(BackendError, match="error 100"):
        gpu_architecture()


def test_without_a_driver_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foldbench.bench.compiler.driver._DRIVER", "libnowhere.so.1")
    with pytest.raises(BackendError, match=r"libnowhere\.so\.1"):
        gpu_architecture()


THREADS = """
#include <cmath>
#include <cstring>
#define __device__
#define __global__
#define __forceinline__ inline
#define asm(...) 0
static struct { unsigned x; } blockIdx, threadIdx, gridDim, blockDim;
static float __int_as_float(int bits) { float x; memcpy(&x, &bits, 4); return x; }
"""
DRIVER = """
#include <dlfcn.h>
extern "C" int cuModuleLoadData(void **module, const char *image) {
    return strcmp(image, "image") ? 200 : (*module = &blockIdx, 0);
}
extern "C" int cuModuleGetFunction(void **function, void *, const char *name) {
    char full[64] = "run_";
    return (*function = dlsym(RTLD_DEFAULT, strcat(full, name))) ? 0 : 500;
}
extern "C" int cuLaunchKernel(void *run, unsigned blocks, unsigned, unsigned, unsigned threads,
    unsigned, unsigned, unsigned, void *stream, void **parameters, void **) {
    if (stream || !blocks) return 1;
    gridDim.x = blocks, blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++)
            ((void (*)(void **))run)(parameters);
    return 0;
}
"""
"""A driver that runs kernels on the CPU, one thread after the other."""

PROCESS = """
import ctypes, sys
import numpy as np, onnxruntime
driver, library, model, given, found = sys.argv[1:]
ctypes.CDLL(driver, ctypes.RTLD_GLOBAL)
options = onnxruntime.SessionOptions()
options.register_custom_ops_library(library)
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
for _ in range(2):
    results = session.run(None, dict(np.load(given)))
np.savez(found, *results)
"""


def emulated(body: Body) -> str:
    """Return the kernel of `body` for `THREADS`, and what calls it with a launch's parameters."""
    count = len(body.inputs)
    pointers = ", ".join(f"*(const float **)p[{place + 1}]" for place in range(count))
    layout, result = f"*(Layout<{count}> *)p[0]", f"*(float **)p[{count + 1}]"
    call = f"{body.name}({layout}, {pointers}, {result});"
    run = f'extern "C" void run_{body.name}(void **p) {{ {call} }}'
    return f"namespace of_{body.name} {{\n{cuda_source(body)}\n{run}\n}}\n"


@needs_c_compiler
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a library's soname")
def test_every_thread_computes_its_elements_from_the_right_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels as C++ under a driver of the test's own; operators, launches, layout are real."""
    monkeypatch.setattr(custom_operators, "compile_cuda", lambda source, gpu: b"image\0")
    bodies = {text: parse_body(text) for text, _ in SHAPES}
    build = build_in(tmp_path)
    kernels = "".join(map(emulated, bodies.values()))
    driver = build("c++", THREADS + kernels + DRIVER, "libcuda.so.1", "-Wl,-soname,libcuda.so.1")
    operators = custom_operators.write_cuda_source(list(bodies.values()), "sm_90")
    library = build("cc", "#define PROVIDER NULL\n" + operators, "operators.so")
    nodes, values, given, truth = [], [], {}, []
    rng = np.random.default_rng(0)
    for number, (text, shapes) in enumerate(SHAPES):
        names = [f"x{number}_{place}" for place in range(len(shapes))]
        arrays = [rng.normal(0, 2, shape).astype(np.float32) for shape in shapes]
        given |= dict(zip(names, arrays, strict=True))
        truth.append(evaluate(bodies[text], arrays))
        nodes.append(helper.make_node(bodies[text].name, names, [f"y{number}"], domain="foldbench"))
        values += [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s))
            for n, s in zip(names, shapes, strict=True)
        ]
    results = [
        helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, None)
        for number in range(len(SHAPES))
    ]
    graph = helper.make_graph(nodes, "g", values, results)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("foldbench", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "m.onnx")
    np.savez(tmp_path / "given.npz", **given)
    places = (driver, library, *(tmp_path / name for name in ("m.onnx", "given.npz", "found.npz")))
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, *map(str, places)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    for number, exact in enumerate(truth):
        np.testing.assert_allclose(found[f"arr_{number}"], exact, rtol=2e-6, atol=2e-6)


def build_in(folder: Path) -> Callable[..., Path]:
    def build(compiler: str, source: str, name: str, *more: str) -> Path:
        language = "c++" if compiler == "c++" else "c"
        command = [compiler, "-O1", "-shared", "-fPIC", "-w", *more, "-o", str(folder / name)]
        subprocess.run([*command, "-x", language, "-"], input=source, text=True, check=True)
        return folder / name

    return build


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(("text", "shapes"), [*SHAPES, (HALF, [(5, 7, 3), (5, 7, 3)])])
def test_a_gpu_computes_the_same_on_onnxruntimes_stream(
    text: str, shapes: list[tuple[int, ...]]
) -> None:
    body = parse_body(text)
    rng = np.random.default_rng(0)
    kind = body.storage
    given = {f"x{n}": rng.normal(0, 2, s).astype(kind) for n, s in enumerate(shapes)}
    onnx_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    values = [
        helper.make_tensor_value_info(name, onnx_type, list(x.shape)) for name, x in given.items()
    ]
    node = helper.make_node(body.name, list(given), ["y"], domain="foldbench")
    result = helper.make_tensor_value_info("y", onnx_type, list(shapes[0]))
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("foldbench", 1)]
    graph = helper.make_graph([node], "g", values, [result])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    architecture = "sm_{}{}".format(*torch.cuda.get_device_capability())
    custom_operators.register(options, [text], architecture)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CUDAExecutionProvider"]
    )
    (found,) = session.run(None, given)
    exact = 2e-3 if kind == "float16" else 2e-6
    np.testing.assert_allclose(found, evaluate(body, list(given.values())), rtol=exact, atol=exact)
