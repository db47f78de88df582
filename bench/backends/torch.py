"""PyTorch eager: the module itself, float32, on the CPU or CUDA."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity

from foldbench.bench.backends import (
    NO_OPTIONS,
    TORCH_PRECISIONS,
    BackendOptions,
    Closing,
    Floats,
    Format,
    NetworkSource,
)
from foldbench.bench.backends._options import check_exclusive, check_values, refuse_elsewhere
from foldbench.bench.errors import BackendError
from foldbench.bench.machine.heap import can_keep_freed_memory, keep_freed_memory
from foldbench.bench.samples.timing import Device, OperatorTime

FORMAT: Format = "module"
OPTIONS: dict[str, str] = {
    "channels_last": "images and weights in memory channel by channel of each pixel (NHWC)",
    "bf16": "autocast to bfloat16",
    "fp16": "autocast to float16 (cuda)",
    "tf32": "float32 with TF32 matrix products and convolutions (cuda)",
    "own_stream": "a CUDA stream of its own in place of the default one (cuda)",
    "keep_memory": "freed memory stays with the process: no page faults in every call (cpu, glibc)",
}
_ONLY_ON: dict[str, Device] = {
    "fp16": "cuda",
    "tf32": "cuda",
    "own_stream": "cuda",
    "keep_memory": "cpu",
}
_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class TorchSettings:
    """How the module is run."""

    channels_last: bool = False
    precision: str = "float32"
    own_stream: bool = False
    keep_memory: bool = False


PLAIN = TorchSettings()


class TorchSession(Closing):
    """A module in eval mode under inference_mode; TF32 is off unless it is asked for.

    Under autocast the weights are cast once, not in every call.
    """

    mode = "eager"

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        threads: int,
        settings: TorchSettings = PLAIN,
    ) -> None:
        if settings.keep_memory:
            keep_freed_memory()
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = settings.precision == "tf32"
        torch.backends.cudnn.allow_tf32 = settings.precision == "tf32"
        torch.backends.cudnn.benchmark = True  # search for the fastest convolution, as ort does
        self.precision = settings.precision
        self._settings = settings
        self._contexts = ExitStack()
        self._target = device
        self._module = module
        module.to(device)
        self._format = torch.preserve_format
        if settings.channels_last:
            self._format = torch.channels_last
            module.to(memory_format=torch.channels_last)
        self._forward: Callable[[Tensor], Tensor] = self._module
        self._x: Tensor | None = None
        self._y: Tensor | None = None
        self._changes_input: bool | None = None
        self.device = self._check_placement()
        self.runtime = ", ".join((f"torch {torch.__version__} {self.mode}", *self._describe()))

    @property
    def threads(self) -> int:
        """Threads for one operator; the network's own code may change them."""
        return torch.get_num_threads()

    def _describe(self) -> list[str]:
        """Return the settings that matter to speed, as text."""
        parts = ["channels_last"] if self._settings.channels_last else []
        if self._settings.keep_memory:
            parts.append("freed memory kept")
        if self.precision in _AUTOCAST:
            parts.append(f"autocast {self.precision}")
        if self._target.type == "cuda":
            name, cudnn = torch.cuda.get_device_name(self._target), torch.backends.cudnn.version()
            tf32 = "on" if self.precision == "tf32" else "off"
            if self._settings.own_stream:
                parts.append("a stream of its own")
            parts += [f"on {name}", f"cuDNN {cudnn}", f"TF32 {tf32}", "cuDNN search on"]
        return parts

    def bind(self, x: Floats) -> None:
        """Take (N, C, H, W) float32; on the CPU without a copy unless the layout changes."""
        self._x = torch.from_numpy(x).to(self._target, memory_format=self._format)

    def place(self, x: Floats) -> None:
        """Take (N, C, H, W) float32 and wait until it is on the device; outputs stay there."""
        self.bind(x)
        self.synchronize()

    def step(self) -> None:
        """Run the module's forward on the bound input."""
        if self._x is None:
            raise BackendError("step() before bind(): give the session an input first")
        x = self._x if self._changes_input is False else self._x.clone()
        self._y = self._forward(x)
        if self._changes_input is None:  # found out once; a network that does is given copies
            self._changes_input = not torch.equal(x, self._x)

    def synchronize(self) -> None:
        """Wait for the GPU, or for the session's own stream; nothing to wait for on the CPU."""
        if self._settings.own_stream:
            torch.cuda.current_stream(self._target).synchronize()
        elif self._target.type == "cuda":
            torch.cuda.synchronize(self._target)

    def output(self) -> Floats:
        """Return the logits of the last step, (N, classes) float32."""
        if self._y is None:
            raise BackendError("output() before step(): run the network first")
        if self._y.device.type != self._target.type:
            raise BackendError(
                f"asked for {self._target}, but the output is on {self._y.device}: the network "
                "moves its data by itself; leave the device to the caller"
            )
        return self._y.float().cpu().numpy()

    def allocated_peak_bytes(self) -> int | None:
        """Return the most that tensors held on the GPU since this was last asked."""
        if self._target.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated(self._target)
        torch.cuda.reset_peak_memory_stats(self._target)
        return peak

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
        self._contexts.enter_context(torch.inference_mode())
        if self._settings.own_stream:
            self._contexts.enter_context(torch.cuda.stream(torch.cuda.Stream(self._target)))
        if self.precision in _AUTOCAST:
            self._contexts.enter_context(
                torch.autocast(self._target.type, dtype=_AUTOCAST[self.precision])
            )
        return self

    def mark_modules(self) -> None:
        """Have every module tell torch's profiler when it begins and ends."""
        for name, module in self._module.named_modules():
            _mark(name, module)

    def close(self) -> None:
        """Free what the session holds."""
        self._contexts.close()
        self._x = self._y = None
        del self._module, self._forward


