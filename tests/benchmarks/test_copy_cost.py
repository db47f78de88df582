"""What a lossy copy costs: images lose as much once more, and a network learns from both."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from benchmarks import copy_cost as study
from foldbench.bench.errors import DataError
from foldbench.bench.images.image_set import Split


def pictures(count: int = 12, side: int = 32) -> np.ndarray:
    """Return (count, 3, side, side) uint8: smooth ones with some noise, all different."""
    chance = np.random.default_rng(0)
    ramp = np.linspace(0, 200, side)
    noise = chance.integers(0, 40, (count, 3, side, side))
    return (noise + ramp[None, None, :, None] * chance.random((count, 3, 1, 1))).astype(np.uint8)


def run(tmp_path: Path, *more: str) -> Result:
    command = ["--config=digits", "--set=model.name=bn_cnn", "--set=train.threads=1"]
    command += [
        "--set=train.epochs=1",
        "--set=data.subset=200",
        "--set=data.image_size=16",
        "--cache",
        str(tmp_path / "cache"),
        *more,
    ]
    return CliRunner().invoke(study.main, command)


def test_every_training_is_stored_and_the_mean_difference_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(tmp_path, "--quality=20", "--seeds=2", f"--out={out}")
    assert result.exit_code == 0, result.output
    page = (out / "copy_cost_bn_cnn.md").read_text(encoding="utf-8")
    assert page in result.output
    stored = json.loads((out / "copy_cost_bn_cnn.json").read_text(encoding="utf-8"))
    assert [(c["seed"], c["times"]) for c in stored["cells"]] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    cells = [study.Cell(**cell) for cell in stored["cells"]]
    mean, half = study.difference_of(cells)
    assert f"**{mean:.2f} ± {half:.2f} (95 %" in page
    assert stored["losses"][0]["mean_absolute"] > 1
    assert str(tmp_path) not in page + json.dumps(stored)


def test_the_difference_is_paired_by_seed_with_students_interval() -> None:
    pairs = [(0.80, 0.78), (0.70, 0.69), (0.90, 0.87)]
    cells = [study.Cell(n, seed, pair[n - 1]) for seed, pair in enumerate(pairs) for n in (1, 2)]
    mean, half = study.difference_of(cells)
    assert mean == pytest.approx(2.0)
    assert half == pytest.approx(4.3027 / 3**0.5, rel=1e-4)  # t of 2 degrees, deviation 1
    assert np.isnan(study.difference_of(cells[:2])[1])


def test_the_quality_is_the_one_at_which_as_much_is_lost_again() -> None:
    copies = pictures()
    first = study.loss_of(copies, study.compress(copies, 40))
    assert study.quality_for(copies, first) == 40


@pytest.mark.parametrize("side", [8, 32, 33])
def test_compression_keeps_the_size_and_loses_more_at_lower_quality(side: int) -> None:
    images = pictures(4, side)
    found = {quality: study.compress(images, quality) for quality in (20, 90)}
    assert all(f.shape == images.shape and f.dtype == np.uint8 for f in found.values())
    errors = {q: study.loss_of(images, f).mean_absolute for q, f in found.items()}
    assert 0 < errors[90] < errors[20]
    assert study.loss_of(images, images).psnr_db == float("inf")


def test_copies_of_originals_are_found_within_their_class(tmp_path: Path) -> None:
    originals = pictures()
    labels = np.arange(12) % 3
    for number in (0, 4):
        path = tmp_path / f"cifar10_{number:02}_{labels[number]}.png"
        Image.fromarray(originals[number].transpose(1, 2, 0)).save(path)
    read, read_labels = study.read_originals(tmp_path)
    assert np.array_equal(read, originals[[0, 4]])
    assert read_labels.tolist() == [0, 1]
    copy = study.compress(originals, 80)
    found = study.find_copies(read, read_labels, Split(copy, labels))
    assert np.array_equal(found, copy[[0, 4]])


def test_a_folder_without_originals_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file cifar10_<number>_<label>.png"):
        study.read_originals(tmp_path)
    both = run(tmp_path, "--quality=20", f"--originals={tmp_path}")
    assert both.exit_code == 2
    assert {"--originals", "--quality"} <= set(re.findall(r"--\w+", both.output))
