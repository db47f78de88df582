"""The job step by step: train, export, compare, report. Each step reads and writes one run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldbench.bench import torchrun
from foldbench.bench.config.files import Loaded
from foldbench.bench.datasets import ImageSet
from foldbench.bench.errors import DataError
from foldbench.bench.images.loading import load_data
from foldbench.bench.images.splits import draw_subset, hold_out, prepare_evaluation
from foldbench.bench.machine.environment import (
    choose_threads,
    describe_environment,
    has_nvidia_gpu,
    usable_cores,
)
from foldbench.bench.machine.interference import measure_foreign_load
from foldbench.bench.measure.comparison import compare
from foldbench.bench.measure.contenders import REFERENCE, Subject, list_contenders, list_self_checks
from foldbench.bench.measure.resume import describe_opening, measure_or_go_on, now
from foldbench.bench.measure.roofline import measure_peak_throughput, product_kinds
from foldbench.bench.progress import NullListener, ProgressListener
from foldbench.bench.records import Checkpoint, Device, Run
from foldbench.bench.stages.ablation import ablation_of
from foldbench.bench.stages.report import store_comparison
from foldbench.bench.stages.settings import settings_of
from foldbench.bench.stages.training_key import training_key
from foldbench.bench.store.directory import RunDirectory, create_run, list_runs
from foldbench.bench.store.files import file_sha256, json_sha256
from foldbench.bench.timing.scenarios import require_loadgen
from foldbench.models.transfer.fit import (
    Trained,
    fit_transfer,
    preprocessing_of,
    with_preprocessing,
)

if TYPE_CHECKING:
    from foldbench.models.training.process_group import ProcessGroup


@dataclass(frozen=True)
class Paths:
    """Where things are kept on this machine."""

    runs: Path
    cache: Path


def train(
    loaded: Loaded, paths: Paths, listener: ProgressListener, fresh: bool = False
) -> RunDirectory:
    """Train the configuration's network, or go on with a training that was interrupted.

    A finished training of the same configuration on the same images is not done again unless
    `fresh`. Several processes that torchrun started train together; one of them writes. Raises
    BenchError of the kind at fault; what was finished before stays.
    """
    from foldbench.models.training.process_group import join_process_group

    loaded = with_preprocessing(loaded)
    config = loaded.config
    if config.transfer is not None:
        torchrun.require_one_process("training a linear layer on features")
    data = load_data(config.data, paths.cache, listener)
    key = training_key(config, data.info.sha256)
    meta = {"config_name": loaded.name, "training_key": key, "config": loaded.as_dict()}
    with join_process_group() as process_group:
        if not process_group.is_main:
            return _train_on_other_rank(loaded, data, key, process_group)
        run = None if fresh else _find_training(paths.runs, loaded.name, key)
        if run is None:
            run = create_run(paths.runs, loaded.name, meta)
        with run.locked():
            run.write_meta(meta)
            process_group.broadcast_text(str(run.path.resolve()))
            if run.is_trained():
                listener.note(
                    f"{run.path} is trained already with these settings; --fresh trains anew"
                )
            else:
                trained = (
                    _train_into(run, loaded, data, key, process_group, listener)
                    if config.transfer is None
                    else _transfer_into(run, loaded, data, paths, listener)
                )
                _write_checkpoint(run, loaded, data, trained)
    return run


def _train_on_other_rank(
    loaded: Loaded, data: ImageSet, key: str, process_group: "ProcessGroup"
) -> RunDirectory:
    """Train as a rank other than 0, which writes nothing; return rank 0's run."""
    run = RunDirectory(Path(process_group.broadcast_text("")))
    if not run.is_trained():
        _train_into(run, loaded, data, key, process_group, NullListener())
    return run


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
        from foldbench.bench.stages.export import export_ablation

        export_ablation(run, overrides, paths, listener)
    threads = choose_threads(settings.threads, "compare.threads")
    environment = describe_environment()
    foreign_load_cores = measure_foreign_load()
    with run.locked(), prepare_evaluation(config.evaluate, data.test) as (evaluation, sha256):
        subject = Subject(run.path, checkpoint, run.artifacts(), ablation)
        contenders = list_contenders(subject, settings.backends, devices_of(settings.devices))
        if settings.self_checks and not settings.loadgen.scenarios:
            contenders += list_self_checks(contenders, threads)
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
            labels=tuple(evaluation.labels.tolist()),
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


