"""The ablation: the steps from unfolded torch to the shipped file, each a contender.

Unfolded torch, folded torch, what torch.onnx.export gives by itself, the folded network exported
without passes, then one more pass after the other, and quantization where it was made. Passes that
change nothing in the graph at hand are no steps.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from foldbench.bench.errors import ExportError
from foldbench.bench.measure.ablation import BARE, PLAIN
from foldbench.bench.records import Artifact

if TYPE_CHECKING:
    from foldbench.exporters.export import ExportOptions


def plan_ablation(shipped: Artifact, options: "ExportOptions") -> tuple["ExportOptions", ...]:
    """Return how to export the steps before `shipped`, which was exported with `options`.

    Raises ExportError when that did not fold BatchNorm: there are no steps to it.
    """
    if not options.fold_bn:
        raise ExportError(
            "an ablation leads to the folded network, and export.fold_bn is false: leave "
            "--no-fold-bn out, or set export.fold_bn to true"
        )
    always = options.passes[:1]
    effective = tuple(p.name for p in shipped.passes if p.changed and p.name not in always)
    names = [PLAIN, *(_name(effective[:count]) for count in range(len(effective)))]
    return tuple(
        replace(
            options,
            fold_bn=name != PLAIN,
            plain=name == PLAIN,
            passes=always + (effective[: number - 1] if number else ()),
            name=name,
            ladder_step=number,
        )
        for number, name in enumerate(names)
    )


def _name(passes: Sequence[str]) -> str:
    return "+".join((BARE, *passes))
