"""Peak throughput: the network's operations, and how fast this machine can do such.

A network is mostly matrix products. How fast the machine multiplies large matrices of the same kind
of numbers, with the same threads and just before the rounds, is a mark that a latency can be held
against on any machine, whatever the code that the latency is of. How fast it copies within its
memory is another one, for networks that wait for their numbers rather than compute.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from foldbench.bench.analysis.clean import is_clean
from foldbench.bench.backends import TORCH_PRECISIONS
from foldbench.bench.config.backend_spec import parse_spec
from foldbench.bench.errors import BenchError, one_line
from foldbench.bench.machine.interference import Counters, measure_between, read_counters
from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import (
    Checkpoint,
    CopyRate,
    Device,
    MatmulRate,
    PeakThroughput,
    Traffic,
)
from foldbench.bench.workers.isolated import run_isolated

ProductKind = tuple[Device, str]
"""A device and the precision of the products."""
K = TypeVar("K")

_SIZE: dict[Device, int] = {"cpu": 2048, "cuda": 8192}
_COPY_BYTES: dict[Device, int] = {"cpu": 2**28, "cuda": 2**30}
"""Beyond what any cache holds."""
_SAMPLES = 7
"""Clean blocks wanted of each kind."""
_TRIES = 4
"""Blocks made for each that is wanted, at the most, while something else runs."""
_LONGEST_S = 5.0
"""After that long no disturbed block is made again."""
_SAMPLE_S = 0.05


def product_kinds(contenders: Iterable[ContenderSpec]) -> tuple[ProductKind, ...]:
    """Return the kinds of products to measure: float32, and what options ask for besides."""
    kinds: dict[ProductKind, None] = {}
    for contender in contenders:
        if contender.status == "ok":
            kinds[contender.device, "float32"] = None
            for option in parse_spec(contender.backend).options:
                if option in TORCH_PRECISIONS:
                    kinds[contender.device, TORCH_PRECISIONS[option]] = None
    return tuple(kinds)


Counted = tuple[int, Traffic]
"""Operations for one image, and what is read and written for it."""
Count = Callable[[Checkpoint, Path], Counted]
"""Counts for the network of a checkpoint, whose files are in a folder."""


def measure_peak_throughput(
    checkpoint: Checkpoint,
    folder: Path,
    kinds: Sequence[ProductKind],
    threads: int,
    listener: ProgressListener,
    count: Count | None = None,
) -> PeakThroughput | None:
    """Measure in a process of its own that is gone afterwards; None, with a note, on failure.

    `count` is for a network that is no module of torch's.
    """
    listener.note("measuring this machine's peak throughput (matrix products, copies)")
    try:
        return run_isolated(
            _measure, checkpoint, folder, tuple(kinds), threads, count or count_module
        )
    except (BenchError, RuntimeError, MemoryError) as error:
        listener.note(f"peak throughput is left out: {one_line(error)}")
        return None


def _measure(
    checkpoint: Checkpoint,
    folder: Path,
    kinds: Sequence[ProductKind],
    threads: int,
    count: Count,
) -> PeakThroughput:
    import torch

    torch.set_num_threads(threads)
    flops, traffic = count(checkpoint, folder)
    present = [kind for kind in kinds if kind[0] == "cpu" or torch.cuda.is_available()]
    devices = tuple(dict.fromkeys(device for device, _ in present))
    return PeakThroughput(
        flops_per_image=flops,
        matmul_rates=measure_rates(present, threads, time.perf_counter),
        traffic=traffic,
        copy_rates=measure_copies(devices, threads, time.perf_counter),
    )


def count_module(checkpoint: Checkpoint, folder: Path) -> Counted:
    """Count in the torch module of a checkpoint."""
    from foldbench.models.building.checkpoint import load_checkpoint

    module = load_checkpoint(checkpoint, folder)
    shape = checkpoint.preprocessing.input_shape
    return count_flops(module, shape), count_traffic(module, shape)


def count_flops(module: Any, input_shape: Sequence[int]) -> int:
    """Return the operations for one image (C, H, W): those of convolutions and matrix products."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, *input_shape))
    return int(counter.get_total_flops())