def _train_into(
    run: RunDirectory,
    loaded: Loaded,
    data: ImageSet,
    key: str,
    process_group: "ProcessGroup",
    listener: ProgressListener,
) -> Trained:
    import torch

    from foldbench.models.building.network import build_model
    from foldbench.models.training.device import pick_device
    from foldbench.models.training.loop import train_model
    from foldbench.models.training.resume import Resume

    config, preprocessing = loaded.config, preprocessing_of(loaded.config)
    cores = max(1, usable_cores() // torchrun.local_world_size())
    torch.set_num_threads(min(choose_threads(config.train.threads, "train.threads"), cores))
    torch.manual_seed(config.seed)
    model = build_model(
        config.model.name,
        config.model.args,
        len(data.info.classes),
        preprocessing.input_shape,
    )
    kept, held_out = hold_out(data.train, config.train.validation_fraction, config.seed)
    train_split = draw_subset(kept, config.data.subset, config.seed)
    device = pick_device(config.train.device)
    process_text = f", {process_group.size} processes" if process_group.size > 1 else ""
    listener.note(
        f"training {run.name} on {device.type} ({config.train.precision}{process_text}) "
        f"in {run.path}"
    )
    history = train_model(
        model,
        train_split,
        held_out,
        settings=config.train,
        preprocessing=preprocessing,
        seed=config.seed,
        resume=Resume(run.resume, key),
        listener=listener,
        process_group=process_group,
    )
    return Trained(model, history)


def _transfer_into(
    run: RunDirectory, loaded: Loaded, data: ImageSet, paths: Paths, listener: ProgressListener
) -> Trained:
    import torch

    config = loaded.config
    torch.set_num_threads(choose_threads(config.train.threads, "train.threads"))
    torch.manual_seed(config.seed)
    listener.note(f"training {run.name} in {run.path}")
    return fit_transfer(config, data, paths.cache, listener)


def _write_checkpoint(run: RunDirectory, loaded: Loaded, data: ImageSet, trained: Trained) -> None:
    from foldbench.models.building.checkpoint import save_weights
    from foldbench.models.training.device import pick_device

    config, model = loaded.config, trained.module
    weights = run.path / "weights.safetensors"
    save_weights(model, weights)
    run.write_checkpoint(
        Checkpoint(
            run=run.name,
            config_name=loaded.name,
            config=loaded.as_dict(),
            config_sha256=json_sha256(loaded.as_dict()),
            model=config.model.name,
            model_args=config.model.args,
            parameter_count=sum(p.numel() for p in model.parameters()),
            weights=weights.name,
            sha256=file_sha256(weights),
            size_bytes=weights.stat().st_size,
            preprocessing=preprocessing_of(config),
            classes=data.info.classes,
            data=data.info,
            seed=config.seed,
            device=_device_name(pick_device(config.train.device)),
            history=trained.history,
            environment=describe_environment(),
            random_weights=config.transfer is not None and trained.record is None,
            transfer=trained.record,
        )
    )
    run.resume.unlink(missing_ok=True)


def _device_name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _find_training(root: Path, config_name: str, key: str) -> RunDirectory | None:
    """Return the newest run of the configuration with the same training key."""
    for run in reversed(list_runs(root)):
        if run.config_name == config_name and run.has_key(key) and run.is_usable():
            return run
    return None


def refuse_other_classes(checkpoint: Checkpoint, data: ImageSet) -> None:
    """Raise DataError when the images have other classes than the network was trained on."""
    if data.info.classes != checkpoint.classes:
        raise DataError(
            f"{data.info.title} has other classes ({', '.join(data.info.classes[:3])}, …) than "
            f"run {checkpoint.run} was trained on ({', '.join(checkpoint.classes[:3])}, …): "
            "give the images it was trained on with --data"
        )


def devices_of(asked: Sequence[str]) -> tuple[Device, ...]:
    """Return the devices to use; ``auto`` is the CPU, and CUDA where there is an NVIDIA GPU."""
    devices: list[Device] = []
    for name in asked:
        if name == "auto":
            devices += ["cpu", "cuda"] if has_nvidia_gpu() else ["cpu"]
        else:
            devices.append("cuda" if name == "cuda" else "cpu")
    return tuple(dict.fromkeys(devices))