_MODULE = "module "
"""What the names of modules begin with among the events of a profile."""


def _mark(name: str, module: nn.Module) -> None:
    open_ranges: list[Any] = []

    def enter(_: nn.Module, __: Any) -> None:
        open_ranges.append(torch.profiler.record_function(f"{_MODULE}{name}"))
        open_ranges[-1].__enter__()

    def leave(_: nn.Module, __: Any, ___: Any) -> None:
        open_ranges.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave)


def refuse(options: BackendOptions, device: Device) -> str | None:
    """Return why `options` make no sense on `device`; raise BackendError for impossible ones."""
    check_values("torch", options)
    check_exclusive("torch", options, TORCH_PRECISIONS)
    if "keep_memory" in options and not can_keep_freed_memory():
        return "torch:keep_memory needs glibc's malloc: leave it out on this system"
    return refuse_elsewhere("torch", options, _ONLY_ON, device)


def open_session(
    source: NetworkSource, *, device: Device, threads: int, options: BackendOptions = NO_OPTIONS
) -> TorchSession:
    """Open the source's module on `device`; raise BackendError without a CUDA device."""
    reason = refuse(options, device)
    if reason:
        raise BackendError(reason)
    target = find_device(device)
    settings = TorchSettings(
        "channels_last" in options,
        read_precision(options),
        "own_stream" in options,
        "keep_memory" in options,
    )
    return TorchSession(source.build_module(), target, threads, settings)


def read_precision(options: BackendOptions) -> str:
    """Return what the network is to compute in."""
    return next((TORCH_PRECISIONS[name] for name in options if name in TORCH_PRECISIONS), "float32")


def find_device(device: Device) -> torch.device:
    """Return the torch device; raise BackendError without a CUDA device that torch can use."""
    if device == "cuda" and not torch.cuda.is_available():
        build = torch.version.cuda or "none: a CPU build"
        raise BackendError(
            f"asked for cuda, but torch {torch.__version__} sees no CUDA device "
            f"(built for CUDA {build}): check the driver with nvidia-smi"
        )
    return torch.device("cuda:0" if device == "cuda" else "cpu")


def profile(
    source: NetworkSource,
    *,
    device: Device,
    threads: int,
    options: BackendOptions,
    batches: Sequence[Floats],
    runs: int,
) -> tuple[OperatorTime, ...]:
    """Return each operator's time as torch's profiler sees it; raises what `open` raises."""
    with open_session(source, device=device, threads=threads, options=options) as session:
        session.mark_modules()
        return profile_session(session, batches, runs)


def profile_session(
    session: TorchSession, batches: Sequence[Floats], runs: int
) -> tuple[OperatorTime, ...]:
    """Return each operator's time in an open session."""

    def run(x: Floats) -> None:
        session.bind(x)
        session.step()
        session.synchronize()

    return _profile_calls(run, batches, runs, on_cuda=session.device.startswith("cuda"))


def _profile_calls(
    run: Callable[[Floats], object], batches: Sequence[Floats], runs: int, on_cuda: bool
) -> tuple[OperatorTime, ...]:
    """Return the mean time of each operator in one call of `run`, over `runs` calls.

    As many calls are made before, outside the profiler. On the CPU it is the time in the operator
    itself, without those that it calls; on CUDA, the time of its kernels on the device.
    """
    for index in range(runs):
        run(batches[index % len(batches)])
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_cuda else [])
    with torch.profiler.profile(activities=activities) as profiler:
        for index in range(runs):
            run(batches[index % len(batches)])
    totals: dict[tuple[str, str | None], list[float]] = {}
    for event in profiler.events():
        total_us = event.self_device_time_total if on_cuda else event.self_cpu_time_total
        if total_us > 0 and not event.name.startswith(_MODULE):
            found = totals.setdefault((event.name, _module_of(event)), [0.0, 0.0])
            found[0] += total_us
            found[1] += 1
    return tuple(
        OperatorTime(
            operator=operator,
            node=module,
            placed_on="CUDA" if on_cuda else "CPU",
            time_s=total_us * 1e-6 / runs,
            calls=calls / runs,
        )
        for (operator, module), (total_us, calls) in totals.items()
    )


def _module_of(event: Any) -> str | None:
    """Return the innermost module that an event of the profiler lies in; None without modules."""
    while event is not None and not event.name.startswith(_MODULE):
        event = event.cpu_parent
    return None if event is None else str(event.name.removeprefix(_MODULE))
