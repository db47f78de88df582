"""Transfer learning by a linear layer on frozen features (problems 3 and 5).

A pretrained network without its classifier is run once over every image; a linear classifier is
fitted to what it gives; both together are the network of the run, which is folded, exported and
compared like any other.
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from foldbench.bench import units
from foldbench.bench.analysis.estimates import balanced_accuracy
from foldbench.bench.arrays import Labels
from foldbench.bench.config.files import Loaded, from_dict
from foldbench.bench.config.model import TransferSection
from foldbench.bench.config.schema import Config
from foldbench.bench.errors import ConfigError
from foldbench.bench.images.image_set import ImageSet, sides_of
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Epoch, Preprocessing, Transfer, WeightsOrigin
from foldbench.bench.store.files import file_sha256, is_weights_file
from foldbench.models.transfer.classifier import Fitted, fit_linear
from foldbench.models.transfer.features import Extraction, Features, take_features

VERSION = 1
"""Raised whenever the same features, settings and seed give another linear layer."""

_FROM_WEIGHTS = ("image_size", "mean", "std", "resize")


@dataclass(frozen=True)
class Trained:
    """A network whose training has ended."""

    module: Any
    history: tuple[Epoch, ...]
    record: Transfer | None = None
    """Of a linear layer on frozen features; None with random weights, where nothing was fitted."""
    answers: Labels | None = None
    """The class of each test image by its features, (M,) int64."""
    origin: WeightsOrigin | None = None
    """Of the weights that training started from, where it did not start from random ones."""


def with_preprocessing(loaded: Loaded) -> Loaded:
    """Return the configuration with what ``data.preprocessing: weights`` stands for filled in.

    Raises ConfigError when the same fields are given, or the metadata cannot be expressed.
    """
    config = loaded.config
    if config.data.preprocessing != "weights":
        return loaded
    given = config.data.model_fields_set & {*_FROM_WEIGHTS}
    if given:
        raise ConfigError(
            f"data.{min(given)}: comes from the weights' metadata with data.preprocessing: "
            "weights; leave it out, or set data.preprocessing to config"
        )
    from foldbench.models.building.network import check_arguments
    from foldbench.models.pretrained import choose_network
    from foldbench.models.zoo.networks import preprocessing_of

    args = config.model.args
    check_arguments(config.model.network, args)
    network = choose_network(**{k: args[k] for k in ("source", "arch") if k in args})
    found = preprocessing_of(network, _transfer_of(config).weights)
    values = config.model_dump(mode="json")
    values["data"] |= {
        "image_size": found.input_shape[-1],
        "mean": list(found.mean),
        "std": list(found.std),
        "resize": found.resize.model_dump(mode="json"),
    }
    return Loaded(loaded.name, from_dict(values, (), loaded.name))


def preprocessing_of(config: Config) -> Preprocessing:
    """Return how images become the input of the configuration's network."""
    data = config.data
    shape = (data.channels, *sides_of(data.image_size))
    return Preprocessing(input_shape=shape, mean=data.mean, std=data.std, resize=data.resize)


def weights_identity(config: Config) -> str | None:
    """Return what tells the pretrained weights apart: a name, or the sha256 of a file's bytes."""
    if config.transfer is None:
        return None
    weights = config.transfer.weights
    path = Path(weights).expanduser()
    return file_sha256(path) if is_weights_file(weights) and path.is_file() else weights


def fit_transfer(
    config: Config, data: ImageSet, cache: Path, listener: ProgressListener
) -> Trained:
    """Take the features of `data`, fit the linear layer, and return the whole network.

    With random weights nothing is fitted. Raises CheckpointError for weights that are not there,
    may not be fetched or belong to another network, and what the steps raise.
    """
    from foldbench.models.building.network import check_arguments
    from foldbench.models.pretrained import build_filled
    from foldbench.models.training.device import pick_device

    settings, preprocessing = _transfer_of(config), preprocessing_of(config)
    check_arguments(config.model.network, config.model.args)
    module, network, filled = build_filled(
        weights=settings.weights,
        download=settings.download,
        classes=len(data.info.classes),
        input_shape=preprocessing.input_shape,
        **config.model.args,
    )
    module.eval()
    if filled.random:
        listener.note(f"{network.name} keeps random weights: only its latency means something")
        return Trained(module, ())
    listener.note(f"{network.name} with the weights {filled.title} (sha256 {filled.sha256[:12]}…)")
    for note in filled.notes:
        listener.note(note)
    trained = data.require_train("training")
    features = take_features(
        module,
        {
            "weights": filled.sha256,
            "network": network.name,
            "library": version(network.source),
            "args": config.model.args,
        },
        data,
        Extraction(
            preprocessing=preprocessing,
            batch_size=settings.batch_size,
            device=pick_device(config.train.device).type,
            random_layers=settings.stochastic_depth,
            seed=config.seed,
        ),
        cache,
        listener,
    )
    fitted = fit_linear(
        features.train, trained.require_labels(), len(data.info.classes), config, listener
    )
    _set_head(module, fitted)
    answers = fitted.linear.classify(features.test)
    record = _describe(config, (filled.title, filled.sha256), features, fitted, data, answers)
    listener.note(
        f"on the features of {units.count(record.test_count)} test images: accuracy "
        f"{units.percent(record.test_correct / record.test_count)} %, balanced "
        f"{units.percent(record.test_balanced_accuracy)} %"
    )
    return Trained(module, fitted.history, record, answers)


def _transfer_of(config: Config) -> TransferSection:
    if config.transfer is None:
        raise ConfigError("transfer: is missing: add a transfer section to the configuration")
    return config.transfer


def _set_head(module: Any, fitted: Fitted) -> None:
    import torch

    with torch.no_grad():
        module.head.weight.copy_(torch.from_numpy(fitted.linear.weight))
        module.head.bias.copy_(torch.from_numpy(fitted.linear.bias))


def _describe(
    config: Config,
    weights: tuple[str, str],
    features: Features,
    fitted: Fitted,
    data: ImageSet,
    answers: Labels,
) -> Transfer:
    labels, classes = data.test.require_labels(), len(data.info.classes)
    expected = data.require_train("training").require_labels()
    trained = fitted.linear.classify(features.train) == expected
    return Transfer(
        weights=weights[0],
        weights_sha256=weights[1],
        features_sha256=features.key,
        feature_count=features.train.shape[1],
        classifier=_transfer_of(config).classifier,
        candidates=fitted.candidates,
        validation_count=fitted.validation_count,
        train_correct=int(trained.sum()),
        train_count=len(trained),
        test_correct=int((answers == labels).sum()),
        test_count=len(labels),
        test_balanced_accuracy=balanced_accuracy(labels, answers, classes),
        extract_s=features.extract_s,
        from_cache=features.from_cache,
        fit_s=fitted.fit_s,
    )
