"""Train a configuration's network: its weights and the record of the training, in a run."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldbench.bench import torchrun
from foldbench.bench.config.files import Loaded
from foldbench.bench.config.schema import Config
from foldbench.bench.errors import BackendError, ConfigError
from foldbench.bench.images.image_set import ImageSet
from foldbench.bench.images.loading import load_data
from foldbench.bench.images.preprocessing import preprocess
from foldbench.bench.images.splits import draw_subset, hold_out
from foldbench.bench.machine.cpu import has_bfloat16
from foldbench.bench.machine.environment import choose_threads, describe_environment, usable_cores
from foldbench.bench.progress import NullListener, ProgressListener
from foldbench.bench.records import Checkpoint, Preprocessing, WeightsOrigin
from foldbench.bench.stages.add import complete, wanted_network
from foldbench.bench.stages.training_key import training_key
from foldbench.bench.store.directory import Paths, RunDirectory, create_run
from foldbench.bench.store.files import file_sha256, json_sha256
from foldbench.bench.store.finding import usable_runs
from foldbench.bench.store.temporary import temporary_folder
from foldbench.bench.user_code.source import parse_source
from foldbench.bench.workers.isolated import run_isolated
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
        loaded, assumed = complete(loaded)
        for note in assumed:
            listener.note(note)
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
        run = None if fresh else next(usable_runs(paths.runs, loaded.name, key), None)
        if config.transfer is None and (run is None or not run.is_trained()):
            _try_network(config, len(data.info.classes), listener)
        if run is None:
            run = create_run(paths.runs, loaded.name, meta)
        with run.locked(), _removed_where_nothing_came_of_it(run):
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


@contextmanager
def _removed_where_nothing_came_of_it(run: RunDirectory) -> Iterator[None]:
    """Remove the run where what is done in it fails before there is anything to keep."""
    try:
        yield
    except BaseException:
        if not run.has_anything():
            shutil.rmtree(run.path, ignore_errors=True)
        raise


def _try_network(config: Config, classes: int, listener: ProgressListener) -> None:
    """Find out whether the network can be trained and written, and tell what is worth knowing.

    A file of the user's own is run in a process of its own; this one, which has not run it, then
    builds the network from what was written. What foldbench's own networks and those of libraries
    compute with is in their weights. Raises BenchError.
    """
    from foldbench.models.building.trial import check_written, try_network

    network = _built(config, classes)
    if config.model.source is None or parse_source(config.model.source).form != "code":
        notes = try_network(*network)
    else:
        with temporary_folder() as folder:
            try:
                notes = run_isolated(try_network, *network, folder)
            except BackendError as error:  # the user's code took its process along
                raise ConfigError(f"{network[0]}: {error} while it was tried out") from None
            check_written(folder, network)
    for note in notes:
        listener.note(note)


def _built(config: Config, classes: int) -> tuple[Any, ...]:
    """Return the arguments of `build_model`."""
    shape = preprocessing_of(config).input_shape
    return config.model.network, config.model.args, classes, shape, config.model.output


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
    from foldbench.models.training.device import pick_device
    from foldbench.models.training.loop import train_model
    from foldbench.models.training.resume import Resume

    config, preprocessing = loaded.config, preprocessing_of(loaded.config)
    cores = max(1, usable_cores() // torchrun.local_world_size())
    torch.set_num_threads(min(choose_threads(config.train.threads, "train.threads"), cores))
    torch.manual_seed(config.seed)
    model = build_model(*_built(config, len(data.info.classes)))
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
    if (device.type, config.train.precision) == ("cpu", "bfloat16") and has_bfloat16() is False:
        listener.note(
            "this CPU has no bfloat16 instructions and is slow at it: --set train.precision=float32"
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
    from foldbench.models.building.trial import WEIGHTS, check_written, is_batch_dependent
    from foldbench.models.training.device import pick_device

    config, model = loaded.config, trained.module.to("cpu").eval()
    source = None
    if config.model.source is not None:
        source = describe_source(config.model.source, trained.origin, config.model.output)
    weights = run.path / WEIGHTS
    save_weights(model, weights)
    preprocessing = preprocessing_of(config)
    proven_on = data.require_train("training").images[:_PROVEN_ON]
    images = torch.from_numpy(preprocess(proven_on, preprocessing))
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
        batch_dependent=is_batch_dependent(model, images),
        transfer=trained.record,
        source=source,
    )
    prove_checkpoint(model, checkpoint, run.path, images)
    save_probe(model, images[:2], run.path)
    if source is not None and source.form == "code":
        run_isolated(check_written, run.path, _built(config, len(data.info.classes)))
    run.write_checkpoint(checkpoint)
    run.resume.unlink(missing_ok=True)


def _device_name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
