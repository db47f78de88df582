"""Compare a run: accuracy and latency of its contenders, stored with the report."""

from collections.abc import Sequence

from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.images.loading import load_data, refuse_other_classes
from foldbench.bench.machine.environment import choose_threads, describe_environment
from foldbench.bench.machine.interference import measure_foreign_load
from foldbench.bench.measure.ablation import ablation_of
from foldbench.bench.measure.comparison import compare
from foldbench.bench.measure.contenders import (
    REFERENCE,
    ContenderSpec,
    Subject,
    devices_of,
    list_contenders,
    list_self_checks,
)
from foldbench.bench.measure.evaluation import prepare_evaluation
from foldbench.bench.measure.resume import describe_opening, measure_or_go_on, now
from foldbench.bench.measure.roofline import measure_peak_throughput, product_kinds
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Run
from foldbench.bench.stages.export import export_ablation
from foldbench.bench.stages.report import store_comparison
from foldbench.bench.stages.settings import settings_of
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.timing.scenarios import require_loadgen


def compare_run(
    run: RunDirectory,
    overrides: Sequence[str],
    paths: Paths,
    listener: ProgressListener,
    command: Sequence[str] = (),
    ablation: bool = False,
    fresh: bool = False,
) -> Run:
    """Measure the run's contenders and store the record and the report in the run.

    With `ablation`, the steps on the way to what is shipped are exported and compared too. An
    interrupted comparison goes on where it stopped, unless `fresh`.
    """
    checkpoint = run.checkpoint()
    config = settings_of(run, checkpoint, overrides)
    settings = config.compare
    if settings.loadgen.scenarios:
        require_loadgen()
    data = load_data(config.data, paths.cache, listener)
    refuse_other_classes(checkpoint, data)
    if ablation:
        export_ablation(run, overrides, paths, listener)
    threads = choose_threads(settings.threads, "compare.threads")
    environment = describe_environment()
    foreign_load_cores = measure_foreign_load()
    with run.locked(), prepare_evaluation(config.evaluate, data.test) as (evaluation, sha256):
        subject = Subject(run.path, checkpoint, run.artifacts(), ablation)
        contenders = _contenders_of(subject, settings, threads)
        throughput = None
        if settings.arithmetic:
            kinds = product_kinds(contenders)
            throughput = measure_peak_throughput(checkpoint, run.path, kinds, threads, listener)
        planned = Run(
            name=run.name,
            created=now(),
            config=config.model_dump(mode="json"),
            environment=environment,
            command=tuple(command),
            checkpoint=checkpoint,
            artifacts=subject.artifacts,
            data=data.info,
            evaluation_protocol=evaluation.protocol,
            evaluation_sha256=sha256,
            labels=None if evaluation.labels is None else tuple(evaluation.labels.tolist()),
            rounds=settings.rounds,
            budget_s=settings.budget_s,
            foreign_load_cores=foreign_load_cores,
            arithmetic=throughput,
            reference=REFERENCE,
            measurements=(),
        )
        measurements, resumed = measure_or_go_on(
            run,
            describe_opening(planned, subject, contenders, threads),
            contenders,
            lambda rows: compare(subject, rows, evaluation, settings, threads, listener),
            listener,
            fresh,
        )
        steps = ablation_of(measurements, subject.artifacts) if ablation else ()
        found = {"created": now(), "measurements": measurements, "ladder": steps}
        record = planned.model_copy(update={**found, "resumed": resumed})
        store_comparison(run, record, listener)
    return record


def _contenders_of(subject: Subject, settings: CompareSection, threads: int) -> list[ContenderSpec]:
    contenders = list_contenders(subject, settings.backends, devices_of(settings.devices))
    if settings.self_checks and not settings.loadgen.scenarios:
        contenders += list_self_checks(contenders, threads)
    return contenders
