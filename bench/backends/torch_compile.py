"""PyTorch compiled by torch.compile: one graph of inductor's kernels for each batch size."""

import logging
import os
import shutil
import sys
import sysconfig
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
import torch._dynamo
import torch._inductor
import torch._inductor.utils
from torch import nn

from foldbench.bench.backends import (
    NO_OPTIONS,
    TORCH_PRECISIONS,
    BackendOptions,
    Floats,
    Format,
    NetworkSource,
)
from foldbench.bench.backends._options import check_exclusive, check_values, refuse_elsewhere
from foldbench.bench.backends.torch import (
    TorchSession,
    TorchSettings,
    find_device,
    profile_session,
    read_precision,
)
from foldbench.bench.errors import BackendError
from foldbench.bench.samples.timing import Device, OperatorTime

FORMAT: Format = "module"
OPTIONS: dict[str, str] = {
    "freeze": "weights become constants of the graph, packed for the kernels that use them",
    "max_autotune": "time several kernels for each layer while compiling, keep the fastest",
    "reduce_overhead": "replay recorded CUDA graphs (cuda)",
    "no_cache": "compiled anew in each process, without kernels that were compiled before",
    "bf16": "autocast to bfloat16",
    "fp16": "autocast to float16 (cuda)",
    "tf32": "float32 with TF32 matrix products and convolutions (cuda)",
}
_NAME = "torch_compile"
_ONLY_ON: dict[str, Device] = {"reduce_overhead": "cuda", "fp16": "cuda", "tf32": "cuda"}
_GRAPHS_AT_MOST = 256

# It would warn of a CUDA toolkit without a GPU, which was not requested.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
# It would recommend TF32, which is off here unless it is asked for.
warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")


class CompiledSession(TorchSession):
    """A module compiled anew at the first call of each batch size, in channels_last.

    No later call compiles: one that would have to fails. A network that cannot be compiled as one
    graph fails as well, in place of being run half compiled.
    """

    mode = "torch.compile"

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        threads: int,
        precision: str,
        options: BackendOptions,
    ) -> None:
        self._options = options
        super().__init__(module, device, threads, TorchSettings(True, precision))
        self._forward = torch.compile(
            self._module, fullgraph=True, dynamic=False, options=_read_inductor_options(options)
        )
        self._compiled: set[int] = set()

    def _describe(self) -> list[str]:
        names = ("freeze", "max_autotune", "reduce_overhead")
        chosen = [name.replace("_", "-") for name in names if name in self._options]
        return ["inductor", *chosen, "one graph per batch size", *super()._describe()]

    def step(self) -> None:
        """Run the graph of the bound input's batch size; the first time, compile it."""
        if "reduce_overhead" in self._options:
            torch.compiler.cudagraph_mark_step_begin()
        if self._x is None or len(self._x) in self._compiled:
            return super().step()
        torch.compiler.set_stance("default")
        try:
            super().step()
        finally:
            torch.compiler.set_stance("fail_on_recompile")
        self._compiled.add(len(self._x))

    def __enter__(self) -> Self:
        limits = {"recompile_limit": _GRAPHS_AT_MOST, "fail_on_recompile_limit_hit": True}
        self._contexts.enter_context(torch._dynamo.config.patch(limits))
        if "no_cache" in self._options:
            named = TemporaryDirectory(prefix=f"foldbench-{os.getpid()}-")
            folder = self._contexts.enter_context(named)
            self._contexts.enter_context(torch._inductor.utils.fresh_cache(dir=folder))
        return super().__enter__()

    def close(self) -> None:
        """Free what the session holds."""
        super().close()
        torch.compiler.set_stance("default")
        torch._dynamo.reset()


def refuse(options: BackendOptions, device: Device) -> str | None:
    """Return why `options` make no sense on `device`; raise BackendError for impossible ones."""
    check_values(_NAME, options)
    check_exclusive(_NAME, options, TORCH_PRECISIONS)
    return refuse_elsewhere(_NAME, options, _ONLY_ON, device)


def open_session(
    source: NetworkSource, *, device: Device, threads: int, options: BackendOptions = NO_OPTIONS
) -> CompiledSession:
    """Open the source's module on `device`, to be compiled when it is first run.

    Raises BackendError without a CUDA device, or without what compiling needs.
    """
    reason = refuse(options, device)
    if reason:
        raise BackendError(reason)
    target = find_device(device)
    _require_compiler(device)
    precision = read_precision(options)
    return CompiledSession(source.build_module(), target, threads, precision, options)


def profile(
    source: NetworkSource,
    *,
    device: Device,
    threads: int,
    options: BackendOptions,
    batches: Sequence[Floats],
    runs: int,
) -> tuple[OperatorTime, ...]:
    """Return the time of each compiled kernel and each operator that inductor left to torch."""
    with open_session(source, device=device, threads=threads, options=options) as session:
        return profile_session(session, batches, runs)


def _read_inductor_options(options: BackendOptions) -> dict[str, Any]:
    """Return inductor's own settings for what was asked."""
    mode = "default"
    if "reduce_overhead" in options:
        mode = "max-autotune" if "max_autotune" in options else "reduce-overhead"
    elif "max_autotune" in options:
        mode = "max-autotune-no-cudagraphs"
    settings: dict[str, Any] = dict(torch._inductor.list_mode_options(mode))
    if "freeze" in options:
        settings["freezing"] = True
    return settings


def _require_compiler(device: Device) -> None:
    """Raise BackendError unless there is a compiler for the kernels, with Python's headers."""
    if device == "cuda":  # Triton builds its launchers in C
        names = [os.environ["CC"]] if "CC" in os.environ else ["clang", "gcc"]
    else:
        names = [os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")]
    if not any(shutil.which(name) for name in names):
        raise BackendError(
            f"{_NAME} needs a compiler, and there is no {' or '.join(names)}: apt-get install g++"
        )
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        raise BackendError(f"{_NAME} needs Python's header files: apt-get install python3-dev")
