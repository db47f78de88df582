"""The steps of an ablation, found among what was measured."""

from collections.abc import Sequence

from foldbench.bench.records import AblationStep, Artifact, Measurement

PLAIN = "plain"
BARE = "bare"
_TEXTS = {
    "unfolded": "torch, as trained",
    "folded": "BatchNorm folded",
    PLAIN: "torch.onnx.export by itself",
    BARE: "folded, then exported",
}


def ablation_of(
    measurements: Sequence[Measurement], artifacts: Sequence[Artifact]
) -> tuple[AblationStep, ...]:
    """Return the steps among `measurements`, in order.

    Torch, then files for the target of the ablation in onnxruntime: pass by pass, what is shipped,
    and what was made of it in lower precision.
    """
    made = {a.variant: a for a in artifacts}
    target = next((a.target for a in artifacts if a.ladder_step is not None), None)
    steps: list[tuple[tuple[int, ...], AblationStep]] = []
    for m in measurements:
        artifact = made.get(m.variant) if m.backend == "ort" else None
        if m.role != "contender" or (m.backend != "torch" and artifact is None):
            continue
        if artifact is not None and artifact.target != target:
            continue
        passes = [p.name for p in artifact.passes if p.changed][1:] if artifact else []
        step = AblationStep(contender=m.contender, what=_describe(m, passes))
        steps.append((_rank(m, artifact), step))
    return tuple(step for _, step in sorted(steps, key=lambda found: found[0]))


def _rank(m: Measurement, artifact: Artifact | None) -> tuple[int, ...]:
    """Return what puts steps in order: torch, the steps, what is shipped, lower precision."""
    if artifact is None:
        return (0,)
    shipped = artifact.ladder_step is None
    return (1, m.precision != "float32", shipped, artifact.ladder_step or 0)


def _describe(m: Measurement, passes: Sequence[str]) -> str:
    if m.backend == "torch" or m.variant in (PLAIN, BARE):
        return _TEXTS[m.variant]
    if m.precision != "float32":
        return f"in {m.precision}"
    return f"+ pass {passes[-1]}" if passes else _TEXTS[BARE]
