"""The job step by step: train, export, compare, report. Each step reads and writes one run."""

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.compare import compare
from bench.config import Config
from bench.config_files import Loaded
from bench.contenders import REFERENCE, Subject, list_contenders, list_self_checks
from bench.datasets import DataOptions, ImageSet
from bench.environment import describe_environment, has_nvidia_gpu, usable_cores
from bench.errors import DataError, RunError
from bench.interference import measure_foreign_load
from bench.preprocessing import preprocess
from bench.progress import Listener
from bench.quantizing import quantize
from bench.records import Artifact, Checkpoint, Device, Preprocessing, Run
from bench.registry import DATASETS, MODELS
from bench.run_settings import fixed_by_training, settings_of
from bench.runs import RunDirectory, create_run, list_runs
from bench.splits import hold_out, prepare_evaluation, spread
from bench.storage import file_sha256, json_sha256


@dataclass(frozen=True)
class Places:
    """Where things are kept on this machine."""

    runs: Path
    cache: Path


def load_data(config: Config, places: Places, listener: Listener) -> ImageSet:
    """Read the images that the configuration names; raise DataError when that is impossible."""
    path = Path(os.path.expanduser(config.data.path)) if config.data.path else None
    if path is not None:
        listener.note(f"reading {path}")
    options = DataOptions(
        path=path,
        download=config.data.download,
        image_size=config.data.image_size,
        cache=places.cache,
    )
    images: ImageSet = DATASETS.load(config.data.name).load(options)
    info = images.info
    how = "mapped from the cache" if info.from_cache else "decoded"
    listener.note(
        f"{info.title}: {info.train_count:,} training and {info.test_count:,} test images, "
        f"{len(info.classes)} classes, {how} in {info.decode_s:.1f} s"
    )
    return images


def train(loaded: Loaded, places: Places, listener: Listener, fresh: bool = False) -> RunDirectory:
    """Train the configuration's network, or go on with a training that was interrupted.

    A finished training of the same configuration on the same images is not done again unless
    `fresh`. Raises BenchError of the kind at fault; what was finished before stays.
    """
    config = loaded.config
    data = load_data(config, places, listener)
    key = _training_key(config, data)
    meta = {"config_name": loaded.name, "training_key": key, "config": loaded.as_dict()}
    run = None if fresh else _find_training(places.runs, loaded.name, key)
    if run is None:
        run = create_run(places.runs, loaded.name, meta)
    with run.locked():
        run.write_meta(meta)
        if run.is_trained():
            listener.note(f"{run.path} is trained already with these settings; --fresh trains anew")
        else:
            _train_into(run, loaded, data, key, listener)
    return run


def export(
    run: RunDirectory,
    overrides: Sequence[str],
    places: Places,
    listener: Listener,
) -> Artifact:
    """Export the run's network as its configuration says, overridden by `overrides`.

    Returns the artifact in the precision asked for; one in float32 is always made, too.
    """
    from exporters.export import ExportOptions, export_checkpoint, hash_inputs
    from exporters.rewriting import choose_passes
    from models._checkpoint import load_checkpoint

    checkpoint = run.checkpoint()
    config = settings_of(run, checkpoint, overrides)
    module = load_checkpoint(checkpoint, run.path)
    data = load_data(config, places, listener)
    refuse_other_classes(checkpoint, data)
    pixels = data.test.images[spread(len(data.test.labels), config.export.images)]
    images = preprocess(pixels, checkpoint.preprocessing)
    asked = config.export
    passes = choose_passes(asked.passes, asked.target, asked.fold_bn)
    options = ExportOptions(asked.fold_bn, asked.opset, passes, asked.target)
    with run.locked():
        artifact = run.find_artifact(hash_inputs(checkpoint, images, options))
        if artifact is not None:
            listener.note(f"{run.path / artifact.path} is exported already with these settings")
        else:
            listener.note(f"exporting {run.name} ({options.variant})")
            artifact = export_checkpoint(module, checkpoint, run.path, images, options)
            run.write_artifact(artifact)
        if asked.quantize != "none":
            artifact = quantize(run, checkpoint, config, data, artifact, listener)
    return artifact


