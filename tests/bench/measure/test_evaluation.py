"""What contenders are given: without labels, as floats, from a mapped file without a copy."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from builders import QUICK, make_job
from foldbench.bench.backends import Floats
from foldbench.bench.config.comparison import EvaluateSection
from foldbench.bench.images.image_set import Split
from foldbench.bench.measure.comparison import _to_accuracy
from foldbench.bench.measure.evaluation import Evaluation, prepare_evaluation
from foldbench.bench.measure.input_check import check_input, other_inputs
from foldbench.bench.measure.running import Contender
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Preprocessing
from foldbench.bench.stages.compare import compare_run
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.timing.simulation import FakeClock, FakeSession
from foldbench.bench.workers.protocol import Job
from foldbench.bench.workers.server import WorkerServer
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.sections.compose import build as build_report

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 5), np.uint8)
LABELS = np.array([0, 1, 0, 1, 1, 0])


def prepared_path(images: np.ndarray, labels: np.ndarray | None = LABELS, **settings) -> tuple:
    with prepare_evaluation(EvaluateSection(**settings), Split(images, labels)) as (found, sha256):
        return found.images.is_symlink(), np.load(found.images), sha256


def test_a_file_that_images_are_mapped_from_is_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    is_link, found, sha256 = prepared_path(mapped)
    assert is_link
    np.testing.assert_array_equal(found, PIXELS)
    assert prepared_path(PIXELS)[::2] == (False, sha256)
    assert (tmp_path / "a.npy").is_file()


@pytest.mark.parametrize("change", ["part", "order", "mirror"])
def test_what_is_not_the_whole_file_is_copied(tmp_path: Path, change: str) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    images = {"part": mapped[1:], "order": mapped[::-1], "mirror": mapped}[change]
    is_link, found, _ = prepared_path(images, LABELS[: len(images)], mirror=change == "mirror")
    assert not is_link
    np.testing.assert_array_equal(found[: len(images)], images)


def test_without_labels_there_is_confidence_and_no_accuracy(tmp_path: Path) -> None:
    evaluation = Evaluation("clean", tmp_path / "x.npy", None, 2, unlabelled=2)
    logits = np.log(np.array([[0.9, 0.1], [0.3, 0.7]], np.float32))
    accuracy = _to_accuracy(SimpleNamespace(logits=logits, input_probes=()), evaluation, logits)
    assert accuracy is not None
    assert (accuracy.correct, accuracy.total, accuracy.top1) == (None, 2, (0, 1))
    assert accuracy.mean_confidence == pytest.approx(0.8)


def test_noise_tells_latency_and_agreement_alone(own_run: RunDirectory, paths: Paths) -> None:
    overrides = [o for o in QUICK if o.startswith("compare.")]
    overrides += ["compare.backends=[torch]", "data.name=noise", "data.test_subset=12"]
    record = compare_run(own_run, overrides, paths, NullListener())
    assert record.labels is None
    for row in record.measurements:
        assert row.accuracy is not None
        assert row.accuracy.correct is None
        assert row.accuracy.agreement is not None
    text = " ".join(render_terminal(build_report([record])).split())
    assert "no labels" in text


class Bright:
    """A network that tells whether red is brighter than blue, on inputs of -1..1 alone."""

    device, runtime, threads, precision = "cpu", "none", 1, "float32"

    def bind(self, x: np.ndarray) -> None:
        self._x = x

    def step(self) -> None:
        means = self._x.mean((2, 3))
        usable = np.abs(self._x).max() <= 1.001
        red, blue = means[:, 0] + 2.0, means[:, 2] + 2.0
        self._output = np.stack([red, blue], 1) if usable else np.stack([blue, red], 1)

    def synchronize(self) -> None:
        pass

    def output(self) -> np.ndarray:
        return self._output.astype(np.float32)


def probed(tmp_path: Path, swapped: bool, mean: float, std: float) -> dict[str, int]:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    pixels = random.integers(0, 100, (60, 3, 4, 4), np.uint8)
    pixels[labels == 0, 2 if swapped else 0] += 100
    pixels[labels == 1, 0 if swapped else 2] += 100
    np.save(tmp_path / "x.npy", pixels)
    size = dict.fromkeys(("folder", "path"), tmp_path)
    job = Job("fake", "cpu", 1, "folded", **size, images=tmp_path / "x.npy", mean=(mean,) * 3,
              std=(std,) * 3, classes=2, batch_size=25)  # fmt: skip
    worker = WorkerServer(job, session=Bright())
    spec = SimpleNamespace(name="torch", status="ok", reason=None)
    contender = Contender(spec, worker)
    contender.result.logits = worker.evaluate()
    evaluation = Evaluation("clean", tmp_path / "x.npy", labels, 25)
    preprocessing = Preprocessing(input_shape=(3, 4, 4), mean=(mean,) * 3, std=(std,) * 3)
    check_input([contender], "torch", evaluation, preprocessing, NullListener())
    return {probe.what: probe.correct for probe in contender.result.input_probes}


def test_swapped_channels_are_found_out(tmp_path: Path) -> None:
    found = probed(tmp_path, True, 0.5, 0.5)
    assert found["swapped channels"] == 60


def test_a_forgotten_normalisation_is_found_out(tmp_path: Path) -> None:
    found = probed(tmp_path, False, 0.0, 1 / 255)
    assert found["-1..1"] == found["0..1"] == 60


def test_nothing_is_tried_where_the_answers_are_right(tmp_path: Path) -> None:
    assert probed(tmp_path, False, 0.5, 0.5) == {}


def test_what_is_stated_is_not_tried_again() -> None:
    imagenet = Preprocessing(
        input_shape=(3, 8, 8), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    assert other_inputs(imagenet, floats=False) == ["swapped channels", "0..1", "0..255", "-1..1"]
    assert other_inputs(imagenet, floats=True) == ["swapped channels"]
    grey = Preprocessing(input_shape=(1, 8, 8), mean=(0.0,), std=(1.0,))
    assert other_inputs(grey, floats=False) == ["0..255", "-1..1"]


class OnePlace(FakeSession):
    """Writes each answer over the one before."""

    def __init__(self) -> None:
        super().__init__(lambda _: 0.0, FakeClock())
        self._place = np.zeros((16, 10), np.float32)

    def output(self) -> Floats:
        found = super().output()
        self._place[: len(found)] = found
        return self._place[: len(found)]


def test_an_answer_that_the_next_one_is_written_over_is_kept(tmp_path: Path) -> None:
    images = np.zeros((10, 3, 4, 4), np.uint8)
    images[:, :, 0, 0] = np.arange(10)[:, None]
    np.save(tmp_path / "images.npy", images)
    server = WorkerServer(make_job(tmp_path / "images.npy", batch_size=4), session=OnePlace())
    assert server.evaluate().argmax(1).tolist() == [*range(10)]
    asked = np.arange(10)[::-1]
    found = server.evaluate_as(asked, (0.0,) * 3, (1 / 255,) * 3, False)
    assert found.argmax(1).tolist() == asked.tolist()
