"""Tune a configuration: search learning rate, batch size and epochs on a few images."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from foldbench.bench import units
from foldbench.bench.config.files import Loaded
from foldbench.bench.config.schema import Config
from foldbench.bench.config.training import TrainSection
from foldbench.bench.errors import ConfigError, TrainingError
from foldbench.bench.images.image_set import ImageSet, Split
from foldbench.bench.images.loading import load_data
from foldbench.bench.images.splits import draw_apart
from foldbench.bench.machine.environment import choose_threads, describe_environment
from foldbench.bench.progress import NullListener, ProgressListener
from foldbench.bench.records import Epoch, Hyperparameters, Search, SearchTrial
from foldbench.bench.stages.settings import training_settings
from foldbench.bench.stages.training_key import code_versions
from foldbench.bench.store.directory import Paths
from foldbench.bench.store.files import json_sha256, write_text
from foldbench.bench.store.study import Attempt, SearchPlan, SharedSearch, Space
from foldbench.models.transfer.fit import preprocessing_of
from foldbench.reports.rows.homework import references

_CHOSEN = ("train.learning_rate", "train.batch_size", "train.epochs", "train.validation_fraction")


@dataclass(frozen=True)
class SearchOptions:
    """How to search."""

    preset: Literal["homework"] | None
    trials: int
    images: int
    """To train each trial on."""
    validation_images: int
    space: Space
    storage: str | None


class _FellBehindError(Exception):
    """A trial that is not worth going on with."""


def search(
    loaded: Loaded, options: SearchOptions, paths: Paths, listener: ProgressListener
) -> Search:
    """Try learning rates, batch sizes and epochs on a part of the training images.

    What other processes do in the same search counts as well. The record of all trials is also
    written to ``search.json`` in the search's folder. Raises BenchError of the kind at fault.
    """
    from foldbench.models.building.trial import try_network

    config = loaded.config
    if config.transfer is not None:
        raise ConfigError("bench tune is for networks that are trained whole, without transfer")
    rows = _rows_of(config.model.network) if options.preset else ()
    data = load_data(config.data, paths.cache, listener)
    shape = preprocessing_of(config).input_shape
    try_network(config.model.network, config.model.args, len(data.info.classes), shape)
    splits = draw_apart(
        data.require_train("tuning"), options.images, options.validation_images, config.seed
    )
    plan = _plan(loaded, options, data, rows)
    folder = folder_of(paths, loaded.name)
    shared = SharedSearch(plan, folder, options.storage)
    listener.note(f"search {plan.study} in {folder}")
    listener.begin("tuning", max(1, shared.count()[1]))
    while _try_one(shared, config, splits, data, listener):
        listener.advance(shared.count()[0])
    listener.end()
    record = Search(
        config_name=loaded.name,
        config=loaded.as_dict(),
        preset=options.preset,
        study=plan.study,
        data_title=data.info.title,
        data_sha256=data.info.sha256,
        images=options.images,
        validation_images=options.validation_images,
        environment=describe_environment(),
        trials=shared.trials(),
    )
    write_text(folder / "search.json", record.model_dump_json(indent=1) + "\n")
    return record


def folder_of(paths: Paths, name: str) -> Path:
    """Return where the searches of a configuration are kept."""
    return paths.runs / "tuning" / name


def _rows_of(model: str) -> tuple[Hyperparameters, ...]:
    """Return what the homework tried for a network, each combination once.

    Raises ConfigError for a network that the homework does not have.
    """
    known = references()
    if model not in known:
        raise ConfigError(
            f"--preset homework: the homework tuned {', '.join(known)}, not {model!r}: "
            "choose one of those, or search without a preset"
        )
    rows = [
        Hyperparameters(
            learning_rate=row.learning_rate, batch_size=row.batch_size, epochs=row.epochs
        )
        for row in known[model].tuning
    ]
    return tuple(dict.fromkeys(rows))


def _plan(
    loaded: Loaded, options: SearchOptions, data: ImageSet, rows: tuple[Hyperparameters, ...]
) -> SearchPlan:
    space = options.space
    if rows:
        rates = [row.learning_rate for row in rows]
        epochs = [row.epochs for row in rows]
        sizes = tuple(sorted({row.batch_size for row in rows}))
        space = Space((min(rates), max(rates)), sizes, (min(epochs), max(epochs)))
    settings = training_settings(loaded.config)
    key = json_sha256(
        {
            "settings": {k: v for k, v in settings.items() if k not in _CHOSEN},
            **code_versions(loaded.config),
            "images": [data.info.sha256, options.images, options.validation_images],
            "space": [*space.learning_rates, *space.batch_sizes, *space.epochs],
        }
    )
    return SearchPlan(
        study=f"{options.preset or 'search'}-{key[:12]}",
        space=space,
        seed=loaded.config.seed,
        trials=options.trials,
        rows=rows,
    )


def _try_one(
    shared: SharedSearch,
    config: Config,
    splits: tuple[Split, Split],
    data: ImageSet,
    listener: ProgressListener,
) -> bool:
    """Make the next trial; return False when there is none."""
    with shared.attempt() as attempt:
        if attempt is None:
            return False
        started = time.perf_counter()
        try:
            _train(shared, attempt, config, splits, len(data.info.classes))
        except _FellBehindError:
            shared.end(attempt, "pruned", time.perf_counter() - started)
        except TrainingError as error:
            shared.end(attempt, "failed", time.perf_counter() - started, str(error))
        else:
            shared.end(attempt, "finished", time.perf_counter() - started)
    listener.note(_trial_text(shared.trials(), attempt))
    return True


def _train(
    shared: SharedSearch,
    attempt: Attempt,
    config: Config,
    splits: tuple[Split, Split],
    classes: int,
) -> None:
    """Train a fresh network as the attempt's choice says, from the same weights each time."""
    import torch

    from foldbench.models.building.network import build_model
    from foldbench.models.training.loop import train_model

    def hear(epoch: Epoch) -> None:
        if shared.report(attempt, epoch.loss, epoch.validation_accuracy or 0.0):
            raise _FellBehindError

    torch.set_num_threads(choose_threads(config.train.threads, "train.threads"))
    torch.manual_seed(config.seed)
    preprocessing = preprocessing_of(config)
    train_model(
        build_model(config.model.network, config.model.args, classes, preprocessing.input_shape),
        *splits,
        settings=_settings_with(config.train, attempt.choice),
        preprocessing=preprocessing,
        seed=config.seed,
        resume=None,
        listener=NullListener(),
        after_epoch=hear,
    )


def _settings_with(section: TrainSection, choice: Hyperparameters) -> TrainSection:
    values: dict[str, Any] = section.model_dump() | choice.model_dump()
    return TrainSection.model_validate(values)


def _trial_text(trials: tuple[SearchTrial, ...], attempt: Attempt) -> str:
    trial = next(t for t in trials if t.number == attempt.handle.number)
    choice, accuracy = trial.choice, trial.accuracy()
    figures = (
        f"loss {units.loss(trial.loss())}  validation {units.percent(accuracy)} %"
        if accuracy is not None
        else trial.reason or ""
    )
    return (
        f"trial {trial.number}: learning rate {units.learning_rate(choice.learning_rate)}, batch "
        f"{choice.batch_size}, {choice.epochs} epochs: {trial.status}  {figures}"
    )
