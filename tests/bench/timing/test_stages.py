"""From file to class: stages sum up to the whole way, and what they give is what predict gives."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders import make_row
from foldbench.bench.analysis.stages import stage_rows
from foldbench.bench.errors import DataError
from foldbench.bench.images.preprocessing import preprocess
from foldbench.bench.measure.calling.stages import image_files
from foldbench.bench.predict.picture import fit_picture, open_picture
from foldbench.bench.records import AsCalled, Preprocessing, StageBlock, StageSeries
from foldbench.bench.samples.calling import STAGES, STAGES_INSIDE
from foldbench.bench.timing.loop import BlockOptions
from foldbench.bench.timing.simulation import FakeClock, FakeSession
from foldbench.bench.timing.stages import time_stages
from foldbench.bench.workers.image_stages import steps_of_image_file, steps_to_class

TIMES_S = (1e-3, 4e-3, 2e-3, 1e-3, 2e-3, 5e-4)


def timed(calls: int = 3) -> StageBlock:
    clock = FakeClock()

    def step(seconds: float):
        def run(value: str) -> str:
            clock.advance(seconds)
            return value

        return run

    return time_stages([step(s) for s in TIMES_S], ["a", "b"], BlockOptions(calls, 0, 0), clock)


def test_stages_sum_up_to_the_whole_way() -> None:
    block = timed()
    assert block.samples_s == pytest.approx([sum(TIMES_S)] * 3)
    for part, seconds in zip(block.parts_s, TIMES_S, strict=True):
        assert part == pytest.approx([seconds] * 3)


def test_what_comes_before_the_network_is_held_against_it() -> None:
    blocks = tuple(
        StageBlock(round=n, samples_s=timed().samples_s, parts_s=timed().parts_s) for n in range(8)
    )
    series = StageSeries(files=1, bytes_mean=1000.0, blocks=blocks)
    (row,) = stage_rows(make_row("ort", "folded", as_called=AsCalled(stages=(series,))))
    assert row.whole_s == pytest.approx(sum(TIMES_S))
    assert row.before is not None
    assert row.before.point == pytest.approx(8e-3 / 2e-3)
    assert list(row.stages_s) == list(STAGES)
    assert stage_rows(make_row("ort", "folded")) == []


def test_a_graph_with_the_preprocessing_is_held_against_the_way_around() -> None:
    def series(inside: bool, parts: tuple[float, ...]) -> StageSeries:
        blocks = tuple(
            StageBlock(round=n, samples_s=(sum(parts),), parts_s=tuple((s,) for s in parts))
            for n in range(8)
        )
        return StageSeries(inside=inside, files=1, bytes_mean=1e3, blocks=blocks)

    both = (series(False, TIMES_S), series(True, (1e-3, 4e-3, 2.5e-4)))
    outside, inside = stage_rows(make_row("ort", "folded", as_called=AsCalled(stages=both)))
    assert (outside.gain, outside.inside) == (None, False)
    assert list(inside.stages_s) == list(STAGES_INSIDE)
    assert inside.gain is not None
    assert inside.gain.point == pytest.approx(2)
    assert inside.verdict == "faster"
    assert inside.before is not None
    assert inside.before.point == pytest.approx(20)


class Whole(FakeSession):
    """Takes an image, gives two probabilities."""

    def output(self) -> np.ndarray:
        return np.array([[0.25, 0.75]], np.float32)


def test_a_graph_with_the_preprocessing_is_given_the_image_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype(np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    read, decode, infer = steps_of_image_file(Whole(lambda size: 1e-3, FakeClock()))
    np.testing.assert_array_equal(decode(read(path)), pixels)
    assert infer(pixels) == (1, 0.75)


class Seeing(FakeSession):
    """Keeps what it was given."""

    seen: np.ndarray

    def bind(self, x: np.ndarray) -> None:
        super().bind(x)
        self.seen = x


def test_the_network_is_given_what_predict_gives_it(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype(np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels).save(path)
    how = Preprocessing(input_shape=(3, 16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
    session = Seeing(lambda size: 1e-3, FakeClock())
    value: object = path
    for step in steps_to_class(session, how):
        value = step(value)
    expected = preprocess(fit_picture(open_picture(path), how, "photo"), how)
    np.testing.assert_array_equal(session.seen, expected)
    assert isinstance(value, tuple)
    assert value[0] == int(session.output().argmax())
    assert value[1] == pytest.approx(float(np.e / (np.e + 9)))


def test_a_folder_gives_its_images_and_one_without_any_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image file"):
        image_files(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("sub/b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in image_files(tmp_path)] == ["a.png", "b.JPG"]
    assert image_files(tmp_path / "notes.txt") == (tmp_path / "notes.txt",)
