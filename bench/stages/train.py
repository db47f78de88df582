"""Train a configuration's network: its weights and the record of the training, in a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldbench.bench import torchrun
from foldbench.bench.config.files import Loaded
from foldbench.bench.config.schema import Config
from foldbench.bench.images.image_set import ImageSet
from foldbench.bench.images.loading import load_data
from foldbench.bench.images.preprocessing import preprocess
from foldbench.bench.images.splits import draw_subset, hold_out
from foldbench.bench.machine.environment import choose_threads, describe_environment, usable_cores
from foldbench.bench.progress import NullListener, ProgressListener
from foldbench.bench.records import Checkpoint, Preprocessing, WeightsOrigin
from foldbench.bench.stages.add import complete, wanted_network
from foldbench.bench.stages.training_key import training_key
from foldbench.bench.store.directory import Paths, RunDirectory, create_run, list_runs
from foldbench.bench.store.files import file_sha256, json_sha256
from foldbench.models.transfer.fit import (
    Trained,
    fit_transfer,
    preprocessing_of,
    with_preprocessing,
)

if TYPE_CHECKING:
    from foldbench.models.training.process_group import ProcessGroup

_PROVEN_ON = 16
"""Images on which what is loaded is held against what was trained."""


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
    if loaded.config.model.source is not None:
        loaded = complete(loaded, listener)
    config = loaded.config
    if config.transfer is not None:
        torchrun.require_one_process("training a linear layer on features")
    data = load_data(config.data, paths.cache, listener)
    data.require_train("training")
    key = training_key(config, data.info.key)
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
    from foldbench.models.building.trial import try_network
    from foldbench.models.training.device import pick_device
    from foldbench.models.training.loop import train_model
    from foldbench.models.training.resume import Resume

    config, preprocessing = loaded.config, preprocessing_of(loaded.config)
    cores = max(1, usable_cores() // torchrun.local_world_size())
    torch.set_num_threads(min(choose_threads(config.train.threads, "train.threads"), cores))
    network = (
        config.model.network,
        config.model.args,
        len(data.info.classes),
        preprocessing.input_shape,
        config.model.output,
    )
    for note in try_network(*network):
        listener.note(note)
    torch.manual_seed(config.seed)
    model = build_model(*network)
    origin = _fill(model, config, preprocessing, listener)
    kept, held_out = hold_out(
        data.require_train("training"), config.train.validation_fraction, config.seed
    )
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
    return Trained(model, history, origin=origin)


def _fill(
    model: Any, config: Config, preprocessing: Preprocessing, listener: ProgressListener
) -> WeightsOrigin | None:
    """Have training start from the weights that ``model.weights`` names, where it does."""
    from foldbench.models.building.adding import fill_network

    if config.model.weights is None:
        return None
    origin, notes = fill_network(model, wanted_network(config, preprocessing, None))
    for note in notes:
        listener.note(note)
    return origin


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
    import torch

    from foldbench.models.building.adding import describe_source
    from foldbench.models.building.checkpoint import prove_checkpoint, save_weights
    from foldbench.models.building.probe import save_probe
    from foldbench.models.training.device import pick_device

    config, model = loaded.config, trained.module
    source = None
    if config.model.source is not None:
        source = describe_source(config.model.source, trained.origin, config.model.output)
    weights = run.path / "weights.safetensors"
    save_weights(model, weights)
    preprocessing = preprocessing_of(config)
    checkpoint = Checkpoint(
        run=run.name,
        config_name=loaded.name,
        config=loaded.as_dict(),
        config_sha256=json_sha256(loaded.as_dict()),
        model=config.model.network,
        model_args=config.model.args,
        parameter_count=sum(p.numel() for p in model.parameters()),
        weights=weights.name,
        sha256=file_sha256(weights),
        size_bytes=weights.stat().st_size,
        preprocessing=preprocessing,
        classes=data.info.classes,
        data=data.info,
        seed=config.seed,
        device=_device_name(pick_device(config.train.device)),
        history=trained.history,
        environment=describe_environment(),
        random_weights=config.transfer is not None and trained.record is None,
        transfer=trained.record,
        source=source,
    )
    images = preprocess(data.require_train("training").images[:_PROVEN_ON], preprocessing)
    prove_checkpoint(model, checkpoint, run.path, torch.from_numpy(images))
    if source is not None:
        save_probe(model, torch.from_numpy(images[:2]), run.path)
    run.write_checkpoint(checkpoint)
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
