"""Training: augmentation, batches, schedules, and going on after being killed."""

import re
import signal
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from builders import PREPROCESSING, QUICK, run_training, small_model, small_split
from foldbench.bench.config.files import load
from foldbench.bench.config.training import TrainSection
from foldbench.bench.errors import RunError, TrainingError
from foldbench.bench.progress import NullListener
from foldbench.bench.stages.train import train
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.models.training.augment import flip_and_crop, normalise
from foldbench.models.training.batches import (
    COINS,
    STATISTICS,
    draw_seed,
    seed_epoch,
    split_batches,
)
from foldbench.models.training.device import pick_device
from foldbench.models.training.loop import train_model
from foldbench.models.training.optimization import one_cycle_factor
from foldbench.models.training.resume import Resume


class Told(NullListener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 6), size=st.integers(2, 9), padding=st.integers(0, 4), seed=st.integers()
)
def test_flip_and_crop_gives_windows_of_the_padded_image_or_its_mirror(
    count: int, size: int, padding: int, seed: int
) -> None:
    images = torch.arange(1, count * 3 * size * size + 1).reshape(count, 3, size, size)
    generator = torch.Generator().manual_seed(seed % 2**32)
    result = flip_and_crop(images, flip=True, crop_padding=padding, generator=generator)
    for image, found in zip(images, result, strict=True):
        # torchvision flips the image first and pads after: windows of the padded mirror image.
        windows = [
            padded[:, y : y + size, x : x + size]
            for padded in (nn.functional.pad(one, (padding,) * 4) for one in (image, image.flip(2)))
            for y in range(2 * padding + 1)
            for x in range(2 * padding + 1)
        ]
        assert any(torch.equal(found, window) for window in windows)


def test_flips_and_crops_are_as_frequent_as_they_should_be() -> None:
    images = torch.arange(16).reshape(1, 1, 4, 4).expand(4000, 1, 4, 4)
    generator = torch.Generator().manual_seed(0)
    found = flip_and_crop(images, flip=True, crop_padding=1, generator=generator)
    kinds, counts = found.flatten(1).unique(dim=0, return_counts=True)
    assert len(kinds) == 18  # nine places, mirrored or not
    assert counts.min() > 4000 / 18 * 0.75


def test_without_flip_and_padding_nothing_changes() -> None:
    images = torch.randint(0, 255, (5, 3, 8, 8), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(
        flip_and_crop(images, flip=False, crop_padding=0, generator=generator), images
    )


def test_normalise_maps_black_to_minus_one_and_white_to_one() -> None:
    half = torch.full((3, 1, 1), 0.5)
    images = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 2, 2)
    low, high = normalise(images, half, half)
    assert low.eq(-1).all()
    assert high.eq(1).all()


@given(count=st.integers(1, 200), size=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
def test_batches_hold_every_image_once_and_none_holds_a_single_one_if_it_can_be_helped(
    count: int, size: int, seed: int
) -> None:
    batches = list(split_batches(count, size, torch.Generator().manual_seed(seed)))
    assert sorted(torch.cat(batches).tolist()) == list(range(count))
    if count > 1 and size > 1:
        assert all(len(batch) > 1 for batch in batches)


def test_epochs_differ_from_one_another_and_repeat_with_the_seed() -> None:
    draw = {
        key: torch.rand(3, generator=seed_epoch(*key)).tolist() for key in [(0, 1), (0, 2), (1, 1)]
    }
    assert len({tuple(v) for v in draw.values()}) == 3
    assert torch.rand(3, generator=seed_epoch(0, 1)).tolist() == draw[0, 1]


def test_the_processes_of_a_team_and_the_statistics_of_an_average_draw_differently() -> None:
    purposes = [(), (COINS,), (STATISTICS,)]
    seeds = {draw_seed(7, epoch, *purpose) for epoch in range(4) for purpose in purposes}
    seeds |= {draw_seed(7, epoch, rank=rank) for epoch in range(4) for rank in range(1, 9)}
    assert len(seeds) == 4 * (3 + 8)
    assert draw_seed(7, 1, rank=0) == draw_seed(7, 1), "rank 0 draws what one process draws"


@pytest.mark.parametrize("name", ["constant", "step", "cosine", "one_cycle"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "muon"])
def test_every_schedule_and_optimizer_learns_an_easy_task(
    name: str, optimizer: str, tmp_path: Path
) -> None:
    history = run_training(
        tmp_path, small_model(), epochs=6, optimizer=optimizer, schedule={"name": name}
    )
    assert history[-1].loss < history[0].loss
    assert history[-1].accuracy > 0.7


def test_the_step_schedule_of_the_homework_never_changes_the_rate_within_its_epochs(
    tmp_path: Path,
) -> None:
    history = run_training(tmp_path, small_model(), schedule={"name": "step", "step_size": 3})
    assert [round(e.learning_rate, 6) for e in history] == [0.01, 0.01, 0.001]


@given(steps=st.integers(1, 200), warmup=st.floats(0, 0.99))
def test_one_cycle_goes_up_to_the_peak_and_down_and_never_beyond(steps: int, warmup: float) -> None:
    factors = [one_cycle_factor(step, steps, warmup) for step in range(steps + 1)]
    assert all(0 <= factor <= 1 + 1e-12 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert factors[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"channels_last": True}])
def test_precision_and_layout_are_options_that_still_learn(options: dict, tmp_path: Path) -> None:
    assert run_training(tmp_path, small_model(), epochs=6, **options)[-1].accuracy > 0.7


