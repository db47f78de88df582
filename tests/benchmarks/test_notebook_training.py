"""The notebook's way of training against ours: what is timed, and what follows from it."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks import notebook_training as study
from benchmarks.notebook_training import Block, Round
from builders import small_split
from foldbench.bench.config.files import load
from foldbench.bench.errors import ConfigError
from foldbench.models.building.network import build_model
from foldbench.reports.rows.homework import references

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def rounds(**seconds: tuple[float, ...]) -> list[Round]:
    """One round for each element, blocks of 100 images."""
    count = len(next(iter(seconds.values())))
    return [
        Round(tuple(Block(way, n, 100, times[n]) for way, times in seconds.items()), 0.0)
        for n in range(count)
    ]


def test_both_ways_are_timed_and_every_block_is_stored(tmp_path: Path) -> None:
    config = tmp_path / "ours.yaml"
    config.write_text(
        "extends: digits\nmodel: {name: bn_cnn}\n"
        "train: {epochs: 3, ema_decay: 0.9, batch_size: 16, channels_last: false}\n"
    )
    out = tmp_path / "out"
    command = [str(config), "--quick", "--cache", str(tmp_path), "--out", str(out)]
    done = CliRunner().invoke(study.main, command)
    assert done.exit_code == 0, done.output
    page = (out / "notebook_training.md").read_text(encoding="utf-8")
    assert page in done.output
    stored = json.loads((out / "notebook_training.json").read_text(encoding="utf-8"))
    assert [r["way"] for r in stored["results"]] == ["notebook", "ours"]
    assert [r["epochs"] for r in stored["results"]] == [30, 3]
    assert len(stored["start_s"]) == len(stored["rounds"]) == 2
    for one in stored["rounds"]:
        assert {b["way"] for b in one["blocks"]} == {"notebook", "ours"}
        assert all(b["images"] >= 64 and b["seconds"] > 0 for b in one["blocks"])


def test_whole_trainings_follow_from_images_epochs_and_what_comes_on_top() -> None:
    found = study.evaluate(
        rounds(notebook=(2.0,) * 8, ours=(0.5,) * 8),
        {"notebook": 30, "ours": 10},
        images=1000,
        start_s=1.0,
        ends_s={"ours": 6.0},
    )
    notebook, ours = found
    assert notebook.training_s == pytest.approx(30 * (1000 * 0.02 + 1))
    assert notebook.share == 1
    assert ours.speed_up.point == pytest.approx(4)
    assert ours.training_s == pytest.approx(10 * 1000 * 0.005 + 6)
    assert ours.share == pytest.approx(56 / 630)
    assert ours.share_low == pytest.approx(ours.share)


def test_an_interval_of_the_ratio_becomes_one_of_the_share() -> None:
    ours = study.evaluate(
        rounds(notebook=(2.0,) * 8, ours=(0.4, 0.5, 0.6, 0.5, 0.4, 0.6, 0.5, 0.45)),
        {"notebook": 30, "ours": 10}, images=1000, start_s=0.0, ends_s={},
    )[1]  # fmt: skip
    assert ours.share_low is not None
    assert ours.share_high is not None
    assert ours.share_low < ours.share < ours.share_high
    assert ours.share_low == pytest.approx(10 / 30 / ours.speed_up.high)


def test_rounds_beside_a_neighbour_are_replaced_and_in_the_end_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads = iter([0.0, 0.0, 1.5, *[0.0] * 20])
    monkeypatch.setattr(study, "measure_foreign_load", lambda: next(loads))
    sizes = study.Sizes(rounds=3, images=1)
    made = study.run_rounds({"notebook": lambda _: (1, 1.0)}, sizes, lambda _: None)
    assert [study.is_quiet(one, sizes) for one in made] == [True, False, False, True, True]
    monkeypatch.setattr(study, "measure_foreign_load", lambda: 2.0)
    assert len(study.run_rounds({"x": lambda _: (1, 1.0)}, sizes, lambda _: None)) == 6


def test_the_notebooks_pictures_are_flipped_cropped_and_normalised_one_by_one() -> None:
    split = small_split(4)
    pictures = study.Pictures(split, references()["bn_cnn"])
    torch.manual_seed(0)
    seen = [pictures[0][0] for _ in range(12)]
    assert len({tuple(picture.flatten().tolist()) for picture in seen}) > 6
    assert all(picture.shape == (3, 8, 8) for picture in seen)
    assert min(float(picture.min()) for picture in seen) == -1  # black from the padding
    assert pictures[3][1] == split.labels[3]


def test_our_way_goes_through_every_image_before_it_begins_again() -> None:
    loaded = load("digits", ["model.name=bn_cnn", "train.batch_size=16", "train.threads=1"])
    with ExitStack() as stack:
        way = study.OurWay(build_model("bn_cnn", {}, 2, (3, 32, 32)), small_32(), loaded, stack)
        assert way.block(study.Sizes(1, 40, 0))[0] == 40  # 16, 16 and the 8 that are left
        assert way.block(study.Sizes(1, 40, 1))[0] == 40


def small_32():
    split = small_split()
    return type(split)(split.images.repeat(4, 2).repeat(4, 3), split.labels)


def test_configurations_of_several_networks_are_refused() -> None:
    with pytest.raises(ConfigError, match="found configurations for bn_cnn, deep_mish; allowed"):
        study.pick_reference([load("bn_cnn"), load("deep_mish")])
