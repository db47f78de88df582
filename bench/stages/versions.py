"""One network in several versions of a runtime: its answers, and one version held against another.

Each version is in an environment of its own; see `bench.workers.runtimes`.
"""

from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from foldbench.bench.analysis.bisection import Question, check_answers
from foldbench.bench.analysis.gate import Check, check_latency, check_memory
from foldbench.bench.arrays import Floats
from foldbench.bench.config.backend_spec import Spec, distributions_of
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.config.gate import GateSection
from foldbench.bench.errors import BackendError
from foldbench.bench.measure.contenders import install_runtime
from foldbench.bench.measure.evaluation import Evaluation
from foldbench.bench.measure.gating import (
    Gated,
    Rival,
    latency_test,
    measure_gate,
    memory_test,
    undecided_latency,
    undecided_memory,
)
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Role
from foldbench.bench.stages.gate import make_rival, medians_of
from foldbench.bench.stages.gate_sides import Side
from foldbench.bench.workers.client import WorkerClient


@dataclass(frozen=True)
class Network:
    """A network, or a part of one, and what it is given."""

    side: Side
    evaluation: Evaluation

    @property
    def path(self) -> Path:
        """The .onnx file."""
        if self.side.spec.path is None:
            raise BackendError(f"{self.side.given}: it has no file to run")
        return self.side.spec.path

    def with_images(self, images: np.ndarray, path: Path) -> "Network":
        """Return it with other `images`, which are written to `path` as .npy."""
        np.save(path, images, allow_pickle=False)
        count = len(images)
        shown = replace(self.evaluation, images=path, labels=None, unlabelled=count)
        return replace(self, evaluation=shown)


@dataclass
class Trials:
    """What is asked of versions of a runtime, and how they are measured."""

    runtime: Spec
    question: Question
    settings: GateSection
    """It has one batch size."""
    answers_allowed: float
    """Largest difference of answers, as a share of the largest of them."""
    compare: CompareSection
    threads: int
    cache: Path
    offline: bool
    listener: ProgressListener
    _known: dict[tuple[tuple[Path, Path], str, str], Floats] = field(default_factory=dict)

    @property
    def distribution(self) -> str:
        """What is installed."""
        return distributions_of(self.runtime.backend)["cpu"]

    def python_of(self, version: str) -> Path:
        """Return the interpreter that has a version; raise BackendError with the reason."""
        known = self.distribution, version, self.cache, self.offline
        return install_runtime(*known, self.listener)

    def answers(self, version: str, network: Network, role: Role = "contender") -> Floats:
        """Return what the network gives for all images, (N, K), by a process of its own.

        Those of one network at a time are kept. Raises BackendError where that version is not to be
        had or does not run it.
        """
        files = network.path, network.evaluation.images
        key = files, version, role
        if key not in self._known:
            self._known = {k: found for k, found in self._known.items() if k[0] == files}
            job = self._rival(version, network, role).job
            rows = np.arange(network.evaluation.count)
            with closing(WorkerClient(job)) as worker:
                worker.open()
                self._known[key] = worker.evaluate_as(rows, job.mean, job.std, False)
        return self._known[key]

    def check(self, base: str, head: str, network: Network) -> Check:
        """Return whether `head` is worse than `base`; raise BackendError where one does not run."""
        if self.question == "answers":
            first, again = (self.answers(base, network, role) for role in ("contender", "again"))
            return check_answers(first, again, self.answers(head, network), self.answers_allowed)
        gated = Gated(
            base=self._rival(base, network),
            again=self._rival(base, network, "again"),
            head=self._rival(head, network),
        )
        is_latency = self.question == "latency"
        measure_gate(
            gated,
            self.settings,
            self.compare,
            self.listener,
            undecided_of=undecided_latency if is_latency else undecided_memory,
        )
        if is_latency:
            (size,) = self.settings.batch_sizes
            test = latency_test(self.settings, gated.most)
            return check_latency(size, gated.generations(size), medians_of(gated, size), test)
        if not gated.memory[0]:
            raise BackendError("this system does not tell the peak memory of a process")
        return check_memory(*gated.memory, memory_test(self.settings, gated))

    def _rival(self, version: str, network: Network, role: Role = "contender") -> Rival:
        backend = str(replace(self.runtime, version=version))
        python = self.python_of(version)
        spec = replace(network.side.spec, backend=backend, python=python)
        side = replace(network.side, spec=spec)
        return make_rival(side, network.evaluation, self.threads, version, self.settings, role)
