"""CIFAR-10: 50,000 + 10,000 photographs, 32x32, from torchvision's files or as image files.

torchvision's files (``cifar-10-batches-py``) are pickles. torchvision opens a batch only after its
md5 matched the published one, and foldbench unpickles nothing itself. A path to a tar archive or to
a folder with train/<class>/* is read as `imagefolder` reads it, any other path as `images` does.
"""

from pathlib import Path
from time import perf_counter

import numpy as np
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity

from foldbench.bench.datasets import images
from foldbench.bench.errors import DataError, one_line
from foldbench.bench.images.folders import load_folders
from foldbench.bench.images.image_set import DataOptions, ImageSet, Split, make_image_set
from foldbench.bench.images.pixels import fit_all

_DOWNLOADED = "cifar-10-python.tar.gz"


def load(options: DataOptions) -> ImageSet:
    """Return CIFAR-10 from `options.path`, or from the cache folder, or downloaded on request.

    Raises DataError when the files are missing, damaged or cannot be downloaded.
    """
    started = perf_counter()
    path = options.path
    if path is not None and path.name == _DOWNLOADED and path.is_file():
        raise DataError(
            f"{path} is torchvision's archive, which is read unpacked: run "
            f"'tar xf {path.name}' there and give the folder with --data {path.parent}"
        )
    if path is not None and not path.exists() and not options.download:
        raise DataError(
            f"{path} does not exist: give a folder with torchvision's cifar-10-batches-py, or "
            "images as train/<class>/* and test/<class>/* in a folder or a .tar[.xz|.gz|.bz2]"
        )
    if path is not None and _holds_images(path):
        return load_folders(options, path)
    if path is not None and not options.download and not _holds_batches(path):
        return images.load(options)
    options.refuse_other_channels()
    root = _root(options)
    # The first one downloads; it also holds the test images.
    test_files = _open(root, False, options.download)
    train_files = _open(root, True, False)
    train, test = (_split(files, options) for files in (train_files, test_files))
    return make_image_set(
        train,
        test,
        name="cifar10",
        title="CIFAR-10",
        path=root,
        classes=train_files.classes,
        original=True,
        started=started,
    )


def _holds_images(path: Path) -> bool:
    """Return whether `path` is laid out as ever: a tar archive, or train/ beside test/ or val/."""
    if path.is_file():
        return path.name.lower().endswith((".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tgz"))
    return (path / "train").is_dir() and any((path / name).is_dir() for name in ("test", "val"))


def _holds_batches(path: Path) -> bool:
    return path.name == CIFAR10.base_folder or (path / CIFAR10.base_folder).is_dir()


def _root(options: DataOptions) -> Path:
    """Return the folder that holds, or is to hold, torchvision's folder."""
    path = options.path
    if path is None:
        return options.cache / "cifar10"
    return path.parent if path.name == CIFAR10.base_folder else path


def _split(files: CIFAR10, options: DataOptions) -> Split:
    images = np.ascontiguousarray(files.data.transpose(0, 3, 1, 2))
    fitted = fit_all(images, options.image_size, options.resize, options.channels)
    return Split(fitted, np.asarray(files.targets, np.int64))


def _open(root: Path, train: bool, download: bool) -> CIFAR10:
    try:
        return CIFAR10(root=str(root), train=train, download=download)
    except (RuntimeError, OSError) as error:
        if download:
            raise DataError(
                f"cannot download CIFAR-10 from {CIFAR10.url} into {root}: {one_line(error)}; "
                f"check the network and the folder, or {_ways(root, download=False)}"
            ) from error
        raise _refusal(root, error) from error


def _refusal(root: Path, error: Exception) -> DataError:
    """Say which of torchvision's files is missing or not the published one."""
    folder = root / CIFAR10.base_folder
    if not folder.is_dir():
        return DataError(f"CIFAR-10 is not there: no {folder}; {_ways(root)}")
    if isinstance(error, OSError):
        return DataError(
            f"{error.filename or folder} cannot be read: {error.strerror or error}; "
            "check that you may read it"
        )
    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    for name, md5 in (*CIFAR10.train_list, *CIFAR10.test_list, meta):
        if not check_integrity(str(folder / name), md5):
            fault = "does not have the published md5" if (folder / name).exists() else "is missing"
            return DataError(
                f"{folder / name} {fault}, so nothing was read from it: "
                f"remove {folder} and get CIFAR-10 again; {_ways(root)}"
            )
    return DataError(f"{folder} cannot be read: {one_line(error)}; {_ways(root)}")


def _ways(root: Path, download: bool = True) -> str:
    """Return the ways to get CIFAR-10, as the end of a message."""
    ways = (
        "give --data PATH with the folder that holds torchvision's cifar-10-batches-py, "
        "or --data PATH with images as train/<class>/* and test/<class>/* or a .tar[.xz] of them"
    )
    fetch = f", or --set data.download=true to let torchvision download 170 MB into {root}"
    return ways + (fetch if download else "")
