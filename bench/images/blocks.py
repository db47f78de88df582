"""Images that may be more than fit into memory: read, chosen and written a part at a time."""

import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from foldbench.bench import units
from foldbench.bench.arrays import Rows
from foldbench.bench.errors import RunError

BLOCK_BYTES = 32 * 2**20
"""Of images that are looked at together."""

Array = npt.NDArray[Any]


def blocks_of(
    images: Array, rows: Rows | None = None, row_bytes: int | None = None
) -> Iterator[Array]:
    """Yield `images` (N, ...), or those in the order of `rows`, C-contiguous, a part at a time.

    A part has BLOCK_BYTES at most; `row_bytes` is the size of what is made of an image, where that
    is another one. The memory that a mapped file took is given back before the next part.
    """
    step = rows_of(row_bytes or images[:1].nbytes)
    for start in range(0, len(images if rows is None else rows), step):
        part = slice(start, start + step)
        yield np.ascontiguousarray(images[part if rows is None else rows[part]])
        release(images)


def rows_of(row_bytes: int) -> int:
    """Return how many rows of that size make a part."""
    return max(1, BLOCK_BYTES // max(1, row_bytes))


def release(images: Array) -> None:
    """Give back the memory that a mapped file took; what is read again comes from the file."""
    base: Any = images
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):  # Windows has none
        base.madvise(mmap.MADV_DONTNEED)


def write_npy(stream: IO[bytes], shape: Sequence[int], dtype: Any, blocks: Iterable[Array]) -> None:
    """Write a .npy file of `shape`, whose rows are those of `blocks` in turn."""
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(stream, header)
    for block in blocks:
        stream.write(np.ascontiguousarray(block).data)


def map_blocks(shape: Sequence[int], dtype: Any, blocks: Iterable[Array]) -> Array:
    """Return the rows of `blocks` as one array, mapped from a file that goes with it.

    Raises RunError where there is no room for the file.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    with tempfile.TemporaryFile() as file:
        try:
            write_npy(file, shape, dtype, blocks)
            file.flush()
        except OSError as error:
            raise no_room(size, tempfile.gettempdir(), error) from error
        return np.memmap(file, dtype, "r", file.tell() - size, tuple(shape))


def in_file(values: Array) -> Array:
    """Return an array that takes no memory: mapped from a file that goes with it."""
    return map_blocks(values.shape, values.dtype, [values])


def no_room(size_bytes: int, place: object, error: OSError) -> RunError:
    """Return the error for images that cannot be written among temporary files."""
    return RunError(
        f"cannot write the {units.size(size_bytes)} of images to {place}: {error}: free space "
        "there, or name another place with TMPDIR"
    )
