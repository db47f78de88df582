"""The steps of an ablation, found among what was measured."""

from collections.abc import Mapping, Sequence

from foldbench.bench.records import GIVEN, PLAIN, AblationStep, Artifact, Measurement, Target

BARE, BATCHNORM = "bare", "batchnorm"
"""Steps without passes: all that is linear folded, and BatchNorm and other scales alone."""
_FIRST = (PLAIN, GIVEN)
"""Steps that are for any target."""
_NO_STEP = "strip_metadata"
"""The pass that every export makes."""
_TEXTS = {
    "unfolded": "torch, as trained",
    "folded": "BatchNorm folded",
    PLAIN: "torch.onnx.export by itself",
    GIVEN: "the file as it was given",
    BARE: "folded, then exported",
    BATCHNORM: "BatchNorm and scales folded, then exported",
}
_BEYOND = {"folded": "everything linear folded", BARE: "+ everything linear folded"}
"""The texts where more than BatchNorm and scales was folded."""


def folds_beyond_batchnorm(artifact: Artifact) -> bool:
    """Return whether folding went on after BatchNorm and other scales."""
    return any(fold.kind in ("branches", "chain") for fold in artifact.fold.others)


def ablation_of(
    measurements: Sequence[Measurement], artifacts: Sequence[Artifact]
) -> tuple[AblationStep, ...]:
    """Return the steps among `measurements`, in order.

    Torch, then files for the target of the ablation in onnxruntime: pass by pass, what is shipped,
    and what was made of it in lower precision.
    """
    made = {a.variant: a for a in artifacts}
    texts = {**_TEXTS, **(_BEYOND if any(map(folds_beyond_batchnorm, artifacts)) else {})}
    target = _target(artifacts)
    steps: list[tuple[tuple[int, ...], AblationStep]] = []
    for m in measurements:
        artifact = made.get(m.variant) if m.backend == "ort" else None
        if m.role != "contender" or (m.backend != "torch" and artifact is None):
            continue
        if artifact is not None and not _is_step(artifact, target):
            continue
        passes = [p.name for p in artifact.passes if p.changed] if artifact else []
        passes = [name for name in passes if name != _NO_STEP]
        step = AblationStep(contender=m.contender, what=_describe(m, passes, texts))
        steps.append((_rank(m, artifact), step))
    return tuple(step for _, step in sorted(steps, key=lambda found: found[0]))


def _target(artifacts: Sequence[Artifact]) -> Target | None:
    """Return what the steps are for; where there are none, what the file that is shipped is for."""
    steps = [a for a in artifacts if a.ladder_step]
    shipped = [a for a in artifacts if a.ladder_step is None and _leads_to_it(a)]
    return next((a.target for a in steps + shipped), None)


def _is_step(artifact: Artifact, target: Target | None) -> bool:
    if artifact.variant in _FIRST:
        return True
    return artifact.target == target and _leads_to_it(artifact)


def _leads_to_it(artifact: Artifact) -> bool:
    """Return whether it is a step; a file that keeps its BatchNorm is none, nor a given one."""
    return not artifact.variant.startswith("unfolded") and artifact.variant != GIVEN


def _rank(m: Measurement, artifact: Artifact | None) -> tuple[int, ...]:
    """Return what puts steps in order: torch, the steps, what is shipped, lower precision."""
    if artifact is None:
        return (0,)
    shipped = artifact.ladder_step is None and m.variant != GIVEN
    return (1, m.precision != "float32", shipped, artifact.ladder_step or 0)


def _describe(m: Measurement, passes: Sequence[str], texts: Mapping[str, str]) -> str:
    if m.backend == "torch" or m.variant in (*_FIRST, BARE, BATCHNORM):
        return texts[m.variant]
    if m.precision != "float32":
        return f"in {m.precision}"
    return f"+ pass {passes[-1]}" if passes else texts[BARE]
