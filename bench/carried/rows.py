"""The rows of a bundle: what each runs, whether its answers are right, and its part of a record."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from foldbench.bench.analysis.answers import fault_of_answers
from foldbench.bench.backends import Floats
from foldbench.bench.errors import BenchError
from foldbench.bench.samples.timing import Block, StopReason
from foldbench.bench.timing.loop import WarmUp
from foldbench.bench.workers.client import WorkerClient
from foldbench.bench.workers.protocol import Job, Opened

_OPENED = ("runtime", "threads", "precision", "open_s", "import_s", "first_run_s", "libraries")
_RUNTIMES = {"ort": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True)
class Sample:
    """The images of a bundle, and what is known of them."""

    images: Path
    labels: np.ndarray | None
    """(N,) int64."""
    expected: Floats
    """(N, classes), computed in float64."""


@dataclass
class Timed:
    """What was timed of one row at one batch size."""

    warm_up: WarmUp
    untimed_calls: int = 0
    blocks: list[Block] = field(default_factory=list)
    stopped: StopReason | None = None


class Row:
    """One contender of a bundle."""

    def __init__(self, about: Mapping[str, Any], folder: Path) -> None:
        self.about = about
        self.name: str = about["contender"]
        self.path = folder / about["file"]
        self.worker: WorkerClient | None = None
        self.opened: Opened | None = None
        self.logits: Floats | None = None
        self.reason: str | None = None
        self.is_skipped = False
        runtime = _RUNTIMES[about["backend"]]
        if find_spec(runtime) is None:
            self.is_skipped, self.reason = True, f"{runtime} is not installed here"
        self.memory_bytes: int | None = None
        self.timed: dict[int, Timed] = {}

    @property
    def is_ok(self) -> bool:
        """Whether it is still in."""
        return self.reason is None

    @property
    def status(self) -> str:
        """Return what a record says of it."""
        return "ok" if self.is_ok else "skipped" if self.is_skipped else "failed"

    def start(self, job: Job) -> None:
        """Have a new process open the network, and see that its answers are right."""
        self.close()
        try:
            self.worker = WorkerClient(job)
            opened = self.worker.open()
            if self.opened is None:
                self.opened = opened
            if self.logits is None:
                self.logits = self.worker.evaluate()
            else:
                self.worker.expect(self.logits)
        except BenchError as error:
            self.fail(str(error))

    def verify(self, expected: Floats) -> None:
        """Take it out where its answers are wrong."""
        if self.logits is None or self.opened is None:
            return
        found = agreement(self.logits, expected)
        counts = found["top1_equal"], found["images"], found["max_rel_difference"]
        fault = fault_of_answers(self.opened.precision, *counts)
        if fault is not None:
            self.fail(f"wrong here: {fault}; it is not timed")

    def fail(self, reason: str) -> None:
        """Take it out, with a reason."""
        self.reason = reason
        self.close()

    def close(self) -> None:
        """End its process."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    def to_record(self, sample: Sample, protocol: str) -> dict[str, Any]:
        """Return its measurement as a record of foldbench's has it, as JSON types."""
        kept = ("contender", "role", "backend", "variant", "source_sha256", "size_bytes")
        found: dict[str, Any] = {key: self.about[key] for key in kept}
        found |= {
            "requested_device": self.about["device"],
            "status": self.status,
            "reason": self.reason,
            "peak_memory_bytes": self.memory_bytes,
            "timings": [_to_timing(size, timed) for size, timed in self.timed.items()],
        }
        if self.opened is not None:
            facts = asdict(self.opened)
            found |= {"actual_device": facts["device"], **{key: facts[key] for key in _OPENED}}
        if self.logits is not None and self.about["role"] == "contender":
            top1 = self.logits.argmax(1)
            labels = sample.labels
            found["accuracy"] = {
                "protocol": protocol,
                "correct": None if labels is None else int((top1 == labels).sum()),
                "total": len(top1),
                "top1": top1.tolist(),
                "agreement": agreement(self.logits, sample.expected),
            }
        return found


def agreement(logits: Floats, expected: Floats) -> dict[str, Any]:
    """Return how far two sets of answers are apart, on the same images."""
    difference = float(np.abs(logits.astype(np.float64) - expected).max())
    return {
        "images": len(logits),
        "top1_equal": int((logits.argmax(1) == expected.argmax(1)).sum()),
        "max_abs_difference": difference,
        "max_rel_difference": difference / max(float(np.abs(expected).max()), 1e-300),
    }


def _to_timing(size: int, timed: Timed) -> dict[str, Any]:
    return {
        "batch_size": size,
        "first_call_s": timed.warm_up.first_call_s,
        "warmup_calls": timed.untimed_calls,
        "steady": timed.warm_up.converged,
        "blocks": [asdict(block) for block in timed.blocks],
        "checked_outputs": len(timed.blocks),
        "stopped": timed.stopped,
    }
