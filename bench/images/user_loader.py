"""What a function of the user's yields, written into a file of the cache by a process of its own.

Run as a module it is that process: the user's code runs there alone, and a crash is an error of one
line here.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from foldbench.bench.errors import BenchError, DataError, cut, one_line
from foldbench.bench.images.array_files import Arrays
from foldbench.bench.images.cache import prepare
from foldbench.bench.store.files import json_sha256
from foldbench.bench.user_code import import_attribute

_FORM = (
    "allowed: a function that returns or yields batches, each (images, labels) or images alone, as "
    "arrays or tensors: uint8 or float32, all of one shape"
)
_HEADER_BYTES = 256


def split_spec(path: Path) -> tuple[Path, str] | None:
    """Return the file and the function that ``loader.py:make`` names; None for anything else."""
    file, colon, name = str(path).rpartition(":")
    return (Path(file), name) if colon and file.endswith(".py") and name.isidentifier() else None


def run_loader(file: Path, name: str, cache: Path) -> Arrays:
    """Return all that the function yields, mapped from a file; raise DataError when it fails."""
    if not file.is_file():
        raise DataError(f"{file} does not exist: correct --data, such as loader.py:make")
    folder = cache / "images" / f"loader-{json_sha256([str(file.resolve()), name])[:24]}"
    prepare(folder)
    job = json.dumps([str(file.resolve()), name, str(folder)])
    done = subprocess.run([sys.executable, "-m", __name__, job], capture_output=True, check=False)
    answer = done.stdout.decode("utf-8", "replace").rpartition("\n{")[2]
    try:
        said: dict[str, Any] = json.loads(f"{{{answer}" if answer else "{}")
    except json.JSONDecodeError:
        said = {}
    if "count" not in said:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        reason = said.get("error") or last or f"its process ended (exit code {done.returncode})"
        raise DataError(f"{file}:{name}: {cut(' '.join(reason.split()), 300)}; {_FORM}")
    images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
    if not said["labelled"]:
        return Arrays(images, None)
    return Arrays(images, np.load(folder / "labels.npy", allow_pickle=False))


def _serve(job: str) -> None:
    """Run the user's function and write what it yields; print what came of it as JSON."""
    file, name, folder = json.loads(job)
    try:
        said = _write(_batches(Path(file), name), Path(folder))
    except BenchError as error:
        said = {"error": str(error)}
    except Exception as error:  # the user's code may raise anything
        said = {"error": f"{type(error).__name__}: {one_line(error)}"}
    sys.stdout.write(f"\n{json.dumps(said)}")
    sys.stdout.flush()


def _batches(file: Path, name: str) -> Iterator[Any]:
    function = import_attribute(f"{file}:{name}")
    return iter(function() if callable(function) else function)


def _write(batches: Iterator[Any], folder: Path) -> dict[str, Any]:
    temporary = folder / "images.part"
    labels: list[np.ndarray] = []
    count, first, labelled = 0, None, None
    with temporary.open("wb") as stream:
        stream.write(bytes(_HEADER_BYTES))
        for batch in batches:
            images, numbers = _arrays(batch)
            first = first if first is not None else images[:0]
            labelled = labelled if labelled is not None else numbers is not None
            if images.shape[1:] != first.shape[1:] or images.dtype != first.dtype:
                raise DataError(
                    f"batch {len(labels)} is {images.dtype} {images.shape}, the first one "
                    f"{first.dtype} {first.shape[1:]}"
                )
            if labelled != (numbers is not None):
                raise DataError("some batches have labels and others have none")
            stream.write(np.ascontiguousarray(images).data)
            labels.append(np.zeros(0, np.int64) if numbers is None else numbers.astype(np.int64))
            count += len(images)
        if first is None or not count:
            raise DataError("it yields nothing")
        stream.seek(0)
        stream.write(_header(first.dtype, (count, *first.shape[1:])))
    temporary.replace(folder / "images.npy")
    np.save(folder / "labels.npy", np.concatenate(labels), allow_pickle=False)
    return {"count": count, "labelled": labelled}


def _arrays(batch: Any) -> tuple[np.ndarray, np.ndarray | None]:
    parts = batch if isinstance(batch, tuple | list) else (batch,)
    if len(parts) not in (1, 2):
        raise DataError(f"a batch has {len(parts)} parts")
    images = np.asarray(parts[0])
    if images.dtype not in (np.uint8, np.float32) or images.ndim not in (3, 4):
        raise DataError(f"a batch of images is {images.dtype} {images.shape}")
    if len(parts) == 1:
        return images, None
    labels = np.atleast_1d(np.asarray(parts[1]))
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise DataError(f"{len(images)} images have labels {labels.dtype} {labels.shape}")
    return images, labels


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return the beginning of a .npy file, always of the same size."""
    text = repr({"descr": dtype.str, "fortran_order": False, "shape": shape}).encode()
    room = _HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.ljust(room - 1) + b"\n"


if __name__ == "__main__":
    _serve(sys.argv[1])
