"""Every version by which a training is found again: held to what the code of that version computes.

``versions.json`` holds the numbers. Where a test fails, either the change was not meant, or the
version has to be raised; then its numbers are stored with
``FOLDBENCH_WRITE_VERSIONS=1 pytest tests/contracts/test_versions.py``.
Those of a version that is stored are never written anew.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from builders import QUICK
from foldbench.bench.config.files import load
from foldbench.bench.config.schema import Config
from foldbench.bench.config.training import TrainSection
from foldbench.bench.errors import ConfigError
from foldbench.bench.images.image_set import Split
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Preprocessing
from foldbench.bench.registry import MODELS
from foldbench.bench.stages.train import train
from foldbench.bench.stages.training_key import training_key
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.models import bn_cnn
from foldbench.models.building import norms
from foldbench.models.building.network import build_model
from foldbench.models.training import loop
from foldbench.models.transfer import fit
from foldbench.models.transfer.classifier import fit_linear

STORED = Path(__file__).parent / "versions.json"
SHAPE = (3, 34, 34)
ROUNDING, ROUNDING_OF_TRAINING = 1e-4, 1e-3
"""Relative; several times what threads and libraries of kernels change."""

NORMS: list[dict[str, Any]] = [{"norm": kind} for kind in norms.KINDS]
NORMS += [{}, {"norm": "group", "groups": 4}, {"norm": "batch", "bias_before_norm": False}]
ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    **dict.fromkeys(("bn_cnn", "deep_mish", "mish_cnn"), NORMS),
    "pretrained": [{}, {"pooled": False}, {"batchnorm": "per_image"}, {"l2_normalise": False}],
}
"""Which networks of a plug-in are looked at: those with other code behind them."""

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "homework": {"protocol": "homework", "optimizer": "adam"},
    "averaged": {
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "decoupled": True,
        "decay_norm_and_bias": False,
        "norm_bias_factor": 8,
        "ema_decay": 0.5,
        "initial_weights": "dirac",
        "label_smoothing": 0.1,
        "schedule": {"name": "one_cycle"},
        "augment": {"alternating_flip": True, "crop_edge": "reflect", "cutout": 3},
    },
    "in parts": {
        "optimizer": "muon",
        "micro_batches": 2,
        "schedule": {"name": "cosine"},
        "augment": {"cutmix": 0.5},
    },
}

# A training from before there were versions, as its run.json has it: OLD_SETTINGS on the digits.
OLD_SETTINGS = (*QUICK, "data.image_size=32")
OLD_KEYS = {
    "bn_cnn": "d73be15711928353ab7a3578d836fdcbceca34b7b6a8e3a41be43fd1a8974fde",
    "deep_mish": "4bf72fd67561ad3364e9e1eaf1d2e3f4e301785485dcb79b1b794187d2f27150",
    "mish_cnn": "849c767034e2a8563a2f9796a4828ef9561b14ceff06293250ae0bd4ce95685f",
}
OLD_TRANSFER_KEY = "84f676795d073fb27f10b738a8cf5fdc76e572d211a65346e512ae545b324661"
DIGITS = "689f23c513e20d209607eaa146f0c58869484f7c206765cdd067df3e17dcf396"


def hold_to_version(
    file: str, version: int, found: Mapping[str, Sequence[Any]], rounding: float = ROUNDING
) -> None:
    """Fail when what was `found`, by case, is not what `version` of the code in `file` computes."""
    everything = json.loads(STORED.read_text(encoding="utf-8"))
    before = everything.get(file, {})
    stored = before.get("cases", {}) if before.get("version") == version else {}
    if os.environ.get("FOLDBENCH_WRITE_VERSIONS"):
        rounded = {case: [_rounded(value) for value in values] for case, values in found.items()}
        stored = {**rounded, **stored}
        everything[file] = {"version": version, "cases": stored}
        STORED.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    how = "FOLDBENCH_WRITE_VERSIONS=1 pytest tests/contracts/test_versions.py"
    for case, values in found.items():
        assert case in stored, f"{file}: {case}: nothing is stored of VERSION {version}: {how}"
        same = list(values) == [_within(rounding, value) for value in stored[case]]
        assert same, (
            f"{file}: {case}: it is no longer what VERSION {version} computes; if that is meant, "
            f"raise VERSION in {file}, or trainings from before count as today's; then {how}"
        )


def _within(rounding: float, value: Any) -> Any:
    is_number = isinstance(value, float)
    return pytest.approx(value, rel=rounding, abs=rounding / 10) if is_number else value


def _rounded(value: Any) -> Any:
    return float(f"{value:.7g}") if isinstance(value, float) else value


def numbers_of_network(name: str, args: Mapping[str, Any]) -> list[Any]:
    """Return the sha256 of the state's names and shapes, and logits in both modes."""
    torch.manual_seed(0)
    network = build_model(name, args, 2, SHAPE)
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((4, *SHAPE), np.float32))
    with torch.no_grad():
        logits = torch.cat([network.train()(x), network.eval()(x)])
    digest = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()
    return [digest, *logits.flatten().tolist()]