def count_traffic(module: Any, input_shape: Sequence[int]) -> Traffic:
    """Return what convolutions and matrix products read and write, for images (C, H, W)."""
    one, two = (_count_numbers(module, (size, *input_shape)) for size in (1, 2))
    return Traffic(numbers_per_call=2 * one - two, numbers_per_image=two - one)


def _count_numbers(module: Any, shape: tuple[int, ...]) -> int:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = function(*args, **(kwargs or {}))
            if function.overloadpacket in flop_registry:
                touched = tree_leaves((args, kwargs, result))
                self.numbers += sum(t.numel() for t in touched if isinstance(t, torch.Tensor))
            return result

    with torch.no_grad(), Counter() as counter:
        module(torch.zeros(shape))
    return counter.numbers


def measure_rates(
    kinds: Sequence[ProductKind],
    threads: int,
    clock: Callable[[], float],
    size: int | None = None,
    counters: Callable[[], Counters] = read_counters,
) -> tuple[MatmulRate, ...]:
    """Time products of each kind in turns; `size` is that of the matrices where it is given.

    While something else runs, as `counters` tell, it goes on: four times as long at the most.
    """
    products = {kind: _make_product(kind, size or _SIZE[kind[0]]) for kind in kinds}
    return tuple(
        MatmulRate(
            device=kind[0],
            precision=kind[1],
            threads=threads,
            size=size or _SIZE[kind[0]],
            samples_s=samples_s,
            clean=clean,
        )
        for kind, (samples_s, clean) in _time_in_turns(products, clock, counters).items()
    )


def measure_copies(
    devices: Sequence[Device],
    threads: int,
    clock: Callable[[], float],
    size_bytes: int | None = None,
    counters: Callable[[], Counters] = read_counters,
) -> tuple[CopyRate, ...]:
    """Time copies within the memory of each device, as `measure_rates` times products."""
    sizes = {device: size_bytes or _COPY_BYTES[device] for device in devices}
    copies = {device: _make_copy(device, sizes[device]) for device in devices}
    return tuple(
        CopyRate(
            device=device,
            threads=threads,
            size_bytes=sizes[device],
            samples_s=samples_s,
            clean=clean,
        )
        for device, (samples_s, clean) in _time_in_turns(copies, clock, counters).items()
    )


def _time_in_turns(
    works: Mapping[K, Callable[[], None]],
    clock: Callable[[], float],
    counters: Callable[[], Counters],
) -> dict[K, tuple[tuple[float, ...], tuple[bool, ...]]]:
    """Return, of each work, the seconds of its blocks and whether each was left alone."""
    samples: dict[K, list[float]] = {kind: [] for kind in works}
    clean: dict[K, list[bool]] = {kind: [] for kind in works}
    for work in works.values():
        work()
    started = clock()
    for number in range(_SAMPLES * _TRIES):
        if number >= _SAMPLES and clock() - started > _LONGEST_S:
            break
        for kind, work in works.items():
            if sum(clean[kind]) < _SAMPLES:
                before = counters()
                samples[kind].append(_time(work, clock))
                seen = measure_between(before, counters())
                clean[kind].append(is_clean(seen.run_delay_ratio))
    return {kind: (tuple(samples[kind]), tuple(clean[kind])) for kind in works}


def _make_product(kind: ProductKind, size: int) -> Callable[[], None]:
    """Return a function that multiplies two matrices of that kind, and waits until it is done."""
    import torch

    device, precision = kind
    types = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    generator = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.randn(size, size, device=device, generator=generator).to(types.get(precision))
        for _ in range(2)
    )
    result = torch.empty_like(left)

    def multiply() -> None:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.mm(left, right, out=result)
        if device == "cuda":
            torch.cuda.synchronize()

    return multiply


def _make_copy(device: Device, size_bytes: int) -> Callable[[], None]:
    """Return a function that copies so many bytes on the device, and waits until it is done."""
    import torch

    source, target = (torch.ones(size_bytes, dtype=torch.uint8, device=device) for _ in range(2))

    def copy() -> None:
        target.copy_(source)
        if device == "cuda":
            torch.cuda.synchronize()

    return copy


def _time(work: Callable[[], None], clock: Callable[[], float]) -> float:
    """Return the mean seconds of consecutive pieces of work."""
    started, calls = clock(), 0
    while not calls or clock() - started < _SAMPLE_S:
        work()
        calls += 1
    return (clock() - started) / calls
