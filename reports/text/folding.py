"""What folding did besides BatchNorm, in words."""

from collections import Counter
from collections.abc import Mapping

from foldbench.bench import units
from foldbench.bench.records import FoldKind, FoldReport

_KINDS: Mapping[FoldKind, tuple[str, str]] = {
    "branches": ("parallel branch", "parallel branches"),
    "scale": ("scale or shift", "scales and shifts"),
    "chain": ("layer into the next one", "layers into the next one"),
    "constant": ("layer with computed weights", "layers with computed weights"),
    "unused": ("layer that nobody reads", "layers that nobody reads"),
}


def tell_folds(report: FoldReport) -> str:
    """Return how many things of each kind were folded; empty where it was BatchNorm alone."""
    found = Counter(other.kind for other in report.others)
    return ", ".join(
        f"{units.count(found[kind])} {words[found[kind] != 1]}"
        for kind, words in _KINDS.items()
        if found[kind]
    )


def tell_cost(report: FoldReport) -> str:
    """Return operations and parameters before and after; empty where neither changed."""
    before, after = report.cost_before, report.cost_after
    if before is None or after is None or before == after:
        return ""
    flops = [units.mega(cost.flops_per_image) for cost in (before, after)]
    parameters = [units.count(cost.parameters) for cost in (before, after)]
    return (
        f"{flops[0]} \u2192 {flops[1]} MFLOP an image in its layers, "
        f"{parameters[0]} \u2192 {parameters[1]} parameters"
    )
