"""Add a network that was trained elsewhere: a run like any other, with its weights and records."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from foldbench.bench.config.files import Loaded, from_dict
from foldbench.bench.config.own_network import class_names_of, with_known_input
from foldbench.bench.config.schema import Config
from foldbench.bench.errors import BackendError, ConfigError
from foldbench.bench.images.image_set import ImageSet
from foldbench.bench.images.loading import load_data
from foldbench.bench.machine.environment import describe_environment
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Checkpoint, Preprocessing
from foldbench.bench.stages.add_onnx import (
    FILE,
    make_from_onnx,
    neutral_preprocessing,
    onnx_preprocessing,
)
from foldbench.bench.store.directory import Paths, RunDirectory, create_run
from foldbench.bench.store.files import file_sha256, json_sha256
from foldbench.bench.store.finding import usable_runs
from foldbench.bench.store.temporary import temporary_folder
from foldbench.bench.user_code.source import parse_source
from foldbench.bench.workers.isolated import run_isolated
from foldbench.models.transfer.fit import preprocessing_of

if TYPE_CHECKING:
    from foldbench.models.building.adding import Made, Wanted


def add(
    loaded: Loaded, paths: Paths, listener: ProgressListener, fresh: bool = False
) -> RunDirectory:
    """Return the run of the network that ``model.from`` names, with its weights as they are.

    The same network with the same weights and settings finds its run again, unless `fresh`. Code of
    the user's runs in a process of its own. Raises BenchError of the kind at fault; nothing is left
    behind then.
    """
    chooses_batch = "batch_sizes" not in loaded.config.compare.model_fields_set
    loaded, assumed = complete(loaded)
    preprocessing = preprocessing_of(loaded.config)
    count, names = class_names_of(loaded.config)
    with temporary_folder() as temporary:
        folder = temporary / "network"
        folder.mkdir()
        wanted = wanted_network(loaded.config, preprocessing, count)
        made, weights = _make(wanted, folder)
        for note in made.notes:
            listener.note(note)
        if chooses_batch and made.fixed_batch is not None:
            loaded = _at_batch(loaded, made.fixed_batch)
        data = load_data(loaded.config.data, paths.cache, listener, needs_train=False)
        for note in () if data.info.preprocessed else assumed:
            listener.note(note)
        classes = names or _names_of(made, data, listener)
        checkpoint = _describe(loaded, made, weights, preprocessing, classes, data)
        key = _key(checkpoint)
        known = () if fresh else usable_runs(paths.runs, loaded.name, key)
        run = next((run for run in known if run.is_trained()), None)
        if run is not None:
            listener.note(f"{run.path} is this network with these weights and settings")
            return run
        return _write(paths.runs, loaded, checkpoint, key, folder)


def _make(wanted: "Wanted", folder: Path) -> tuple["Made", Path]:
    """Write the network into `folder`; return what it is, and the file that holds its weights."""
    from foldbench.models.building.adding import make
    from foldbench.models.building.trial import WEIGHTS, check_written

    try:
        if parse_source(wanted.text).form == "onnx":
            return run_isolated(make_from_onnx, wanted, folder), folder / FILE
        made = run_isolated(make, wanted, folder)
        if made.source.form == "code":  # in a process that has not run the network
            size = wanted.input_shape
            built = (wanted.text, wanted.args, made.classes, size, made.source.output)
            run_isolated(check_written, folder, built)
        return made, folder / WEIGHTS
    except BackendError as error:  # the user's code took its process along
        raise ConfigError(f"{wanted.text}: {error} while the network was built") from None


def complete(loaded: Loaded) -> tuple[Loaded, tuple[str, ...]]:
    """Return the configuration of a network of the user's own with its input filled in.

    Also what was assumed of pixels, one sentence each. Raises ConfigError where its shape is
    neither said nor known.
    """
    from foldbench.models.building.adding import library_preprocessing
    from foldbench.models.building.programs import input_shape_of

    model = loaded.config.model
    if model.source is None:
        raise ConfigError(f"{loaded.name}: names no network with model.from: bench train it")
    is_known = True
    if parse_source(model.source).form == "onnx":
        known, is_known = onnx_preprocessing(Path(model.source), model.output)
    elif parse_source(model.source).form == "program":
        shape = input_shape_of(Path(model.source))
        known, is_known = (neutral_preprocessing(shape) if shape else None), False
    else:
        known = library_preprocessing(model.source, model.weights)
    return with_known_input(loaded, known, is_known)


def _at_batch(loaded: Loaded, size: int) -> Loaded:
    """Return the configuration with one batch size to measure at."""
    values = loaded.as_dict()
    values["compare"]["batch_sizes"] = [size]
    return Loaded(loaded.name, from_dict(values, (), loaded.name))


def wanted_network(config: Config, preprocessing: Preprocessing, classes: int | None) -> "Wanted":
    """Return which network to build, and how to fill it."""
    from foldbench.models.building.adding import Wanted

    model = config.model
    return Wanted(
        text=str(model.source),
        args=model.args,
        input_shape=preprocessing.input_shape,
        weights=model.weights,
        weights_key=model.weights_key,
        strip_prefix=model.strip_prefix,
        classes=classes,
        output=model.output,
        download=model.download,
        seed=config.seed,
    )


def _names_of(made: "Made", data: ImageSet, listener: ProgressListener) -> tuple[str, ...]:
    """Return the names of the classes: the library's, the folders', or numbers."""
    if made.class_names is not None:
        return made.class_names
    if len(data.info.classes) == made.classes:
        listener.note(
            f"classes not given: taken to be the {made.classes} of {data.info.title} in their "
            "order (--classes FILE says otherwise)"
        )
        return data.info.classes
    return tuple(str(number) for number in range(made.classes))


def _describe(
    loaded: Loaded,
    made: "Made",
    weights: Path,
    preprocessing: Preprocessing,
    classes: tuple[str, ...],
    data: ImageSet,
) -> Checkpoint:
    return Checkpoint(
        run=loaded.name,
        config_name=loaded.name,
        config=loaded.as_dict(),
        config_sha256=json_sha256(loaded.as_dict()),
        model=loaded.config.model.network,
        model_args=loaded.config.model.args,
        parameter_count=made.parameter_count,
        weights=weights.name,
        sha256=file_sha256(weights),
        size_bytes=weights.stat().st_size,
        preprocessing=preprocessing,
        classes=classes,
        class_ids=made.class_ids if classes == made.class_names else (),
        data=data.info,
        seed=loaded.config.seed,
        device="cpu",
        history=(),
        environment=describe_environment(),
        random_weights=made.random,
        batch_dependent=made.batch_dependent,
        source=made.source,
    )


def _key(checkpoint: Checkpoint) -> str:
    """Return the hash of what tells one added network from another."""
    facts = checkpoint.model_dump(
        mode="json",
        include={"model", "model_args", "sha256", "preprocessing", "classes", "source"},
    )
    return f"added:{json_sha256(facts)}"


def _write(
    root: Path, loaded: Loaded, checkpoint: Checkpoint, key: str, folder: Path
) -> RunDirectory:
    meta = {"config_name": loaded.name, "training_key": key, "config": loaded.as_dict()}
    run = create_run(root, loaded.name, meta)
    try:
        with run.locked():
            for path in sorted(folder.iterdir()):
                shutil.move(path, run.path / path.name)
            run.write_checkpoint(checkpoint.model_copy(update={"run": run.name}))
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    return run