def numbers_of_training(section: Mapping[str, Any]) -> list[float]:
    """Return the losses of a short training, and logits of the network that it made."""
    random = np.random.default_rng(0)
    labels = np.arange(48) % 3
    images = random.integers(0, 100, (48, 3, 8, 8)) + 70 * labels[:, None, None, None]
    split = Split(images.astype(np.uint8), labels.astype(np.int64))
    torch.manual_seed(0)
    # No bias before BatchNorm: its gradient is rounding alone, of which Adam makes whole steps.
    convolution = nn.Conv2d(3, 8, 3, bias=False)
    rest = [nn.BatchNorm2d(8), nn.Mish(), nn.Flatten(), nn.Linear(288, 3)]
    network = nn.Sequential(convolution, *rest)
    history = loop.train_model(
        network,
        split,
        None,
        settings=TrainSection(device="cpu", epochs=2, batch_size=16, **section),
        preprocessing=Preprocessing(input_shape=(3, 8, 8), mean=(0.5,) * 3, std=(0.5,) * 3),
        seed=0,
        resume=None,
        listener=NullListener(),
    )
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(split.images[:3]) / 255 - 0.5)
    return [*(epoch.loss for epoch in history), *logits.flatten().tolist()]


def numbers_of_transfer(classifier: str) -> list[float]:
    """Return weights and biases of a linear layer on features that overlap a little."""
    labels = np.arange(60) % 3
    noise = np.random.default_rng(0).standard_normal((60, 4))
    features = (noise + 2 * np.eye(4)[labels]).astype(np.float32)
    overrides = [f"transfer.classifier={classifier}", "train.epochs=3"]
    if classifier == "adam":
        overrides.append("train.validation_fraction=0")
    config = load("resnet50_pets", overrides).config
    linear = fit_linear(features, labels, 3, config, NullListener()).linear
    return [*linear.weight.ravel().tolist(), *linear.bias.tolist()]


@pytest.mark.parametrize("name", MODELS.names())
def test_a_network_is_what_its_version_is(name: str) -> None:
    cases = ARGUMENTS.get(name, [{}])
    found = {json.dumps(args): numbers_of_network(name, args) for args in cases}
    hold_to_version(f"models/{name}.py", MODELS.load(name).VERSION, found)


def test_training_is_what_its_version_is() -> None:
    found = {name: numbers_of_training(section) for name, section in SETTINGS.items()}
    hold_to_version("models/training/loop.py", loop.VERSION, found, ROUNDING_OF_TRAINING)


def test_a_linear_layer_on_features_is_what_its_version_is() -> None:
    found = {name: numbers_of_transfer(name) for name in ("logistic", "adam")}
    hold_to_version("models/transfer/fit.py", fit.VERSION, found)


def test_a_change_in_what_a_network_is_made_of_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    made = norms.make_norm

    def other(*args: Any, **options: Any) -> nn.Module:
        norm = made(*args, **options)
        norm.eps = 1e-3
        return norm

    monkeypatch.setattr(bn_cnn, "make_norm", other)
    with pytest.raises(AssertionError, match="raise VERSION in models/bn_cnn.py"):
        test_a_network_is_what_its_version_is("bn_cnn")


def key_of(model: str) -> str:
    config = load("digits", [*OLD_SETTINGS, f"model.name={model}"]).config
    return training_key(config, DIGITS)


@pytest.mark.parametrize("name", OLD_KEYS)
def test_a_training_from_before_versions_has_the_key_of_version_1(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = MODELS.load(name)
    assert key_of(name) == OLD_KEYS[name]
    monkeypatch.setattr(module, "VERSION", 2)
    assert key_of(name) != OLD_KEYS[name]


def test_a_transfer_from_before_versions_has_the_key_of_version_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config: Config = load("resnet50_pets").config
    assert training_key(config, "0" * 64) == OLD_TRANSFER_KEY
    monkeypatch.setattr(loop, "VERSION", 2)
    assert training_key(config, "0" * 64) == OLD_TRANSFER_KEY, "it takes no part in a transfer"
    monkeypatch.setattr(fit, "VERSION", 2)
    assert training_key(config, "0" * 64) != OLD_TRANSFER_KEY


def test_a_comment_orphans_no_training_and_another_version_does(
    own_run: RunDirectory, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {"config_name": "digits", "training_key": OLD_KEYS["bn_cnn"], "config": {}}
    own_run.write_meta(old | {"config": own_run.meta()["config"]})
    commented = tmp_path / "bn_cnn.py"
    commented.write_text(Path(str(bn_cnn.__file__)).read_text(encoding="utf-8") + "# One more.\n")
    monkeypatch.setattr(bn_cnn, "__file__", str(commented))
    assert train(load("digits", OLD_SETTINGS), paths, NullListener()) == own_run
    monkeypatch.setattr(loop, "VERSION", 2)
    assert train(load("digits", OLD_SETTINGS), paths, NullListener()) != own_run


def test_a_network_without_a_version_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(bn_cnn, "VERSION")
    with pytest.raises(ConfigError, match="'bn_cnn' .*VERSION") as caught:
        key_of("bn_cnn")
    assert "\n" not in str(caught.value)
