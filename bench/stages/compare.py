"""Compare runs: accuracy and latency of their contenders, stored with the reports."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from foldbench.bench import units
from foldbench.bench.analysis.between_comparisons import with_between_comparisons
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.config.schema import Config
from foldbench.bench.errors import ConfigError, DataError, listed, nearest
from foldbench.bench.images.classes import match_classes
from foldbench.bench.images.folders import CIFAR10_CLASSES
from foldbench.bench.images.image_set import ImageSet
from foldbench.bench.images.loading import load_data
from foldbench.bench.machine.environment import choose_thread_counts, describe_environment
from foldbench.bench.machine.interference import measure_foreign_load
from foldbench.bench.measure.ablation import ablation_of
from foldbench.bench.measure.calling.stages import image_files
from foldbench.bench.measure.comparison import Entry, compare_together
from foldbench.bench.measure.contenders import (
    ContenderSpec,
    Subject,
    devices_of,
    list_contenders,
    list_self_checks,
    with_runtimes,
    with_threads,
)
from foldbench.bench.measure.evaluation import Evaluation, prepare_evaluation, same_labels
from foldbench.bench.measure.resume import Part, describe_opening, measure_or_resume, now
from foldbench.bench.measure.roofline import measure_peak_throughput, product_kinds
from foldbench.bench.measure.running import Contender
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Measurement, Run
from foldbench.bench.stages.export import export_ablation
from foldbench.bench.stages.report import earlier_comparisons, store_comparison
from foldbench.bench.stages.settings import settings_of
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.store.files import json_sha256
from foldbench.bench.timing.scenarios import require_loadgen


def compare_run(
    run: RunDirectory,
    overrides: Sequence[str],
    paths: Paths,
    listener: ProgressListener,
    command: Sequence[str] = (),
    ablation: bool = False,
    fresh: bool = False,
    not_exported: Mapping[str, str] | None = None,
) -> Run:
    """Measure one run; see `compare_runs`."""
    return compare_runs([run], overrides, paths, listener, command, ablation, fresh, not_exported)[
        0
    ]


@dataclass(frozen=True)
class _Network:
    """One of the networks, with all that its comparison needs."""

    run: RunDirectory
    config: Config
    data: ImageSet
    subject: Subject
    evaluation: Evaluation
    evaluation_sha256: str
    specs: Sequence[ContenderSpec]


def compare_runs(
    runs: Sequence[RunDirectory],
    overrides: Sequence[str],
    paths: Paths,
    listener: ProgressListener,
    command: Sequence[str] = (),
    ablation: bool = False,
    fresh: bool = False,
    not_exported: Mapping[str, str] | None = None,
) -> list[Run]:
    """Measure the runs' contenders in the same rounds; store record and report in each run.

    With `ablation`, the steps on the way to what is shipped are exported and compared too. An
    interrupted comparison is resumed where it stopped, unless `fresh`. `not_exported` says by the
    names of runs why one could not be exported. Raises DataError for runs that are tested on
    different images.
    """
    with ExitStack() as stack:
        reasons = not_exported or {}
        networks = [
            _open_network(run, overrides, paths, listener, ablation, stack, reasons.get(run.name))
            for run in runs
        ]
        _refuse_other_images(networks)
        settings = _settings_of(networks)
        if settings.interval:
            listener.note("compare.interval is not used any more: all rounds are made")
        threads = choose_thread_counts(settings.thread_counts, "compare.threads")[0]
        planned = _plan_records(networks, settings, threads, command, listener)
        together = [network.subject.checkpoint.sha256 for network in networks]
        parts = [
            Part(
                network.run,
                describe_opening(
                    record,
                    network.subject,
                    network.specs,
                    threads,
                    together if len(networks) > 1 else (),
                ),
                network.specs,
                network.subject.baseline,
            )
            for network, record in zip(networks, planned, strict=True)
        ]

        def measure(
            contenders: Sequence[Sequence[Contender]],
        ) -> Sequence[tuple[Measurement, ...]]:
            entries = [
                Entry(network.subject, rows, network.evaluation)
                for network, rows in zip(networks, contenders, strict=True)
            ]
            return compare_together(entries, settings, threads, listener)

        measured = measure_or_resume(parts, measure, listener, fresh)
        records = []
        for network, record, (rows, resumed) in zip(networks, planned, measured, strict=True):
            steps = ablation_of(rows, network.subject.artifacts) if ablation else ()
            found = {"created": now(), "measurements": rows, "ladder": steps, "resumed": resumed}
            record = record.model_copy(update=found)
            record = with_between_comparisons(record, earlier_comparisons(network.run, listener))
            store_comparison(network.run, record, listener)
            records.append(record)
    return records


def _open_network(
    run: RunDirectory,
    overrides: Sequence[str],
    paths: Paths,
    listener: ProgressListener,
    ablation: bool,
    stack: ExitStack,
    not_exported: str | None,
) -> _Network:
    """Read what is to be compared of a run, and hold the run from here on."""
    checkpoint = run.checkpoint()
    config = settings_of(run, checkpoint, overrides)
    settings = config.compare
    if settings.loadgen.scenarios:
        require_loadgen()
    if settings.calling.stages is not None:
        image_files(Path(settings.calling.stages))  # before anything is measured
    config = _without_calibration(run, config, listener)
    data = load_data(config.data, paths.cache, listener, needs_train=False)
    data = match_classes(checkpoint.classes, data, listener, checkpoint.class_ids)
    config = _clean_for_own_images(config, data, overrides, listener)
    if ablation:
        export_ablation(run, overrides, paths, listener)
    stack.enter_context(run.locked())
    prepared = prepare_evaluation(config.evaluate, data.test)
    evaluation, sha256 = stack.enter_context(prepared)
    way = _split_reference(settings.reference)[1]
    subject = Subject(run.path, checkpoint, run.artifacts(), ablation, way, not_exported)
    specs = list_contenders(subject, settings.backends, devices_of(settings.devices))
    specs = with_runtimes(specs, paths.cache, settings.offline, listener)
    if way is not None:
        _refuse_unknown_baseline(way, specs)
    counts = choose_thread_counts(settings.thread_counts, "compare.threads")
    checks = []
    if settings.self_checks and not settings.loadgen.scenarios:
        checks = list_self_checks(specs, subject.baseline, counts[0])
    if 1 in counts:
        checks = [spec for spec in checks if spec.role != "one_thread"]
    specs = [*with_threads(specs, counts), *checks]
    _note_missing(specs, listener)
    return _Network(run, config, data, subject, evaluation, sha256, specs)


def _clean_for_own_images(
    config: Config, data: ImageSet, overrides: Sequence[str], listener: ProgressListener
) -> Config:
    """Return `config` with the clean protocol where the homework's is not asked for by itself.

    The homework's flips and crops of test images belong to its own data.
    """
    said = any(text.startswith(("evaluate.protocol=", "evaluate={")) for text in overrides)
    its_own = set(data.info.classes) == set(CIFAR10_CLASSES) or data.info.name == "oxford_pets"
    if config.evaluate.protocol != "homework" or said or its_own:
        return config
    listener.note(
        f"{data.info.title} is not the homework's data: test images are neither flipped nor "
        "cropped at random (--protocol homework does so)"
    )
    evaluate = config.evaluate.model_copy(update={"protocol": "clean"})
    return config.model_copy(update={"evaluate": evaluate})


def _without_calibration(run: RunDirectory, config: Config, listener: ProgressListener) -> Config:
    """Return `config` with the test images left out that a file of the run was calibrated on."""
    made = [a.quantization for a in run.artifacts() if a.quantization is not None]
    share = max((one.calibration_share for one in made), default=0.0)
    if not share or config.data.calibration_share == share:
        return config
    listener.note(
        f"{run.name}: a file in lower precision was made with {units.percent(share)} % of the test "
        "images, which are not tested on"
    )
    data = config.data.model_copy(update={"calibration_share": share})
    return config.model_copy(update={"data": data})


def _note_missing(specs: Sequence[ContenderSpec], listener: ProgressListener) -> None:
    """Say before anything is timed which rows will not run, each reason once."""
    names: dict[str, list[str]] = {}
    for spec in specs:
        if spec.reason is not None:
            names.setdefault(spec.reason, []).append(spec.name)
    for reason, rows in names.items():
        listener.note(f"{listed(rows, 5)}: {reason}")


def _split_reference(asked: str | None) -> tuple[str | None, str | None]:
    """Return network and way of ``RUN:BACKEND/VARIANT``, ``RUN`` or ``BACKEND/VARIANT``."""
    if asked is None:
        return None, None
    network, colon, way = asked.partition(":")
    if colon and "/" in way:
        return network, way
    return (None, asked) if "/" in asked else (asked, None)


def _reference_network(networks: Sequence[_Network], asked: str | None) -> str | None:
    """Return the name of the run that other networks are held against; None for a single one."""
    name = _split_reference(asked)[0]
    known = {n.run.name: n.run.name for n in networks}
    known = {n.run.config_name: n.run.name for n in networks} | known
    if name is not None and name not in known:
        raise ConfigError(
            f"compare.reference: {name!r} is none of the networks{nearest(name, known)} "
            f"(networks: {', '.join(n.run.name for n in networks)})"
        )
    if len(networks) == 1:
        return None
    return known[name] if name else networks[0].run.name


def _refuse_unknown_baseline(asked: str, specs: Sequence[ContenderSpec]) -> None:
    known = list(dict.fromkeys(spec.way for spec in specs if spec.status == "ok"))
    if asked not in known:
        raise ConfigError(
            f"compare.reference: there is no contender {asked!r}{nearest(asked, known)} "
            f"(contenders: {', '.join(known)})"
        )


def _refuse_other_images(networks: Sequence[_Network]) -> None:
    """Raise DataError unless all networks are tested on the same images with the same labels."""
    first = networks[0]
    for other in networks[1:]:
        names = first.run.name, other.run.name
        infos = first.data.info, other.data.info
        if not same_labels(first.evaluation, other.evaluation):
            what = f"labels of {first.evaluation.count} and {other.evaluation.count}"
        elif infos[0].test_files_sha256 != infos[1].test_files_sha256:
            what = f"files of {infos[0].title} and {infos[1].title}"
        elif infos[0].test_files_sha256 is None and infos[0].name != infos[1].name:
            what = f"data sets {infos[0].name} and {infos[1].name}"
        else:
            continue
        raise DataError(
            f"{names[0]} and {names[1]} are tested on different images ({what}): give both the "
            "same with --data, or compare them one at a time"
        )


def _settings_of(networks: Sequence[_Network]) -> CompareSection:
    """Return how to measure: as the first network says, with a budget for each of them."""
    settings = networks[0].config.compare
    return settings.model_copy(update={"budget_s": settings.budget_s * len(networks)})


def _plan_records(
    networks: Sequence[_Network],
    settings: CompareSection,
    threads: int,
    command: Sequence[str],
    listener: ProgressListener,
) -> list[Run]:
    """Return the records without rows: what is known before anything is measured."""
    environment = describe_environment()
    foreign_load_cores = measure_foreign_load()
    created = now()
    group = json_sha256([created, *(str(network.run.path.resolve()) for network in networks)])
    reference_network = _reference_network(networks, settings.reference)
    records = []
    for network in networks:
        subject = network.subject
        throughput = None
        if settings.arithmetic:
            from foldbench.exporters.explaining import count_file

            kinds = product_kinds(network.specs)
            throughput = measure_peak_throughput(
                subject.checkpoint,
                network.run.path,
                kinds,
                threads,
                listener,
                count_file if subject.is_file_alone else None,
            )
        records.append(
            Run(
                name=network.run.name,
                created=created,
                config=network.config.model_dump(mode="json"),
                environment=environment,
                command=tuple(command),
                checkpoint=subject.checkpoint,
                artifacts=subject.artifacts,
                data=network.data.info,
                evaluation_protocol=network.evaluation.protocol,
                evaluation_sha256=network.evaluation_sha256,
                labels=(
                    None
                    if network.evaluation.labels is None
                    else tuple(network.evaluation.labels.tolist())
                ),
                rounds=settings.rounds,
                budget_s=settings.budget_s,
                foreign_load_cores=foreign_load_cores,
                arithmetic=throughput,
                reference=subject.reference,
                baseline=subject.baseline,
                group=group if len(networks) > 1 else None,
                reference_network=reference_network,
                measurements=(),
            )
        )
    return records
