"""PyTorch eager: the module itself, float32, on the CPU or CUDA."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from bench.backends import NO_OPTIONS, Floats, Format, Options, Source
from bench.backends._torch_profile import profile_calls
from bench.errors import BackendError
from bench.records import Device
from bench.records_profile import OperatorTime

FORMAT: Format = "module"
OPTIONS: dict[str, str] = {}


class TorchSession:
    """A module in eval mode under inference_mode; TF32 off, so that float32 means float32."""

    precision = "float32"

    def __init__(self, module: nn.Module, device: torch.device, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True  # search for the fastest convolution, as ort does
        self._inference = torch.inference_mode()
        self._target = device
        self._module = module.to(device)
        self._x: Tensor | None = None
        self._y: Tensor | None = None
        self.threads = torch.get_num_threads()
        self.device = self._check_placement()
        self.runtime = f"torch {torch.__version__} eager"
        if device.type == "cuda":
            name, cudnn = torch.cuda.get_device_name(device), torch.backends.cudnn.version()
            self.runtime += f" on {name}, cuDNN {cudnn}, TF32 off, cuDNN search on"

    def bind(self, x: Floats) -> None:
        """Take (N, C, H, W) float32; on the CPU without a copy."""
        self._x = torch.from_numpy(x).to(self._target)

    def place(self, x: Floats) -> None:
        """Take (N, C, H, W) float32 and wait until it is on the device; outputs stay there."""
        self.bind(x)
        self.synchronize()

    def step(self) -> None:
        """Run the module's forward on the bound input."""
        if self._x is None:
            raise BackendError("step() before bind(): give the session an input first")
        self._y = self._module(self._x)

    def synchronize(self) -> None:
        """Wait for the GPU; nothing to wait for on the CPU."""
        if self._target.type == "cuda":
            torch.cuda.synchronize(self._target)

    def output(self) -> Floats:
        """Return the logits of the last step, (N, classes) float32."""
        if self._y is None:
            raise BackendError("output() before step(): run the network first")
        return self._y.cpu().numpy()

    def _check_placement(self) -> str:
        """Return where every parameter and buffer is; raise BackendError for any stray one."""
        tensors = {**dict(self._module.named_parameters()), **dict(self._module.named_buffers())}
        for name, tensor in tensors.items():
            if tensor.device.type != self._target.type:
                raise BackendError(f"asked for {self._target}, but {name} is on {tensor.device}")
        training = [name for name, part in self._module.named_modules() if part.training]
        if training:
            where = training[0] or "as a whole"
            raise BackendError(
                f"the module is in train mode ({where}), where BatchNorm uses each batch's own "
                "statistics: call .eval() on it"
            )
        return str(self._target)

    def __enter__(self) -> Self:
        self._inference.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inference.__exit__(kind, error, trace)
        self._x = self._y = None
        del self._module


def open(
    source: Source, *, device: Device, threads: int, options: Options = NO_OPTIONS
) -> TorchSession:
    """Open the source's module on `device`; raise BackendError without a CUDA device."""
    if device == "cuda" and not torch.cuda.is_available():
        build = torch.version.cuda or "none: a CPU build"
        raise BackendError(
            f"asked for cuda, but torch {torch.__version__} sees no CUDA device "
            f"(built for CUDA {build}): check the driver with nvidia-smi"
        )
    target = torch.device("cuda:0" if device == "cuda" else "cpu")
    return TorchSession(source.build_module(), target, threads)


def profile(
    source: Source,
    *,
    device: Device,
    threads: int,
    options: Options,
    batches: Sequence[Floats],
    runs: int,
) -> tuple[OperatorTime, ...]:
    """Return each operator's time as torch's profiler sees it; raises what `open` raises."""
    with open(source, device=device, threads=threads, options=options) as session:

        def run(x: Floats) -> None:
            session.bind(x)
            session.step()
            session.synchronize()

        return profile_calls(run, batches, runs, on_cuda=device == "cuda")
