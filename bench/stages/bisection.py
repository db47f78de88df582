"""Bisect: the version of a runtime in which a network got slower, grew or changed its answers."""

import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foldbench.bench import units
from foldbench.bench.analysis.bisection import (
    Bisected,
    Halved,
    Part,
    Question,
    Tried,
    halve,
    largest_difference,
    most_verdicts,
)
from foldbench.bench.config.backend_spec import Spec, distributions_of, parse_spec
from foldbench.bench.config.gate import GateSection
from foldbench.bench.errors import BackendError, BenchError, ConfigError, RunError, listed, one_line
from foldbench.bench.machine.environment import choose_thread_counts, describe_environment
from foldbench.bench.progress import ProgressListener
from foldbench.bench.stages.cutting import cut_down
from foldbench.bench.stages.gate import images_of
from foldbench.bench.stages.gate_sides import find_sides
from foldbench.bench.stages.versions import Network, Trials
from foldbench.bench.store.directory import Paths
from foldbench.bench.store.temporary import temporary_folder
from foldbench.bench.workers.runtimes import list_versions, number_of, within

_SPAN = re.compile(r"(\d+(?:\.\d+)*)\.\.(\d+(?:\.\d+)*)")
_IMAGES = 256
"""Of the test images, at the most: each version answers all of them."""
_SAME_ANSWERS = 1e-3
"""Difference, relative to the largest answer, above which a note says that answers changed."""


@dataclass(frozen=True)
class Asked:
    """What is to be bisected."""

    subject: str
    """A run, the folder of one or an .onnx file."""
    runtime: str
    """Such as ``ort``, with options."""
    span: str
    """Such as ``1.20..1.31``."""
    question: Question
    allowed: float
    """As a share."""
    variant: str | None = None
    offline: bool = False
    folder: Path | None = None
    """Where the smallest part that shows it is written; None for one named after the subject."""

    @property
    def target(self) -> Path:
        """Where the smallest part is written."""
        return self.folder or Path(f"{Path(self.subject).name.removesuffix('.onnx')}-bisect")


def bisect(
    asked: Asked, overrides: Sequence[str], paths: Paths, listener: ProgressListener
) -> Bisected:
    """Return in which version the subject got worse, and write the smallest part that shows it.

    Raises BenchError for a runtime without versions, a range with fewer than two of them that run
    the subject, and a folder that exists.
    """
    started = time.monotonic()
    spec, low, high = _parse(asked)
    if asked.target.exists():
        raise RunError(f"{asked.target} exists: remove it, or give another folder with --folder")
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        chosen = (asked.runtime, asked.variant)
        (side,) = find_sides((asked.subject,), overrides, paths, folder, listener, chosen)
        distribution = distributions_of(spec.backend)["cpu"]
        versions = within(list_versions(distribution, paths.cache, asked.offline), low, high)
        if len(versions) < 2:
            raise ConfigError(
                f"{asked.span} holds {listed(versions) or 'no version'} of {distribution} "
                f"{'in the cache (--offline)' if asked.offline else 'that this Python can install'}"
                ": give a range with two at the least"
            )
        listener.note(f"{len(versions)} versions of {distribution}: {listed(versions, 50)}")
        evaluation, _ = images_of((side, side), paths, listener, stack)
        images = np.load(evaluation.images, mmap_mode="r", allow_pickle=False)[:_IMAGES]
        network = Network(side, evaluation).with_images(images, folder / "sample.npy")
        trials = Trials(
            spec,
            asked.question,
            _settings(side.config.gate, asked, len(versions)),
            asked.allowed,
            side.config.compare,
            choose_thread_counts(side.config.compare.thread_counts, "compare.threads")[0],
            *(paths.cache, asked.offline, listener),
        )
        skipped, usable = _first_usable(trials, network, versions)
        judge = _Judge(trials, network, usable[0])
        halved = halve(usable, judge)
        tried = (*skipped, *halved.tried)
        part, notes = _cut(trials, network, usable[0], halved, asked.target)
    section = side.config.gate
    return Bisected(
        subject=side.given,
        runtime=asked.runtime,
        question=asked.question,
        allowed=asked.allowed,
        versions=versions,
        base=usable[0],
        good=halved.good,
        bad=halved.bad,
        tried=tried,
        error=0.0 if asked.question == "answers" else max(section.alpha, section.beta),
        on_unclear=section.on_unclear,
        seconds=time.monotonic() - started,
        part=part,
        environment=describe_environment(),
        notes=(*judge.notes, *notes),
    )