def compare_run(
    run: RunDirectory,
    overrides: Sequence[str],
    places: Places,
    listener: Listener,
    command: Sequence[str] = (),
) -> Run:
    """Measure the run's contenders and store the record and the report in the run."""
    from reports.render import render

    checkpoint = run.checkpoint()
    config = settings_of(run, checkpoint, overrides)
    data = load_data(config, places, listener)
    refuse_other_classes(checkpoint, data)
    settings = config.compare
    threads = settings.threads or usable_cores()
    environment = describe_environment()
    foreign_load_cores = measure_foreign_load()
    with run.locked(), prepare_evaluation(config.evaluate, data.test) as (evaluation, sha256):
        subject = Subject(run.path, checkpoint, run.artifacts())
        contenders = list_contenders(subject, settings.backends, devices_of(settings.devices))
        if settings.self_checks:
            contenders += list_self_checks(contenders, threads)
        measurements = compare(
            subject,
            contenders,
            evaluation,
            settings,
            threads,
            listener,
        )
        record = Run(
            name=run.name,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            config=config.model_dump(mode="json"),
            environment=environment,
            command=tuple(command),
            checkpoint=checkpoint,
            artifacts=subject.artifacts,
            data=data.info,
            evaluation_protocol=evaluation.protocol,
            evaluation_sha256=sha256,
            rounds=settings.rounds,
            budget_s=settings.budget_s,
            foreign_load_cores=foreign_load_cores,
            reference=REFERENCE,
            measurements=measurements,
        )
    try:
        run.write_results(record)
        run.write_report(render(record, "md"))
    except RunError:
        listener.note(render(record, "terminal"))  # what was measured must not be lost with it
        raise
    return record


def _train_into(
    run: RunDirectory, loaded: Loaded, data: ImageSet, key: str, listener: Listener
) -> None:
    import torch

    from models._building import build_model
    from models._checkpoint import save_weights
    from models._resume import Resume
    from models._training import pick_device, train_model

    config = loaded.config
    torch.set_num_threads(config.train.threads or usable_cores())
    torch.manual_seed(config.seed)
    size = config.data.image_size
    preprocessing = Preprocessing(
        input_shape=(3, size, size), mean=config.data.mean, std=config.data.std
    )
    classes = data.info.classes
    model = build_model(config.model.name, config.model.args, len(classes), (3, size, size))
    train_split, held_out = hold_out(data.train, config.train.validation_fraction, config.seed)
    device = pick_device(config.train.device)
    listener.note(f"training {run.name} on {device.type} ({config.train.precision}) in {run.path}")
    history = train_model(
        model,
        train_split,
        held_out,
        settings=config.train,
        preprocessing=preprocessing,
        seed=config.seed,
        resume=Resume(run.resume, key),
        listener=listener,
    )
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
            preprocessing=preprocessing,
            classes=classes,
            data=data.info,
            seed=config.seed,
            device=_device_name(device),
            history=history,
            environment=describe_environment(),
        )
    )
    run.resume.unlink(missing_ok=True)


def _device_name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _training_key(config: Config, data: ImageSet) -> str:
    """Return the hash of everything that the trained weights depend on."""
    return json_sha256(
        {
            "settings": fixed_by_training(config.model_dump(mode="json")),
            "images": data.info.sha256,
            "network": file_sha256(Path(str(MODELS.load(config.model.name).__file__))),
        }
    )


def _find_training(root: Path, config_name: str, key: str) -> RunDirectory | None:
    """Return the newest run of the configuration with the same training key."""
    for run in reversed(list_runs(root)):
        same = run.config_name == config_name and run.meta().get("training_key") == key
        if same and run.is_usable():
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
