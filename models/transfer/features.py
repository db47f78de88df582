"""Features of a pretrained network: taken once from each image, and kept on the disk.

The key stands for everything that they follow from, so features that are found are the ones that
would be computed.
"""

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foldbench.bench import units
from foldbench.bench.arrays import Floats, Pixels
from foldbench.bench.errors import DataError, RunError, TrainingError, one_line
from foldbench.bench.images.image_set import ImageSet
from foldbench.bench.images.preprocessing import preprocess
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Preprocessing
from foldbench.bench.store.files import file_sha256, json_sha256, write_text, write_with
from foldbench.bench.store.temporary import filling

_log = logging.getLogger("foldbench")
_VERSION = 1
"""Changes whenever the same key would stand for other features."""

_HASHES = "sha256.json"
_RANDOM_LAYERS = ("DropPath", "StochasticDepth", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d")


@dataclass(frozen=True)
class Features:
    """What the network makes of both splits."""

    train: Floats
    """(N, D) float32; may be a read-only memory map."""
    test: Floats
    """(M, D) float32."""
    key: str
    extract_s: float
    from_cache: bool


@dataclass(frozen=True)
class Extraction:
    """How features are taken."""

    preprocessing: Preprocessing
    batch_size: int
    device: str
    """``cpu`` or ``cuda``."""
    random_layers: bool
    """Whether layers are left out at random, and dropout applied."""
    seed: int


def take_features(
    network: Any,
    identity: Mapping[str, Any],
    data: ImageSet,
    how: Extraction,
    cache: Path,
    listener: ProgressListener,
) -> Features:
    """Return the features of all images by `network`, a FeatureClassifier, in eval mode.

    `identity` tells its weights, its shape and whose code it is. Raises TrainingError when the
    network gives something that is not finite or runs out of memory, DataError when the cache
    cannot be written.
    """
    import torch

    started = time.perf_counter()
    train_images = data.require_train("taking features")
    key = json_sha256(
        {
            "version": _VERSION,
            "torch": torch.__version__,
            "network": dict(identity),
            "images": data.info.key,
            "preprocessing": how.preprocessing.model_dump(mode="json"),
            "device": how.device,
            "random": [how.seed, how.batch_size] if how.random_layers else None,
        }
    )
    folder = cache / "features" / key[:24]
    found = _load(folder, (len(train_images), len(data.test)))
    if found is not None:
        seconds = time.perf_counter() - started
        listener.note(f"features of {units.count(found[0].shape[1])} numbers, from {folder}")
        return Features(*found, key, seconds, from_cache=True)
    total = len(train_images) + len(data.test)
    listener.begin("taking features", total)
    torch.manual_seed(how.seed)
    network.to(how.device)
    network.eval()
    if how.random_layers:
        for part in network.modules():
            if type(part).__name__ in _RANDOM_LAYERS:
                part.train()
    train = _extract(network, train_images.require_pixels("a pretrained network"), how, listener, 0)
    test = _extract(
        network, data.test.require_pixels("a pretrained network"), how, listener, len(train)
    )
    network.eval()
    network.to("cpu")
    listener.end()
    _save(folder, train, test)
    return Features(train, test, key, time.perf_counter() - started, from_cache=False)


def _extract(
    network: Any,
    images: Pixels,
    how: Extraction,
    listener: ProgressListener,
    done: int,
) -> Floats:
    import torch

    parts = []
    try:
        with torch.inference_mode():
            for start in range(0, len(images), how.batch_size):
                x = preprocess(images[start : start + how.batch_size], how.preprocessing)
                parts.append(network.features(torch.from_numpy(x).to(how.device)).cpu().numpy())
                listener.advance(done + start + len(x))
    except (RuntimeError, MemoryError) as error:
        raise TrainingError(
            f"torch could not take features of {how.batch_size} images at a time: "
            f"{one_line(error, 160)}: lower transfer.batch_size"
        ) from error
    features: Floats = np.concatenate(parts)
    if not np.isfinite(features).all():
        raise TrainingError("the network's features are not all finite: its weights are damaged")
    return features


def _load(folder: Path, counts: tuple[int, int]) -> tuple[Floats, Floats] | None:
    """Return the features of both splits, None when they are not there or damaged."""
    try:
        train, test = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("train", "test")
        )
        shapes = (len(train), len(test), train.ndim, test.shape[1:])
        float32 = train.dtype == test.dtype == np.float32
        if shapes != (*counts, 2, train.shape[1:]) or not float32:
            raise ValueError(f"they are {train.dtype} {train.shape} and {test.dtype} {test.shape}")
        if json.loads((folder / _HASHES).read_text(encoding="utf-8")) != _hashes(folder):
            raise ValueError("they are not the ones that were written")
    except (OSError, ValueError, EOFError) as error:
        if os.path.exists(folder / "test.npy"):
            _log.warning("features in %s are damaged: %s", folder, one_line(error))
        return None
    return train, test


def _hashes(folder: Path) -> dict[str, str]:
    return {name: file_sha256(folder / f"{name}.npy") for name in ("train", "test")}


def _save(folder: Path, train: Floats, test: Floats) -> None:
    """Write both arrays, each whole or not at all; their hashes come last."""
    try:
        with filling(folder):
            for name, array in (("train", train), ("test", test)):
                write_with(folder / f"{name}.npy", partial(np.save, arr=array, allow_pickle=False))
            write_text(folder / _HASHES, json.dumps(_hashes(folder)))
    except (OSError, RunError) as error:
        raise DataError(
            f"cannot keep features in {folder}: {error.__cause__ or error}; free space there, or "
            "set FOLDBENCH_CACHE to a folder that can be written"
        ) from error
