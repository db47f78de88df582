"""Warnings about the files that were exported."""

from collections.abc import Iterator, Mapping

from foldbench.bench import units
from foldbench.bench.analysis.advice.rule import Advice, Number, Rule, about
from foldbench.bench.analysis.estimates import judge
from foldbench.bench.analysis.speedups import completed, measure_step
from foldbench.bench.records import GIVEN, PLAIN, Artifact, Measurement, Run


def _folded(run: Run) -> list[Artifact]:
    return [a for a in run.artifacts if a.variant.startswith(("folded", "optimized"))]


def _find_parity_failed(run: Run, kind: str) -> Iterator[Advice]:
    for artifact in run.artifacts:
        if not artifact.parity.passed:
            reason = artifact.parity.reason or "no reason was recorded"
            yield Advice(kind, artifact.variant, None, 0.0, {"reason": reason})


def _find_fold_without_effect(run: Run, kind: str) -> Iterator[Advice]:
    for artifact in _folded(run):
        if artifact.fold.batchnorms_before == 0 and not artifact.fold.others:
            yield Advice(kind, artifact.variant)


def _find_folded_by_exporter(run: Run, kind: str) -> Iterator[Advice]:
    for artifact in run.artifacts:
        if "exporter" in artifact.folded_by and artifact.ladder_step is None:
            yield Advice(kind, artifact.variant, None, 0.0, {"exporter": artifact.exporter})


def _find_batchnorm_left(run: Run, kind: str) -> Iterator[Advice]:
    for artifact in _folded(run):
        left = max(artifact.fold.batchnorms_after, artifact.batchnorm_nodes)
        if left:
            stayed = (skip for skip in artifact.fold.skipped if skip.kind == "batchnorm")
            skips = (f"{skip.module}: {skip.reason}" for skip in stayed)
            reason = next(skips, "no reason was recorded")
            yield Advice(kind, artifact.variant, None, left, {"left_count": left, "reason": reason})


def _find_made_for_cpu(run: Run, kind: str) -> Iterator[Advice]:
    made_for = {a.sha256: a.target for a in run.artifacts if a.variant not in (GIVEN, PLAIN)}
    for m in completed(run):
        target = made_for.get(m.source_sha256 or "")
        if target == "cpu" and m.requested_device != "cpu":
            yield Advice(kind, m.contender, None, 0.0, {"device": m.requested_device})


def _find_budget_exceeded(run: Run, kind: str) -> Iterator[Advice]:
    for artifact in run.artifacts:
        report = artifact.quantization
        if report and not report.within_budget:
            numbers = {"reason": report.reason or "no reason was recorded"}
            yield Advice(kind, artifact.variant, None, report.closeness.drop_points(), numbers)


def _find_drop_on_test(run: Run, kind: str) -> Iterator[Advice]:
    by_sha256 = {artifact.sha256: artifact for artifact in run.artifacts}
    for m in completed(run):
        artifact = by_sha256.get(m.source_sha256 or "")
        before = _in_float32(run, m, artifact, by_sha256) if artifact else None
        if not (artifact and artifact.quantization and before and before.accuracy and m.accuracy):
            continue
        allowed_ratio = artifact.quantization.max_drop_points / 100
        correct = m.accuracy.correct
        if before.accuracy.correct is None or correct is None:
            continue
        drop_ratio = (before.accuracy.correct - correct) / m.accuracy.total
        if drop_ratio > allowed_ratio:
            numbers: dict[str, Number] = {
                "drop_ratio": drop_ratio,
                "allowed_ratio": allowed_ratio,
                "training_ratio": artifact.quantization.closeness.drop_points() / 100,
                "before": before.contender,
            }
            yield Advice(kind, m.contender, None, drop_ratio, numbers)


def _find_no_gain(run: Run, kind: str) -> Iterator[Advice]:
    """Find rows in lower precision that are not faster than the float32 row beside them."""
    by_sha256 = {artifact.sha256: artifact for artifact in run.artifacts}
    for m in completed(run):
        artifact = by_sha256.get(m.source_sha256 or "")
        if artifact is None or artifact.quantization is None:
            continue
        before = _in_float32(run, m, artifact, by_sha256)
        if before is None or before.contender == run.reference:
            continue
        for timing in m.timings:
            ratio = measure_step(run, before, m, timing.batch_size)
            if ratio and timing.boundary == "host" and judge(ratio, 0.0) not in (None, "faster"):
                numbers: dict[str, Number] = {
                    "before": before.contender,
                    "speedup_count": units.ratio(ratio.point),
                }
                yield about(kind, m, timing, 1 / ratio.point, numbers)


def _in_float32(
    run: Run, m: Measurement, artifact: Artifact, by_sha256: Mapping[str, Artifact]
) -> Measurement | None:
    """Return the row of the float32 file that an artifact was made from; else the reference."""
    source: Artifact | None = artifact
    while source is not None and source.quantization is not None:
        source = by_sha256.get(source.quantization.source_sha256)
    same = (
        other
        for other in completed(run)
        if source is not None
        and other.source_sha256 == source.sha256
        and (other.backend, other.requested_device) == (m.backend, m.requested_device)
    )
    reference = (other for other in completed(run) if other.contender == run.reference)
    return next(same, None) or next(reference, None)


EXPORT_RULES: Mapping[str, Rule] = {
    "parity_failed": Rule(
        "export",
        _find_parity_failed,
        "{where}: the .onnx file does not compute what the checkpoint computes: {reason}. Do not "
        "use it, and do not read its speed as the network's.",
    ),
    "fold_without_effect": Rule(
        "export",
        _find_fold_without_effect,
        "The network has no BatchNorm, so folding changed nothing: a difference in speed between "
        "folded and unfolded rows is noise, and shows how much of it there is. "
        "Read the unfolded rows.",
    ),
    "folded_by_exporter": Rule(
        "export",
        _find_folded_by_exporter,
        "{where}: the exporter ({exporter}) folded BatchNorm by itself, so this file does not show "
        "what foldbench's folding gains. Compare folded with unfolded in torch instead.",
    ),
    "batchnorm_left": Rule(
        "export",
        _find_batchnorm_left,
        "{where}: {left_count} BatchNorm left after folding ({reason}). The gain of folding is "
        "partial: put each BatchNorm right after the only layer that feeds it.",
    ),
    "made_for_cpu": Rule(
        "agreement",
        _find_made_for_cpu,
        "{where}: its file was exported for the CPU, and what is faster there may be slower on "
        "{device}. Export one for it: bench export --target {device}.",
    ),
    "budget_exceeded": Rule(
        "export",
        _find_budget_exceeded,
        "{where}: {reason}. It is not benchmarked. Allow more (--max-drop), find ranges with more "
        "images (--calibration-images), or stay with float32.",
    ),
    "no_gain": Rule(
        "latency",
        _find_no_gain,
        "{where}: in lower precision, and no faster than {before} in float32 beside it "
        "({speedup_count} times as fast): nothing is gained here. Ship {before}.",
    ),
    "drop_on_test": Rule(
        "accuracy",
        _find_drop_on_test,
        "{where}: {drop_ratio} of the test images fewer are right than in {before}, while "
        "{allowed_ratio} is allowed; of the training images it was {training_ratio}. A network "
        "knows its training images too well to tell: hold some out (train.validation_fraction), or "
        "export with a smaller --max-drop.",
    ),
}
