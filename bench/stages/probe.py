"""What a protocol of transfer learning is worth, and what its BatchNorm alone does to it.

Each configuration is taken as it is, and with the other kind of BatchNorm and the other classifier,
everything else left as it was; nothing is written but the cache of features.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from foldbench.bench.analysis.probes import Probe
from foldbench.bench.config.files import Loaded, from_dict
from foldbench.bench.config.schema import Config
from foldbench.bench.errors import ConfigError
from foldbench.bench.images.image_set import ImageSet
from foldbench.bench.images.loading import load_data
from foldbench.bench.progress import ProgressListener
from foldbench.models.transfer.fit import fit_transfer, with_preprocessing

BATCHNORMS = ("running", "per_image")
CLASSIFIERS = ("logistic", "adam")
_HELD_OUT = 0.2


def probe(loaded: Loaded, cache: Path, listener: ProgressListener) -> Iterator[Probe]:
    """Yield the configuration with each kind of BatchNorm and each classifier.

    Raises ConfigError for a configuration without a transfer section or with random weights.
    """
    base = with_preprocessing(loaded).config
    if base.transfer is None or base.transfer.weights == "none":
        raise ConfigError(
            f"{loaded.name}: features of random weights tell nothing, and without a transfer "
            "section there are none: name a configuration such as resnet50_pets, with weights"
        )
    data = load_data(base.data, cache, listener)
    own = (base.model.args.get("batchnorm", BATCHNORMS[0]), base.transfer.classifier)
    for batchnorm in BATCHNORMS:
        for classifier in CLASSIFIERS:
            config = _variant(base, batchnorm, classifier)
            found = _probe(loaded.name, config, data, cache, listener)
            if found.batchnorm is None and batchnorm != own[0]:
                return
            yield replace(found, as_configured=(batchnorm, classifier) == own)


def _variant(base: Config, batchnorm: str, classifier: str) -> Config:
    """Return `base` with another BatchNorm and classifier; each classifier needs its own split."""
    transfer = base.transfer
    if transfer is not None and transfer.classifier == classifier:
        train = {}
    elif classifier == "logistic":
        train = {"protocol": "clean", "validation_fraction": _HELD_OUT}
    else:
        train = {"validation_fraction": 0.0}
    values = base.model_dump(mode="json")
    values["model"]["args"]["batchnorm"] = batchnorm
    values["transfer"]["classifier"] = classifier
    values["train"] |= train
    return from_dict(values, (), "bench probe")


def _probe(
    name: str, config: Config, data: ImageSet, cache: Path, listener: ProgressListener
) -> Probe:
    from torch.nn import InstanceNorm2d
    from torch.nn.modules.batchnorm import _BatchNorm

    trained = fit_transfer(config, data, cache, listener)
    if trained.record is None or trained.answers is None:
        raise ConfigError(f"{name}: random weights have no accuracy")
    kinds = (_BatchNorm, InstanceNorm2d)
    normalised = any(isinstance(part, kinds) for part in trained.module.modules())
    resize = config.data.resize
    return Probe(
        config_name=name,
        batchnorm=config.model.args["batchnorm"] if normalised else None,
        classifier=trained.record.classifier,
        as_configured=False,
        data=data.info,
        resize="stretched" if resize.stretch else f"shorter side {resize.shorter_side}",
        record=trained.record,
        answers=trained.answers,
        labels=data.test.require_labels(),
    )