@pytest.mark.parametrize("has", [True, False, None])
def test_bfloat16_without_instructions_for_it_names_the_faster_precision(
    has: bool | None, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foldbench.bench.stages.train.has_bfloat16", lambda: has)
    told = Told()
    train(load("digits", [*QUICK, "data.subset=20", "train.precision=bfloat16"]), paths, told)
    assert any("train.precision=float32" in note for note in told.notes) is (has is False)


def test_held_out_images_are_validated_on_as_they_are(tmp_path: Path) -> None:
    history = run_training(tmp_path, small_model(), held_out=small_split(10))
    assert all(epoch.validation_accuracy is not None for epoch in history)


def test_the_two_protocols_average_the_loss_differently(tmp_path: Path) -> None:
    losses = [
        run_training(tmp_path / protocol, small_model(), protocol=protocol, epochs=1)[0].loss
        for protocol in ("homework", "clean")
    ]
    # 40 images in batches of 16: the last batch of 8 counts as much as the others in the homework.
    assert losses[0] != pytest.approx(losses[1], abs=1e-9)
    assert losses[0] == pytest.approx(losses[1], rel=0.2)


def test_a_training_stopped_after_an_epoch_reaches_the_same_weights(tmp_path: Path) -> None:
    whole, halves = small_model(), small_model()
    run_training(tmp_path / "whole", whole, schedule={"name": "one_cycle"})

    class Stop(Exception):
        pass

    class StopAfterOne(NullListener):
        def note(self, text: str) -> None:
            if text.startswith("epoch 1/"):
                raise Stop

    section = TrainSection(
        epochs=3, batch_size=16, learning_rate=0.01, device="cpu", schedule={"name": "one_cycle"}
    )
    (tmp_path / "halves").mkdir()
    with pytest.raises(Stop):
        train_model(
            halves, small_split(), None, settings=section, preprocessing=PREPROCESSING, seed=0,
            resume=Resume(tmp_path / "halves" / "resume.pt", "key"), listener=StopAfterOne(),
        )  # fmt: skip
    fresh = small_model()
    history = run_training(tmp_path / "halves", fresh, schedule={"name": "one_cycle"})
    assert [epoch.epoch for epoch in history] == [1, 2, 3]
    for key, value in whole.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key


def test_a_training_killed_at_any_moment_goes_on_and_reaches_the_same_weights(
    tmp_path: Path, start_bench
) -> None:
    overrides = [
        *QUICK, "train.epochs=8", "train.batch_size=64", "train.ema_decay=0.9", "data.subset=200",
        "train.validation_fraction=0", "model.name=mish_cnn",
        "train.augment={alternating_flip: true, flip: true, cutout: 4}",
    ]  # fmt: skip
    whole = train(load("digits", overrides), Paths(tmp_path / "whole", tmp_path), NullListener())
    command = ["train", "digits", "--runs", str(tmp_path / "killed"), "--cache", str(tmp_path)]
    state = tmp_path / "killed" / "digits-001" / "resume.pt"
    process = start_bench(tmp_path / "said", *command, *(f"--set={text}" for text in overrides))
    while not state.exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL, "it ended before it could be killed"
    assert not (state.parent / "checkpoint.json").exists()
    told = Told()
    resumed = train(load("digits", overrides), Paths(state.parents[1], tmp_path), told)
    said = "\n".join(told.notes)
    epochs = {int(epoch) for epoch in re.findall(r"^epoch (\d+)/8", said, re.MULTILINE)}
    assert 1 not in epochs
    assert max(epochs) == 8
    assert [epoch.epoch for epoch in resumed.checkpoint().history] == list(range(1, 9))
    expected, found = (load_file(run.path / "weights.safetensors") for run in (whole, resumed))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert not state.exists()


def test_a_damaged_state_is_refused_and_left_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "resume.pt"
    path.write_bytes(b"damaged")
    with pytest.raises(RunError, match=re.escape(str(path))):
        run_training(tmp_path, small_model())
    assert path.read_bytes() == b"damaged"


def test_a_state_of_another_training_is_refused(tmp_path: Path) -> None:
    run_training(tmp_path, small_model())
    with pytest.raises(RunError, match="another configuration"):
        train_model(
            small_model(), small_split(), None, settings=TrainSection(device="cpu"), seed=0,
            preprocessing=PREPROCESSING, resume=Resume(tmp_path / "resume.pt", "other"),
            listener=NullListener(),
        )  # fmt: skip


def test_a_loss_that_is_no_number_stops_training_with_advice(tmp_path: Path) -> None:
    model = small_model()
    nn.init.constant_(model[0].weight, float("nan"))
    with pytest.raises(TrainingError, match=r"lower train\.learning_rate"):
        run_training(tmp_path, model)
    assert not (tmp_path / "resume.pt").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_asking_for_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(TrainingError, match="sees no CUDA device"):
        pick_device("cuda")
    assert pick_device("auto").type == "cpu"


def test_a_finished_training_is_not_done_again_unless_asked_or_changed(paths: Paths) -> None:
    few = [*QUICK, "data.subset=40"]
    first = train(load("digits", few), paths, NullListener())
    stamp = (first.path / "checkpoint.json").stat().st_mtime_ns
    assert train(load("digits", few), paths, NullListener()) == first
    assert (first.path / "checkpoint.json").stat().st_mtime_ns == stamp
    assert train(load("digits", [*few, "seed=1"]), paths, NullListener()).name == "digits-002"
    assert train(load("digits", few), paths, NullListener(), fresh=True).name == "digits-003"


def test_what_does_not_matter_to_the_weights_starts_no_new_training(
    own_run: RunDirectory, paths: Paths
) -> None:
    assert train(load("digits", [*QUICK, "compare.rounds=9"]), paths, NullListener()) == own_run
