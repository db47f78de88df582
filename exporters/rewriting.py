"""Which passes an export makes over its graph, and that none of them may change its answers."""

from collections.abc import Callable, Sequence

from onnx import ModelProto

from foldbench.bench.errors import ConfigError, ExportError, one_line, root_cause
from foldbench.bench.records import Parity, PassReport, Target
from foldbench.bench.registry import PASSES

ALWAYS = "strip_metadata"
"""Made by every export: a file never tells where its sources lie."""
DEFAULT, NONE = "default", "none"
OTHER_RUNTIMES: tuple[Target, ...] = ("openvino",)
"""Targets besides onnxruntime on the CPU whose files a comparison has rows for there."""

ParityCheck = Callable[[ModelProto], Parity]
"""Says whether a model still gives the right answers."""


def choose_passes(asked: Sequence[str], target: Target, fold_bn: bool) -> tuple[str, ...]:
    """Return the passes to make, in order, for what a configuration asks.

    ``default`` stands for those that are on for `target`; passes for one target alone come last.
    Raises ConfigError for passes that contradict the other settings, and what the registry raises.
    """
    chosen = [ALWAYS]
    for name in asked:
        chosen += _defaults(target, fold_bn) if name == DEFAULT else [name]
    chosen = [name for name in dict.fromkeys(chosen) if name != NONE]
    if "fold_batchnorm" in chosen and not fold_bn:
        raise ConfigError(
            "export.passes: fold_batchnorm contradicts export.fold_bn=false: leave one of them out"
        )
    for name in chosen:
        only = PASSES.load(name).ONLY_FOR
        if only not in (None, target):
            raise ConfigError(
                f"export.passes: {name} makes a file for the target {only} alone, and "
                f"export.target is {target}: give it --target {only}"
            )
    return tuple(sorted(chosen, key=lambda name: PASSES.load(name).ONLY_FOR is not None))


def apply_passes(
    model: ModelProto, names: Sequence[str], check: ParityCheck
) -> tuple[ModelProto, tuple[PassReport, ...]]:
    """Return `model` after the passes, and what each did.

    After each pass that changed something the model is judged. A pass is undone when the answers
    were right before it and are not after it; its report says so. Raises ExportError for a pass
    that fails.
    """
    reports = []
    for name in names:
        try:
            rewritten, report = PASSES.load(name).apply(model)
        except ExportError:
            raise
        except Exception as error:  # whatever a pass trips over, it is that pass
            raise ExportError(
                f"export pass {name!r} failed: {one_line(root_cause(error))}"
            ) from error
        reason = _blame(model, rewritten, check) if report.changed else None
        if reason is not None:
            report = PassReport(name=name, changed=0, detail=f"undone, since after it {reason}")
        elif report.changed:
            model = rewritten
        reports.append(report)
    return model, tuple(reports)


def _defaults(target: Target, fold_bn: bool) -> list[str]:
    return [
        name
        for name in PASSES.names()
        if target in PASSES.load(name).TARGETS and (fold_bn or name != "fold_batchnorm")
    ]


def _blame(before: ModelProto, after: ModelProto, check: ParityCheck) -> str | None:
    """Return what is wrong with the model `after` and was right `before`; None for nothing."""
    verdict = check(after)
    if verdict.passed or not check(before).passed:
        return None
    return verdict.reason
