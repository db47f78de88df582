"""Which passes for this machine are kept, going by what files without some of them took."""

from pathlib import Path

import pytest

import builders as B
from foldbench.bench.config.export import ExportSection
from foldbench.bench.errors import ConfigError
from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.measure.gating import Rival
from foldbench.bench.measure.running import Contender
from foldbench.bench.measure.series import MeasurementSeries
from foldbench.bench.records import Block, PassReport
from foldbench.bench.stages.measured_passes import Timed, choices_of, refuse_other_targets
from foldbench.bench.workers.protocol import Job

CHOICES = [("fuse_elementwise", "nchwc_strip"), ("fuse_elementwise",), ("nchwc_strip",), ()]


def rival(seconds: dict[int, list[float]]) -> Rival:
    """Return a file with the times of one round in each process, by batch size."""
    contender = Contender(ContenderSpec("ort", "file", "cpu"))
    for size, times in seconds.items():
        contender.result.times.blocks[MeasurementSeries(size)] = [
            Block(round=n, process=n, samples_s=(time,), run_delay_ratio=0.0)
            for n, time in enumerate(times)
        ]
    path = Path("file.onnx")
    return Rival(contender, Job("ort", "cpu", 1, "file", path, path, path, (0.5,), (0.5,), 2, 1))


def times(factor: float, spread: float = 0.01) -> list[float]:
    return [factor * (1 + sign * spread) for sign in (1, -1, 0.5, -0.5)]


USUAL = {1: times(1.0, 0.0), 8: times(8.0, 0.0)}


@pytest.mark.parametrize(
    ("others", "best"),
    [
        ([{1: times(0.8), 8: times(8)}, {1: times(0.9), 8: times(8)}, USUAL], 1),
        ([{1: times(0.98, 0.2), 8: times(8)}, USUAL, USUAL], 0),
        ([{1: times(0.5), 8: times(9)}, USUAL, {1: times(0.9), 8: times(7)}], 3),
        ([USUAL, {1: times(0.5)}, USUAL], 0),
    ],
    ids=["the fastest", "within the interval", "slower at another batch size", "not timed"],
)
def test_the_fastest_is_kept_where_it_is_so_beyond_the_interval(
    others: list[dict[int, list[float]]], best: int
) -> None:
    timed = Timed(CHOICES, [rival(seconds) for seconds in (USUAL, *others)], (1, 8))
    assert timed.best() == best


def test_all_that_was_tried_is_told_over_the_usual_file() -> None:
    others = [{1: times(0.8)}, {1: times(1.25)}, {}]
    timed = Timed(CHOICES, [rival(seconds) for seconds in (USUAL, *others)], (1,))
    tried = timed.tried()
    assert [(one.passes, one.batch_size) for one in tried] == [(kept, 1) for kept in CHOICES[1:]]
    assert [one.speedup for one in tried[:2]] == pytest.approx([1.25, 0.8], rel=1e-3)
    assert tried[2].speedup is None


def test_only_passes_for_this_machine_that_changed_something_are_chosen_among() -> None:
    done = [
        PassReport(name=name, changed=changed, detail="")
        for name, changed in (("mish", 3), ("fuse_elementwise", 2), ("nchwc_strip", 0))
    ]
    artifact = B.make_artifact("folded.host", passes=tuple(done))
    assert choices_of(artifact) == [("fuse_elementwise",), ()]


def test_other_targets_are_refused() -> None:
    refuse_other_targets(ExportSection(measure=True, target="host"))
    with pytest.raises(ConfigError, match="target is cpu: give it --target host"):
        refuse_other_targets(ExportSection(measure=True))
