"""The images of a call as the sections of a configuration that the processes read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foldbench.bench.api.arrays import to_images, to_labels, to_shape
from foldbench.bench.errors import DataError


def describe_images(
    folder: Path,
    images: Any,
    labels: Any,
    input_shape: Sequence[int] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    class_names: Sequence[str] | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the images into `folder`; return what the sections data and model say about them.

    Without images, random ones of `input_shape` (C, H, W) are meant. Raises DataError.
    """
    said = {"mean": mean, "std": std}
    data: dict[str, Any] = {key: list(value) for key, value in said.items() if value is not None}
    if images is None:
        data["name"] = "noise"
        shape = None if input_shape is None else to_shape(input_shape)
    else:
        data |= _write(folder / "images.npz", images, labels)
        shape = to_images(images).shape[1:]
        if data.pop("preprocessed"):
            if mean is not None or std is not None:
                raise DataError("mean and std are for uint8 images: float32 ones are the input")
            data |= {"mean": [0.0], "std": [1.0]}
        if input_shape is not None and to_shape(input_shape) != shape:
            raise DataError(f"images are {shape}, and input_shape is {tuple(input_shape)}")
    if shape is not None:
        data |= {"channels": shape[0], "image_size": list(shape[1:])}
    if class_names is None:
        return data, {}
    names = folder / "classes.txt"
    names.write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8")
    return data, {"classes": str(names)}


def _write(path: Path, images: Any, labels: Any) -> dict[str, Any]:
    arrays: dict[str, np.ndarray] = {"images": to_images(images)}
    if labels is not None:
        arrays["labels"] = to_labels(labels, len(arrays["images"]))
    np.savez(path, allow_pickle=False, **arrays)
    return {
        "name": "images",
        "path": str(path),
        "preprocessed": arrays["images"].dtype == np.float32,
    }
