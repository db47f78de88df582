"""A bundle on every node of a Ray cluster: one task on each, with all that the node has.

The nodes need Ray, numpy and a runtime; the program that takes the bundle (`there`) is sent along
as text.
"""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foldbench.bench import units
from foldbench.bench.errors import (
    BenchError,
    MissingPackageError,
    UnknownNameError,
    listed,
    one_line,
)
from foldbench.bench.remote.places import PROGRAM, Say

_OF_RAY = ("node:", "object_store_memory", "memory", "ray.io/")
"""Beginnings of the names of resources and labels that Ray gives by itself."""


class Node:
    """A node of the cluster that this process is connected to."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        self.name: str = about["NodeManagerHostname"]
        self.identity: str = about["NodeID"]
        self.resources: Mapping[str, float] = about["Resources"]
        self.labels: Mapping[str, str] = about.get("Labels") or {}
        self._task: Any = None
        self._is_stopped = False

    def has(self, wanted: str) -> bool:
        """Return whether it has the resource, or the label written as ``NAME=VALUE``."""
        name, is_label, value = wanted.partition("=")
        return self.labels.get(name) == value if is_label else bool(self.resources.get(name))

    def measure(self, bundle: Path, say: Say) -> str:
        """Return the text of the record; see `Place`."""
        import ray
        from ray.exceptions import RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        cpus = self.resources.get("CPU", 0)
        if not cpus:
            raise BenchError("it offers no CPU to Ray")
        say(f"waiting until all of its {units.plain(cpus)} CPUs are free")
        reserve = ray.remote(
            num_cpus=cpus,
            num_gpus=self.resources.get("GPU", 0),
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(self.identity, soft=False),
        )
        program = PROGRAM.read_text(encoding="utf-8")
        try:
            self._task = reserve(_task()).remote(program, bundle.name, bundle.read_bytes())
            if self._is_stopped:
                ray.cancel(self._task)
            answer: Mapping[str, str] = ray.get(self._task)
        except RayError as error:
            raise BenchError(one_line(getattr(error, "cause", None) or error)) from None
        if "reason" in answer:
            raise BenchError(answer["reason"])
        return answer["record"]

    def stop(self) -> None:
        """Cancel the task, which removes its files."""
        self._is_stopped = True
        if self._task is not None:
            import ray

            ray.cancel(self._task)


def _task() -> Callable[[str, str, bytes], Mapping[str, str]]:
    """Return the function that runs on a node: a local one, which Ray sends whole."""

    def run(program: str, name: str, bundle: bytes) -> Mapping[str, str]:
        names: dict[str, Any] = {"__name__": "there"}
        exec(program, names)

        def write(path: str) -> None:
            with open(path, "wb") as file:
                file.write(bundle)

        answer: Mapping[str, str] = names["measure"](name, write, lambda text: None)
        return answer

    return run


@contextmanager
def connected(address: str, wanted: str | None) -> Iterator[tuple[Node, ...]]:
    """Yield the nodes of the cluster at `address` that have the resource or label `wanted`.

    Raises MissingPackageError without Ray, BenchError where the cluster cannot be reached,
    UnknownNameError where no node has what is wanted.
    """
    try:
        import ray
    except ImportError:
        raise MissingPackageError(
            "--ray needs Ray, which is not installed: pip install 'foldbench[ray]'"
        ) from None
    ended_by = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # whatever its layers raise
        raise BenchError(f"no Ray cluster answers at {address}: {one_line(error)}") from None
    signal.signal(signal.SIGTERM, ended_by)  # Ray ends at once, and leaves its tasks running
    try:
        yield _nodes(ray.nodes(), wanted)
    finally:
        ray.shutdown()


def _nodes(found: list[Mapping[str, Any]], wanted: str | None) -> tuple[Node, ...]:
    alive = [Node(about) for about in found if about["Alive"]]
    names = [node.name for node in alive]
    for node in alive:
        if names.count(node.name) > 1:
            node.name += f"-{node.identity[:8]}"
    chosen = tuple(node for node in alive if wanted is None or node.has(wanted))
    if not chosen:
        offered = {name for node in alive for name in node.resources}
        offered |= {f"{key}={value}" for node in alive for key, value in node.labels.items()}
        known = sorted(name for name in offered if not name.startswith(_OF_RAY))
        raise UnknownNameError(
            f"no node of the Ray cluster has {wanted!r} (resources and labels: {listed(known)})"
        )
    return chosen
