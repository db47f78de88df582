"""Where the time goes: every contender under its own runtime's profiler, one after the other.

A profiler slows down what it watches, each in its own way: its figures say which operators matter,
never which runtime is faster. `bench compare` says that.
"""

import datetime
from collections.abc import Callable, Sequence

from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.measure.running import Contender, failures_of
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import ContenderProfile, OperatorTime, Profile
from foldbench.bench.workers.client import WorkerClient
from foldbench.bench.workers.protocol import Job

PROFILED_RUNS = 20
"""Runs of the network under the profiler; as many run before, untimed."""


def profile_contenders(
    name: str,
    specs: Sequence[ContenderSpec],
    describe: Callable[[ContenderSpec], Job],
    batch_sizes: Sequence[int],
    threads: int,
    listener: ProgressListener,
) -> Profile:
    """Profile each contender at each batch size, in a process of its own.

    A contender whose backend has no profiler, or that fails, is a row with the reason.
    """
    found: list[ContenderProfile] = []
    listener.begin("profiling", len(specs) * len(batch_sizes))
    for contender in map(Contender, specs):
        if contender.is_ok:
            with failures_of(contender):
                contender.worker = WorkerClient(describe(contender.spec))
        for batch_size in batch_sizes:
            listener.advance(len(found), f"{contender.name} at batch {batch_size}")
            found.append(_profile_one(contender, batch_size))
        contender.close()
    listener.end()
    return Profile(
        name=name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        threads=threads,
        profiles=tuple(found),
    )


def _profile_one(contender: Contender, batch_size: int) -> ContenderProfile:
    operators: tuple[OperatorTime, ...] = ()
    refused = contender.spec.refuse_batches(batch_size) if contender.is_ok else None
    if contender.is_ok and not refused:
        with failures_of(contender):
            operators = contender.require_worker().profile(batch_size, PROFILED_RUNS)
    return ContenderProfile(
        contender=contender.name,
        backend=contender.spec.backend,
        variant=contender.spec.variant,
        device=contender.spec.device,
        batch_size=batch_size,
        status="skipped" if refused else contender.result.status,
        reason=refused or contender.result.reason,
        runs=PROFILED_RUNS if operators else 0,
        operators=operators,
    )
