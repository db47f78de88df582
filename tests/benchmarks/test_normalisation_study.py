"""The study of normalisations: what it measures, that it goes on, and what a bias is for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from benchmarks import normalisation_study as study
from foldbench.bench.config.files import load
from foldbench.bench.images.image_set import Split
from foldbench.models.building.network import build_model

SHAPE = (3, 32, 32)


def run(out: Path, cache: Path, *more: str) -> Result:
    command = ["--quick", "--config=digits", "--set=model.name=bn_cnn", "--set=train.threads=1"]
    command += ["--set=data.subset=200", "--out", str(out), "--cache", str(cache), *more]
    return CliRunner().invoke(study.main, command)


def test_it_stores_every_training_and_goes_on_with_those_that_are_missing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(out, tmp_path)
    assert first.exit_code == 0, first.output
    page = (out / "normalisation_study.md").read_text(encoding="utf-8")
    assert page in first.output
    assert (out / "normalisation_study.svg").stat().st_size > 5000
    place = out / "normalisation_study.json"
    stored = json.loads(place.read_text(encoding="utf-8"))
    assert len(stored["cells"]) == 4
    group = [cell for cell in stored["cells"] if cell["norm"] == "group"]
    assert all(cell["accuracy"] == cell["batch_accuracy"] for cell in group)

    kept = {**stored["cells"][0], "accuracy": 0.5}  # to see that it is not trained again
    place.write_text(json.dumps({**stored, "cells": [kept, *stored["cells"][1:3]]}))
    assert run(out, tmp_path).exit_code == 0
    again = json.loads(place.read_text(encoding="utf-8"))["cells"]
    assert again == [kept, *stored["cells"][1:]]

    other = run(out, tmp_path, "--set=train.weight_decay=0.5")
    assert other.exit_code == 1
    assert place.name in other.output
    assert json.loads(place.read_text(encoding="utf-8"))["cells"] == again


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_bias_before_a_norm_of_single_channels_changes_nothing(norm: str) -> None:
    found = study.take_biases_away(load("bn_cnn"), norm)
    assert found.parameters - found.parameters_without == 32 + 64 + 64
    assert found.output_difference < 1e-13
    assert found.gradient_difference < 1e-13
    assert found.bias_gradient < 1e-13


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_a_bias_before_a_norm_that_channels_share_does_something(norm: str) -> None:
    found = study.take_biases_away(load("bn_cnn"), norm)
    assert found.output_difference > 1e-3
    assert found.bias_gradient > 1e-3


@pytest.mark.parametrize("name", ["bn_cnn", "deep_mish"])
def test_a_trained_networks_biases_can_go_into_the_running_means(name: str) -> None:
    full = build_model(name, {}, 10, SHAPE).double()
    for _ in range(3):
        full(torch.randn(8, *SHAPE, dtype=torch.float64))
    bare = build_model(name, {"bias_before_norm": False}, 10, SHAPE).double().eval()
    state = {key: value.clone() for key, value in full.state_dict().items()}
    wanted = bare.state_dict()
    norms = [key.removesuffix("running_mean") for key in state if key.endswith("running_mean")]
    layers = [key.removesuffix("bias") for key in state if key.endswith("bias")]
    gone = [layer for layer in layers if f"{layer}bias" not in wanted]
    assert len(gone) == len(norms)
    for layer, norm in zip(gone, norms, strict=True):
        state[f"{norm}running_mean"] -= state.pop(f"{layer}bias")
    bare.load_state_dict(state)
    x = torch.randn(4, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(bare(x), full.eval()(x))


def test_learning_rates_grow_with_the_square_root_of_the_batch_size() -> None:
    assert study.rate_for(0.01, 128) == 0.01
    assert study.rate_for(0.01, 32) == pytest.approx(0.005)


def test_a_last_image_alone_is_left_out_of_a_score() -> None:
    model = build_model("bn_cnn", {}, 10, SHAPE).train()
    inputs, labels = torch.randn(9, *SHAPE), torch.zeros(9, dtype=torch.int64)
    loss, accuracy = study.score(model, inputs, labels, 4)
    assert loss > 0
    assert accuracy * 8 == round(accuracy * 8)


def test_test_images_of_a_sorted_data_set_are_mixed_and_always_the_same() -> None:
    labels = np.repeat(np.arange(10), 100)
    test = Split(labels.astype(np.uint8)[:, None, None, None], labels)
    drawn = study.draw_test(test, 500)
    assert np.array_equal(np.bincount(drawn.labels), np.full(10, 50))
    assert np.array_equal(drawn.images.ravel(), drawn.labels)
    assert all(len(set(drawn.labels[start : start + 50])) == 10 for start in range(0, 500, 50))
    assert np.array_equal(drawn.labels, study.draw_test(test, 500).labels)
