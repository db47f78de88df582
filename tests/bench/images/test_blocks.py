"""Images that are more than fit into memory are read, chosen and written a part at a time."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foldbench.bench.config.comparison import EvaluateSection
from foldbench.bench.config.data import DataSection
from foldbench.bench.errors import RunError
from foldbench.bench.images import blocks
from foldbench.bench.images.blocks import blocks_of, map_blocks
from foldbench.bench.images.image_set import Split, content_sha256
from foldbench.bench.images.loading import load_data
from foldbench.bench.measure.evaluation import prepare_evaluation
from foldbench.bench.progress import NullListener
from foldbench.bench.workers.protocol import Job
from foldbench.bench.workers.server import WorkerServer

SIDE, COUNT = 128, 1000
PEAK, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Mean:
    """A network that gives the means of each image's channels."""

    device, runtime, threads, precision = "cpu", "none", 1, "float32"

    def bind(self, x: np.ndarray) -> None:
        self._x = x

    def step(self) -> None:
        self._output = self._x.mean((2, 3), dtype=np.float32)

    def synchronize(self) -> None:
        pass

    def output(self) -> np.ndarray:
        return self._output


def growth_of(call: Callable[[], None]) -> int:
    """Return by how many bytes a call's highest resident set exceeds the one before it."""
    try:
        RESET.write_text("5")
    except OSError:
        pytest.skip("only Linux resets the highest resident set")
    before = int(re.findall(r"VmRSS:\s+(\d+)", PEAK.read_text())[0])
    call()
    return 1024 * (int(re.findall(r"VmHWM:\s+(\d+)", PEAK.read_text())[0]) - before)


def measure(path: Path, **settings: object) -> None:
    """Do all that a comparison does with images, in one process."""
    data = DataSection(name="images", path=str(path), image_size=SIDE, **settings)
    images = load_data(data, path.parent / "cache", NullListener(), needs_train=False)
    with prepare_evaluation(EvaluateSection(), images.test) as (evaluation, _):
        folder = path.parent
        job = Job("fake", "cpu", 1, "folded", folder, path, evaluation.images, (0.5,) * 3,
                  (0.5,) * 3, classes=3, batch_size=8)  # fmt: skip
        assert len(WorkerServer(job, session=Mean()).evaluate()) == images.info.test_count


@pytest.mark.parametrize("form", ["npy", "npz", "resized", "set aside"])
def test_what_images_take_of_memory_does_not_grow_with_their_number(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2**20)
    side = SIDE // 2 if form == "resized" else SIDE

    def write(count: int) -> Path:
        path = tmp_path / f"{count}.npy"
        shape = (count, side, side, 3)
        images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)  # a hole in the file
        if form == "npy":
            return path
        np.savez(path.with_suffix(".npz"), images=images, labels=np.arange(count) % 2)
        return path.with_suffix(".npz")

    settings = {"calibration_share": 0.25} if form == "set aside" else {}
    measure(write(8), **settings)  # what is imported is there by now
    path = write(COUNT)
    assert growth_of(lambda: measure(path, **settings)) < COUNT * SIDE * SIDE * 3 / 2


@pytest.mark.parametrize(
    "turn", [lambda x: x, lambda x: x.transpose(0, 3, 1, 2), lambda x: x[::-1]]
)
def test_parts_together_are_the_whole(
    turn: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 100)
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 4, 5), np.uint8)
    np.save(tmp_path / "a.npy", images)
    mapped = turn(np.load(tmp_path / "a.npy", mmap_mode="r"))
    np.testing.assert_array_equal(np.concatenate(list(blocks_of(mapped))), turn(images))
    rows = np.array([5, 0, 3])
    part, copy = Split(mapped, rows % 2).part(np.arange(2)), Split(images, None).part(rows)
    np.testing.assert_array_equal(part.images, turn(images)[:2])
    np.testing.assert_array_equal(copy.images, images[rows])
    whole = np.ascontiguousarray(turn(images))
    assert content_sha256(Split(mapped, None)) == content_sha256(Split(whole, None))


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blocks, "write_npy", refuse)
    with pytest.raises(RunError, match=r"6 B.*TMPDIR"):
        map_blocks((2, 3), np.uint8, [])
