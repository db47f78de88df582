"""What each stage takes of the way from an image file to its class."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from foldbench.bench.analysis.estimates import Ratio, median_or_none
from foldbench.bench.analysis.ratios import paired_ratio
from foldbench.bench.records import Block, Measurement, StageBlock
from foldbench.bench.samples.calling import STAGES
from foldbench.bench.samples.timing import is_clean

_NETWORK = STAGES.index("infer")


@dataclass(frozen=True)
class StageRow:
    """One contender's way: the whole, and the median of each stage, seconds."""

    contender: str
    whole_s: float | None
    stages_s: tuple[float | None, ...]
    before: Ratio | None
    """How many times as long everything before the network takes as the network."""
    reason: str | None


def stage_row(m: Measurement) -> StageRow | None:
    """Return the row of a contender, None where its way was not timed."""
    series = m.as_called.stages if m.as_called else None
    if series is None:
        return None
    blocks = [b for b in series.blocks if is_clean(b.run_delay_ratio)] or series.blocks
    parts = [[s for b in blocks for s in b.parts_s[i]] for i in range(len(STAGES))]
    return StageRow(
        contender=m.contender,
        whole_s=median_or_none([s for b in blocks for s in b.samples_s]),
        stages_s=tuple(median_or_none(part) for part in parts),
        before=paired_ratio(
            _only(series.blocks, (_NETWORK,)), _only(series.blocks, range(_NETWORK))
        ),
        reason=series.reason,
    )


def _only(blocks: Sequence[StageBlock], stages: Sequence[int]) -> list[Block]:
    """Return blocks whose samples are the sums of some stages."""
    return [
        replace(b, samples_s=tuple(map(sum, zip(*(b.parts_s[i] for i in stages), strict=True))))
        for b in blocks
    ]