def _parse(asked: Asked) -> tuple[Spec, str, str]:
    spec, span = parse_spec(asked.runtime), _SPAN.fullmatch(asked.span.strip())
    if "cpu" not in distributions_of(spec.backend) or spec.version:
        raise ConfigError(
            f"{asked.runtime} has no versions to choose from: give a runtime that has, such as ort "
            "or openvino, without a version"
        )
    if span is None or number_of(span[1]) > number_of(span[2]):
        raise ConfigError(f"{asked.span!r} is no range of versions: write it as 1.20..1.31")
    return spec, span[1], span[2]


def _settings(section: GateSection, asked: Asked, versions: int) -> GateSection:
    """Return the gate's settings; all verdicts together err as often as its one.

    Raises ConfigError for several batch sizes.
    """
    if len(section.batch_sizes) > 1:
        raise ConfigError(
            f"gate.batch_sizes: found {', '.join(map(str, section.batch_sizes))}: a bisection "
            "times one batch size: give --batch-size N"
        )
    count = most_verdicts(versions)
    return section.model_copy(
        update={
            "max_slower": asked.allowed,
            "max_memory": asked.allowed,
            "alpha": section.alpha / count,
            "beta": section.beta / count,
        }
    )


def _first_usable(
    trials: Trials, network: Network, versions: Sequence[str]
) -> tuple[list[Tried], Sequence[str]]:
    """Return what was skipped, and the versions from the oldest on that runs the network."""
    skipped: list[Tried] = []
    for place, version in enumerate(versions[:-1]):
        try:
            trials.answers(version, network)
        except BackendError as error:
            skipped.append(Tried(version, reason=str(error)))
        else:
            return skipped, versions[place:]
    reasons = "; ".join(f"{one.version}: {one.reason}" for one in skipped)
    raise BackendError(f"no two versions run {network.side.given} ({reasons})")


class _Judge:
    """Holds versions against the oldest that runs the network."""

    def __init__(self, trials: Trials, network: Network, base: str) -> None:
        self._trials, self._network, self._base = trials, network, base
        self._answers = trials.answers(base, network)
        self.notes: list[str] = []

    def __call__(self, version: str) -> Tried:
        """Return what is known of a version; one that does not run the network is skipped."""
        try:
            answers = self._trials.answers(version, self._network)
            check = self._trials.check(self._base, version, self._network)
        except BackendError as error:
            return Tried(version, reason=str(error))
        difference = largest_difference(self._answers, answers)
        if self._trials.question != "answers" and not difference <= _SAME_ANSWERS:
            self.notes.append(
                f"{version} gives other answers than {self._base} (difference "
                f"{units.short_error(difference)} of the largest): --answers finds since when"
            )
        return Tried(version, check)


def _cut(
    trials: Trials, network: Network, base: str, halved: Halved, target: Path
) -> tuple[Part | None, tuple[str, ...]]:
    """Return the smallest part that shows what was found, and why there is none."""
    if halved.bad is None:
        return None, ()
    if trials.runtime.backend != "ort":
        return None, ("parts of the network are written for ort alone",)
    trials.listener.note(f"{halved.bad} is worse than {base}: cutting the network down")
    try:
        return cut_down(trials, network, base, halved, target), ()
    except (BenchError, OSError) as error:
        return None, (f"the network was not cut down: {one_line(error)}",)
    except KeyboardInterrupt:  # the version is known, and may have taken minutes to find
        return None, ("the network was not cut down: interrupted",)
