"""What torch's profiler saw of a module."""

from collections.abc import Callable, Sequence

import torch
from torch.profiler import ProfilerActivity

from foldbench.bench.backends import Floats
from foldbench.bench.samples.timing import OperatorTime


def profile_calls(
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
    found = []
    for event in profiler.key_averages():
        total_us = event.self_device_time_total if on_cuda else event.self_cpu_time_total
        if total_us > 0:
            found.append(
                OperatorTime(
                    operator=event.key,
                    node=None,
                    placed_on="CUDA" if on_cuda else "CPU",
                    time_s=total_us * 1e-6 / runs,
                    calls=event.count / runs,
                )
            )
    return tuple(found)
