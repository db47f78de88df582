"""Autotuning: which tactic runs a batch fastest on this machine, found before timing.

The tactics give the same outputs. The plain one stays unless another is clearly faster: in the
median of rounds that time every tactic in turn, and in the fastest block of each as well.
"""

from collections.abc import Mapping, Sequence
from statistics import median

from foldbench.bench.analysis.clean import is_clean
from foldbench.bench.analysis.statistics import RESOLUTION
from foldbench.bench.backends import Floats, Tunable
from foldbench.bench.records import Tactic, Tuning
from foldbench.bench.timing.loop import BlockOptions, Clock, time_block

ROUNDS = 5
"""Blocks of each tactic; with at least three clean ones, the others are left out."""
_CLEAN_ENOUGH = 3
_LONGEST_S = 10.0
"""After that long no fourth round is begun."""
_BLOCK = BlockOptions(calls=1, block_s=0.1, settle_s=0.06)
"""An idle session keeps its threads busy for some 35 ms after its last call: the untimed calls of
the next one outlast that."""


def autotune(
    session: Tunable, batches: Sequence[Floats], clock: Clock, block: BlockOptions = _BLOCK
) -> tuple[Tuning, int]:
    """Select how `session` runs batches of this size; return the result and the calls made.

    `batches` are of one size, (N, C, H, W) float32.
    """
    size = len(batches[0])
    names = session.tactics(size)
    medians_s: dict[str, list[float]] = {name: [] for name in names}
    clean: dict[str, list[bool]] = {name: [] for name in names}
    calls, started = 0, clock()
    for number in range(ROUNDS if len(names) > 1 else 0):
        if number >= _CLEAN_ENOUGH and clock() - started > _LONGEST_S:
            break
        for name in (*names[number % len(names) :], *names[: number % len(names)]):
            session.select_tactic(size, name)
            timed = time_block(session, batches, block, clock)
            calls += timed.settle_calls + len(timed.samples_s)
            medians_s[name].append(median(timed.samples_s))
            clean[name].append(is_clean(timed.interference.run_delay_ratio))
    chosen = choose_tactic(medians_s, clean)
    session.select_tactic(size, chosen)
    tactics = tuple(Tactic(name=name, medians_s=tuple(found)) for name, found in medians_s.items())
    return Tuning(batch_size=size, chosen=chosen, ways=tactics), calls


def choose_tactic(
    medians_s: Mapping[str, Sequence[float]], clean: Mapping[str, Sequence[bool]]
) -> str:
    """Return the fastest tactic if it beats the first by more than RESOLUTION, else the first.

    `medians_s` holds the seconds of each round for each tactic, `clean` whether nothing else ran.
    """
    plain, *others = medians_s
    best, best_ratio = plain, 1 - RESOLUTION
    for name in others:
        rounds = [n for n in range(len(clean[name])) if clean[name][n] and clean[plain][n]]
        if len(rounds) < _CLEAN_ENOUGH:
            rounds = list(range(len(clean[name])))
        candidate, baseline = ([medians_s[tactic][n] for n in rounds] for tactic in (name, plain))
        typical = median([a / b for a, b in zip(candidate, baseline, strict=True)])
        ratio = max(typical, min(candidate) / min(baseline))
        if ratio < best_ratio:
            best, best_ratio = name, ratio
    return best
