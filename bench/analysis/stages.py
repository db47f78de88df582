"""What each stage takes of the way from an image file to its class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from foldbench.bench.analysis.estimates import Ratio, Verdict, judge, median_or_none
from foldbench.bench.analysis.ratios import paired_ratio
from foldbench.bench.records import Block, Measurement, StageBlock, StageSeries
from foldbench.bench.samples.calling import STAGES, STAGES_INSIDE
from foldbench.bench.samples.timing import is_clean


@dataclass(frozen=True)
class StageRow:
    """One contender's way: the whole, and the median of each stage, seconds."""

    contender: str
    inside: bool
    """Whether its graph has the preprocessing."""
    whole_s: float | None
    stages_s: Mapping[str, float | None]
    """By the stage's name, in order."""
    before: Ratio | None
    """How many times as long everything before the network takes as the network."""
    gain: Ratio | None
    """How many times as fast the whole way is with the preprocessing inside, in the same rounds."""
    verdict: Verdict | None
    """Of the gain."""
    reason: str | None


def stage_rows(m: Measurement) -> list[StageRow]:
    """Return a row for each way of a contender; none where it was not timed."""
    series = m.as_called.stages if m.as_called else ()
    return [_row(m.contender, one, series[0]) for one in series]


def _row(contender: str, one: StageSeries, outside: StageSeries) -> StageRow:
    names = STAGES_INSIDE if one.inside else STAGES
    network = names.index("infer")
    blocks = [b for b in one.blocks if is_clean(b.run_delay_ratio)] or one.blocks
    parts = [[s for b in blocks for s in b.parts_s[i]] for i in range(len(names))]
    gain = paired_ratio(one.blocks, outside.blocks) if one.inside else None
    return StageRow(
        contender=contender,
        inside=one.inside,
        whole_s=median_or_none([s for b in blocks for s in b.samples_s]),
        stages_s=dict(zip(names, map(median_or_none, parts), strict=True)),
        before=paired_ratio(_only(one.blocks, (network,)), _only(one.blocks, range(network))),
        gain=gain,
        verdict=judge(gain, 0.0) if gain else None,
        reason=one.reason,
    )


def _only(blocks: Sequence[StageBlock], stages: Sequence[int]) -> list[Block]:
    """Return blocks whose samples are the sums of some stages."""
    return [
        replace(b, samples_s=tuple(map(sum, zip(*(b.parts_s[i] for i in stages), strict=True))))
        for b in blocks
    ]
