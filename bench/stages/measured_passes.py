"""Keep only the passes for this machine that gain something on it: found by timing files without.

A file with fewer passes takes the place of the usual one where the interval of its speed-up lies
above 1 at a batch size, and below 1 at none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING

from foldbench.bench.analysis.ratios import paired_ratio
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.config.export import ExportSection
from foldbench.bench.errors import ConfigError
from foldbench.bench.images.splits import spread
from foldbench.bench.machine.environment import choose_thread_counts
from foldbench.bench.measure.comparison import describe_job
from foldbench.bench.measure.contenders import ContenderSpec, Subject
from foldbench.bench.measure.evaluation import prepare_evaluation
from foldbench.bench.measure.gating import Rival, require_ok, start_rivals
from foldbench.bench.measure.latency import measure_latency
from foldbench.bench.measure.running import Contender, StartWorker, failures_of
from foldbench.bench.measure.series import MeasurementSeries
from foldbench.bench.progress import NullListener, ProgressListener
from foldbench.bench.records import Artifact, Tried
from foldbench.bench.registry import PASSES
from foldbench.bench.store.temporary import temporary_folder
from foldbench.bench.workers.client import WorkerClient

if TYPE_CHECKING:
    from foldbench.bench.stages.export import Exporting
    from foldbench.exporters.export import ExportOptions

_IMAGES = 256
"""On which the files' answers are held against each other."""


def refuse_other_targets(asked: ExportSection) -> None:
    """Raise ConfigError where passes are to be timed for another target than this machine."""
    if asked.measure and asked.target != "host":
        raise ConfigError(
            "export.measure: passes are timed for the target host alone, and export.target is "
            f"{asked.target}: give it --target host, or leave --measure out"
        )


def choices_of(shipped: Artifact) -> list[tuple[str, ...]]:
    """Return the passes for this machine that `shipped` could do with: all of them, then fewer."""
    changed = [done.name for done in shipped.passes if done.changed]
    own = [name for name in changed if PASSES.load(name).TARGETS == ("host",)]
    return [kept for count in range(len(own), -1, -1) for kept in combinations(own, count)]


def measure_passes(
    prepared: "Exporting",
    shipped: Artifact,
    listener: ProgressListener,
    start_worker: StartWorker = WorkerClient,
) -> tuple["ExportOptions", tuple[Tried, ...]]:
    """Return the options of the file to ship, and what was tried against `shipped`.

    Every process of the comparison's settings times all files in turns. Raises BackendError for a
    file that does not run.
    """
    choices = choices_of(shipped)
    plans = [_with_passes(prepared.options, choices[0], kept) for kept in choices]
    settings, checkpoint = prepared.config.compare, prepared.checkpoint
    threads = choose_thread_counts(settings.thread_counts, "compare.threads")[0]
    test = prepared.data.test.take(spread(len(prepared.data.test), _IMAGES))
    listener.note(f"timing {len(choices)} files with different passes")
    with (
        temporary_folder() as folder,
        prepare_evaluation(prepared.config.evaluate, test) as (evaluation, _),
    ):
        subject = Subject(prepared.run.path, checkpoint, ())
        rivals = []
        for number, options in enumerate(plans):
            within = folder / str(number)
            (within / "artifacts").mkdir(parents=True)
            path = within / prepared.make(options, within).path
            spec = ContenderSpec("ort", f"passes_{number}", "cpu", path)
            job = describe_job(subject, spec, evaluation, threads)
            named = " and ".join(choices[number]) or "no passes for this machine"
            rivals.append(Rival(Contender(spec, network=f"the file with {named}"), job))
        for generation in range(1, settings.processes + 1):
            _time(rivals, settings, generation, start_worker)
    timed = Timed(choices, rivals, settings.batch_sizes)
    return plans[timed.best()], timed.tried()


def _with_passes(
    options: "ExportOptions", own: Sequence[str], kept: Sequence[str]
) -> "ExportOptions":
    passes = tuple(name for name in options.passes if name not in own or name in kept)
    return replace(options, passes=passes)


def _time(
    rivals: Sequence[Rival], settings: CompareSection, generation: int, start_worker: StartWorker
) -> None:
    """Give all of them new processes, time their rounds and end them."""
    plan = settings.model_copy(
        update={
            "processes": 1,
            "repeat": 1,
            "budget_s": settings.budget_s / settings.processes,
            "boundaries": "host",
        }
    )
    contenders = [rival.contender for rival in rivals]
    try:
        start_rivals(rivals, start_worker)
        for contender in contenders:
            with failures_of(contender):
                contender.result.logits = contender.require_worker().evaluate()
        require_ok(rivals)
        measure_latency(contenders, plan, NullListener(), repeat=generation)
        require_ok(rivals)
    finally:
        for contender in contenders:
            contender.close()


@dataclass(frozen=True)
class Timed:
    """The files, by the passes that they have, the usual one first, and their times."""

    choices: Sequence[tuple[str, ...]]
    rivals: Sequence[Rival]
    batch_sizes: Sequence[int]

    def tried(self) -> tuple[Tried, ...]:
        """Return the speed-up of each over the usual one."""
        return tuple(
            self._tried(number, size)
            for number in range(1, len(self.choices))
            for size in self.batch_sizes
        )

    def best(self) -> int:
        """Return which is to be shipped."""
        gains = {0: 1.0}
        for number in range(1, len(self.choices)):
            found = [self._tried(number, size) for size in self.batch_sizes]
            faster = any(one.low is not None and one.low > 1 for one in found)
            slower = any(one.high is None or one.high < 1 for one in found)
            if faster and not slower:
                gains[number] = prod(one.speedup or 1.0 for one in found)
        return max(gains, key=lambda number: gains[number])

    def _tried(self, number: int, size: int) -> Tried:
        mine, theirs = (
            rival.contender.result.times.blocks.get(MeasurementSeries(size), [])
            for rival in (self.rivals[number], self.rivals[0])
        )
        ratio = paired_ratio(mine, theirs)
        return Tried(
            passes=self.choices[number],
            batch_size=size,
            speedup=ratio.point if ratio else None,
            low=ratio.low if ratio else None,
            high=ratio.high if ratio else None,
        )
