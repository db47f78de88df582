"""Averaging an image's logits with those of its mirror image: off unless asked for, and said."""

from types import SimpleNamespace

import numpy as np
import pytest

from builders import make_run
from foldbench.bench.config.comparison import EvaluateSection
from foldbench.bench.config.files import load
from foldbench.bench.images.image_set import Split
from foldbench.bench.measure.comparison import _to_accuracy
from foldbench.bench.measure.evaluation import Evaluation, prepare_evaluation
from foldbench.reports.formats.markdown import render_markdown
from foldbench.reports.rows.homework import deviations
from foldbench.reports.sections.compose import build as build_report


def split() -> Split:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 5)).astype(np.uint8)
    return Split(images, np.zeros(6, np.int64))


def test_it_is_off_in_every_config_that_comes_along() -> None:
    assert not EvaluateSection().mirror
    assert not load("fast_deep_mish").config.evaluate.mirror


@pytest.mark.parametrize("protocol", ["clean", "homework"])
def test_mirror_images_follow_the_images_they_belong_to(protocol) -> None:
    with prepare_evaluation(EvaluateSection(protocol=protocol), split()) as (plain, sha256):
        before = np.load(plain.images)
    settings = EvaluateSection(protocol=protocol, mirror=True)
    with prepare_evaluation(settings, split()) as (mirrored, other_sha256):
        found = np.load(mirrored.images)
    assert sha256 != other_sha256
    assert np.array_equal(found[:6], before)
    assert np.array_equal(found[6:], before[..., ::-1])


def test_the_average_of_both_views_decides(tmp_path) -> None:
    evaluation = Evaluation("clean", tmp_path / "x.npy", np.array([0, 1]), 2)
    views = np.array([[[3, 1], [1, 0]], [[0, 1], [0, 4]]], np.float32)
    logits = views.reshape(4, 2)
    accuracy = _to_accuracy(SimpleNamespace(logits=logits, input_probes=()), evaluation, logits)
    assert accuracy is not None
    assert (accuracy.top1, accuracy.correct, accuracy.total) == ((0, 1), 2, 2)
    one_view = _to_accuracy(SimpleNamespace(logits=logits[:2], input_probes=()), evaluation, None)
    assert one_view is not None
    assert (one_view.top1, one_view.correct) == ((0, 0), 1)


def test_agreement_is_that_of_the_averages_and_counts_test_images(tmp_path) -> None:
    evaluation = Evaluation("clean", tmp_path / "x.npy", np.array([0, 1]), 2)
    reference = np.array([[3, 1], [1, 0], [0, 1], [0, 4]], np.float32)  # both images, then mirrored
    other = reference.copy()
    other[2] = [1, 0.5]  # one view has another class, the average of both has not
    accuracy = _to_accuracy(SimpleNamespace(logits=other, input_probes=()), evaluation, reference)
    assert accuracy is not None
    found = accuracy.agreement
    assert found is not None
    assert (found.images, found.top1_equal) == (2, 2)
    assert found.max_abs_difference == 0.5
    assert found.max_rel_difference == 0.25


@pytest.fixture
def run():
    return make_run()


def test_the_report_says_so(run) -> None:
    config = {**run.config, "evaluate": {**run.config["evaluate"], "mirror": True}}
    mirrored = run.model_copy(update={"config": config})
    assert "mirror" in render_markdown(build_report([mirrored]))
    assert "mirror" not in render_markdown(build_report([run]))
    assert deviations(run) == ()
    (found,) = deviations(mirrored)
    assert found.here.startswith(f"{found.homework}, ")
    assert "mirror" in found.here
