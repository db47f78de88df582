"""What a fast recipe adds to training: averaged weights, alternating flips, cutout, own rates."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from builders import PREPROCESSING, QUICK, small_model, small_split
from foldbench.bench.config.files import load
from foldbench.bench.config.training import TrainSection
from foldbench.bench.errors import ConfigError, DataError
from foldbench.bench.images.image_set import Split
from foldbench.bench.images.splits import draw_subset
from foldbench.bench.progress import NullListener
from foldbench.bench.stages.settings import settings_of
from foldbench.bench.stages.train import train
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.store.files import json_sha256
from foldbench.models.building.network import start_as_identity
from foldbench.models.training.augment import cut_out, flip_and_crop, toss_coins
from foldbench.models.training.averaging import WeightAverage
from foldbench.models.training.batches import split_batches
from foldbench.models.training.loop import train_model
from foldbench.models.training.muon import Muon, MuonWithAdamW
from foldbench.models.training.optimization import base_rates, make_optimizer, make_scheduler
from foldbench.models.training.resume import Resume

RECIPE = {
    "optimizer": "sgd",
    "learning_rate": 2.0,
    "decoupled": True,
    "decay_norm_and_bias": False,
    "norm_bias_factor": 4.0,
    "ema_decay": 0.9,
    "initial_weights": "dirac",
    "label_smoothing": 0.1,
    "schedule": {"name": "one_cycle"},
    "augment": {
        "alternating_flip": True,
        "crop_padding": 1,
        "crop_edge": "reflect",
        "cutout": 2,
        "cutmix": 0.5,
    },
    "micro_batches": 2,
    "precision": "bfloat16",
    "channels_last": True,
}


class Stop(Exception):
    pass


class StopAfterOne(NullListener):
    def note(self, text: str) -> None:
        if text.startswith("epoch 1/"):
            raise Stop


def fit(folder: Path, model: nn.Module, listener: NullListener | None = None, **options: object):
    section = TrainSection.model_validate(
        {"epochs": 3, "batch_size": 16, "device": "cpu", **RECIPE, **options}
    )
    folder.mkdir(exist_ok=True)
    return train_model(
        model, small_split(), small_split(10), settings=section, preprocessing=PREPROCESSING,
        seed=0, resume=Resume(folder / "resume.pt", "key"), listener=listener or NullListener(),
    )  # fmt: skip


def states_equal(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_a_training_by_the_whole_recipe_learns_and_goes_on_to_the_same_weights(
    optimizer: str, tmp_path: Path
) -> None:
    options = MUON if optimizer == "muon" else {}
    whole, halves, resumed = small_model(), small_model(), small_model()
    history = fit(tmp_path / "whole", whole, **options)
    assert history[-1].loss < history[0].loss
    with pytest.raises(Stop):
        fit(tmp_path / "halves", halves, StopAfterOne(), **options)
    assert fit(tmp_path / "halves", resumed, **options)[-1].loss == history[-1].loss
    assert states_equal(whole, resumed)
    assert not states_equal(whole, halves)


def test_a_training_killed_between_its_last_epoch_and_its_end_ends_the_same(tmp_path: Path) -> None:
    whole, again = small_model(), small_model()
    fit(tmp_path, whole)
    fit(tmp_path, again)  # the state of the last epoch is still there
    assert states_equal(whole, again)


def test_the_average_keeps_less_of_itself_in_the_first_steps_and_then_its_share() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    average = WeightAverage(model, decay=0.3)
    expected = 0.0
    for step, value in enumerate((1.0, 2.0, -3.0, 4.0, 5.0), start=1):
        nn.init.constant_(model.weight, value)
        average.update()
        kept = min(0.3, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * value
    average.settle([])
    assert model.weight.item() == pytest.approx(expected, rel=1e-6)


def test_statistics_of_averaged_weights_are_those_of_the_averaged_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    average = WeightAverage(model, decay=0.5)
    batches = [torch.randn(8, 3, 8, 8) for _ in range(3)]
    with torch.no_grad():
        model[0].weight.mul_(3)
    average.update()
    average.settle(iter(batches))
    features = [model[0](batch).detach() for batch in batches]
    means = torch.stack([f.mean((0, 2, 3)) for f in features]).mean(0)
    variances = torch.stack([f.var((0, 2, 3)) for f in features]).mean(0)
    torch.testing.assert_close(model[1].running_mean, means)
    torch.testing.assert_close(model[1].running_var, variances)
    assert model[1].momentum == 0.1


def test_looking_at_averaged_weights_leaves_the_training_as_it_was() -> None:
    model = small_model()
    average = WeightAverage(model, decay=0.9)
    with torch.no_grad():
        model[0].weight.add_(1)
    average.update()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with average.in_place([torch.randn(4, 3, 8, 8)]):
        assert not torch.equal(model[0].weight, before["0.weight"])
        assert not torch.equal(model[1].running_mean, before["1.running_mean"])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_averaged_weights_are_saved_and_the_ones_of_the_last_step_are_not(tmp_path: Path) -> None:
    averaged, plain = small_model(), small_model()
    fit(tmp_path / "a", averaged, ema_decay=0.9)
    fit(tmp_path / "b", plain, ema_decay=0.0)
    assert not torch.equal(averaged[0].weight, plain[0].weight)
    state = torch.load(tmp_path / "a" / "resume.pt", weights_only=True)["parts"]
    assert torch.equal(state["model"]["0.weight"], plain[0].weight)
    assert torch.equal(state["average"]["averages"][0], averaged[0].weight)


@settings(deadline=None)
@given(count=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
def test_alternating_flips_show_every_image_both_ways_in_two_epochs(count: int, seed: int) -> None:
    images = torch.arange(count * 9).reshape(count, 1, 3, 3)
    coins = toss_coins(count, seed)
    epochs = [
        flip_and_crop(
            images,
            flip=True,
            crop_padding=0,
            generator=torch.Generator().manual_seed(0),
            mirrored=coins ^ odd,
        )
        for odd in (False, True)
    ]
    assert torch.equal(epochs[0].flip(3), epochs[1])
    assert torch.equal(toss_coins(count, seed), coins)


@settings(deadline=None)
@given(
    padding=st.integers(0, 9), height=st.integers(1, 6), width=st.integers(1, 6), seed=st.integers()
)
def test_a_reflected_edge_is_that_of_numpy(
    padding: int, height: int, width: int, seed: int
) -> None:
    images = torch.arange(2 * height * width, dtype=torch.uint8).reshape(2, 1, height, width)
    generator = torch.Generator().manual_seed(seed % 2**32)
    found = flip_and_crop(
        images, flip=True, crop_padding=padding, generator=generator, reflect=True
    ).numpy()
    for image, crop in zip(images.numpy(), found, strict=True):
        edges = ((0, 0), (padding, padding), (padding, padding))
        windows = [
            np.pad(one, edges, mode="reflect")[:, y : y + height, x : x + width]
            for one in (image, image[..., ::-1])
            for y in range(2 * padding + 1)
            for x in range(2 * padding + 1)
        ]
        assert any(np.array_equal(crop, window) for window in windows)


def test_the_first_epochs_coins_fall_on_either_side() -> None:
    assert 400 < int(toss_coins(1000, 3).sum()) < 600


def test_training_with_alternating_flips_mirrors_by_the_epochs_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def spy(images, *, mirrored, **options):
        seen.append(mirrored)
        return flip_and_crop(images, mirrored=mirrored, **options)

    monkeypatch.setattr("foldbench.models.training.batches.flip_and_crop", spy)
    fit(tmp_path, small_model(), batch_size=40, epochs=3, ema_decay=0.0)
    counts = [int(mirrored.sum()) for mirrored in seen]
    assert counts == [counts[0], 40 - counts[0], counts[0]]


@settings(deadline=None)
@given(
    size=st.integers(1, 12), height=st.integers(2, 9), width=st.integers(2, 9), seed=st.integers()
)
def test_cutout_zeroes_one_square_inside_each_image_and_nothing_else(
    size: int, height: int, width: int, seed: int
) -> None:
    images = torch.rand(4, 3, height, width) + 1
    found = cut_out(images, size, torch.Generator().manual_seed(seed % 2**32))
    for image, cut in zip(images, found, strict=True):
        gone = (cut == 0).all(0)
        rows, columns = gone.any(1).nonzero().flatten(), gone.any(0).nonzero().flatten()
        assert len(rows) == min(size, height)
        assert len(columns) == min(size, width)
        assert int(gone.sum()) == len(rows) * len(columns)
        assert int(rows[-1] - rows[0]) == len(rows) - 1
        assert int(columns[-1] - columns[0]) == len(columns) - 1
        assert torch.equal(cut[:, ~gone], image[:, ~gone])


def test_weight_decay_can_leave_biases_and_normalisations_alone() -> None:
    model = small_model()
    together = make_optimizer(model, TrainSection(weight_decay=0.1))
    assert len(together.param_groups) == 1
    apart = make_optimizer(model, TrainSection(weight_decay=0.1, decay_norm_and_bias=False))
    decays = {id(p): group["weight_decay"] for group in apart.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        matrix = name in ("0.weight", "5.weight")
        assert decays[id(parameter)] == (0.1 if matrix else 0.0), name


def test_biases_of_normalisations_can_have_a_rate_of_their_own_and_the_same_decay() -> None:
    model = small_model()
    settings = TrainSection(learning_rate=0.1, weight_decay=0.01, norm_bias_factor=8)
    fast, *others = sorted(make_optimizer(model, settings).param_groups, key=lambda g: -g["lr"])
    assert fast["params"] == [model[1].bias]
    assert fast["lr"] == pytest.approx(0.8)
    assert {group["lr"] for group in others} == {0.1}
    assert fast["lr"] * fast["weight_decay"] == pytest.approx(0.1 * 0.01)


def test_decoupled_rates_are_those_of_the_published_recipe() -> None:
    # airbench94: 11.5 for 1,024 images, momentum 0.85, decay 0.0153: rate 1.5 for mean losses.
    settings = TrainSection(
        optimizer="sgd", decoupled=True, learning_rate=11.5, momentum=0.85,
        weight_decay=0.0153, batch_size=1024,
    )  # fmt: skip
    rate, decay = base_rates(settings)
    assert rate == pytest.approx(1.5)
    assert rate * decay == pytest.approx(1.5 / 11.5 * 0.0153)


def test_decoupled_rates_follow_the_batch_size_and_their_product_not_the_rate() -> None:
    def rates(**changes: float) -> tuple[float, float]:
        options = {"learning_rate": 4.0, "batch_size": 256, "weight_decay": 0.02, **changes}
        return base_rates(TrainSection(optimizer="sgd", decoupled=True, **options))

    rate, decay = rates()
    assert rates(batch_size=512) == pytest.approx((2 * rate, decay))
    other_rate, other_decay = rates(learning_rate=8.0)
    assert other_rate == pytest.approx(2 * rate)
    assert other_rate * other_decay == pytest.approx(rate * decay)


def test_decoupled_rates_are_refused_for_other_optimizers() -> None:
    with pytest.raises(ConfigError, match=r"decoupled .*'sgd', not 'adamw'"):
        load("digits", ["train.decoupled=true"])


MUON = {"optimizer": "muon", "decoupled": False, "learning_rate": 0.02}


def one_step(model: nn.Module, **options: object) -> dict[str, torch.Tensor]:
    """Return what a first step changes, by parameter; the gradients are the same every time."""
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = make_optimizer(model, TrainSection.model_validate({"weight_decay": 0, **options}))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter)
    optimizer.step()
    return {name: value.detach() - before[name] for name, value in model.named_parameters()}


def test_muon_steps_hidden_matrices_along_every_direction_alike_and_as_far_as_adamw() -> None:
    steps = one_step(small_model(), **MUON)
    step = steps["0.weight"].flatten(1)  # 4 filters of 27 weights
    singular = torch.linalg.svdvals(step) / (0.02 * 0.2 * 27**0.5)
    assert 0.6 < float(singular.min()) <= float(singular.max()) < 1.3


def test_muon_leaves_vectors_and_what_the_network_ends_with_to_adamw() -> None:
    muon, adamw = (
        one_step(small_model(), **{**MUON, "optimizer": name}) for name in ("muon", "adamw")
    )
    different = {name for name in muon if not torch.allclose(muon[name], adamw[name], atol=1e-6)}
    assert different == {"0.weight"}


def test_muon_takes_the_same_step_in_either_memory_layout() -> None:
    rows, last = small_model(), small_model().to(memory_format=torch.channels_last)
    assert not last[0].weight.is_contiguous()
    ours, theirs = one_step(rows, **MUON), one_step(last, **MUON)
    torch.testing.assert_close(ours["0.weight"], theirs["0.weight"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_muon_is_torchs_but_for_the_rounding_to_bfloat16(shape: tuple[int, int]) -> None:
    torch.manual_seed(2)
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    group = {"params": [ours], "lr": 0.02, "weight_decay": 0.1}
    own = Muon([group], momentum=0.9)
    torchs = torch.optim.Muon(
        [theirs], lr=0.02, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        own.step()
        torchs.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)
    torchs.load_state_dict({**torchs.state_dict(), "state": own.state_dict()["state"]})


def test_muon_for_a_network_of_one_matrix_is_adamw() -> None:
    muon, adamw = (
        one_step(nn.Linear(5, 3), **{**MUON, "optimizer": name}) for name in ("muon", "adamw")
    )
    for name, step in muon.items():
        torch.testing.assert_close(step, adamw[name])


def test_muon_forgets_its_gradients_and_follows_its_schedule_after_going_on() -> None:
    model, settings = small_model(), TrainSection.model_validate({**MUON, "epochs": 2})
    optimizer = make_optimizer(model, settings)
    assert isinstance(optimizer, MuonWithAdamW)
    optimizer.load_state_dict(optimizer.state_dict())
    scheduler = make_scheduler(optimizer, TrainSection(schedule={"name": "cosine"}, epochs=2), 2)
    model(torch.randn(4, 3, 8, 8)).sum().backward()
    assert model[0].weight.grad is not None
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    expected = 0.02 * (1 + np.cos(0.75 * np.pi)) / 2
    for part in optimizer._parts:
        assert [group["lr"] for group in part.param_groups] == [pytest.approx(expected)]
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_batch_in_parts_makes_the_step_of_the_whole_batch(tmp_path: Path) -> None:
    def trained(parts: int) -> tuple[nn.Module, float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
        options = {"micro_batches": parts, "precision": "float32", "initial_weights": "default"}
        return model, fit(tmp_path / str(parts), model, **options)[-1].loss

    (whole, loss), (parts, loss_of_parts) = trained(1), trained(3)
    assert loss_of_parts == pytest.approx(loss, rel=1e-4)
    torch.testing.assert_close(whole.state_dict(), parts.state_dict(), rtol=1e-3, atol=1e-5)


@given(count=st.integers(2, 200), size=st.integers(2, 64), parts=st.integers(1, 8))
def test_no_part_of_a_batch_is_a_single_image_where_there_are_enough(
    count: int, size: int, parts: int
) -> None:
    batches = list(split_batches(count, max(size, 2 * parts), torch.Generator(), 2 * parts))
    assert sum(len(batch) for batch in batches) == count
    if count >= 2 * parts:
        assert all(len(part) > 1 for batch in batches for part in batch.tensor_split(parts))


def test_more_parts_than_images_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"micro_batches is 9.*batch_size is 16"):
        load("digits", ["train.batch_size=16", "train.micro_batches=9"])


@pytest.mark.parametrize("setting", ["train.ema_decay=0.9", "data.subset=10"])
def test_what_means_nothing_for_a_linear_layer_on_features_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.partition("=")[0]):
        load("resnet50_pets", [setting])


@pytest.mark.parametrize(("channels", "filters"), [(3, 8), (8, 8), (8, 3)])
def test_convolutions_can_begin_by_passing_on_what_they_are_given(
    channels: int, filters: int
) -> None:
    convolution = nn.Conv2d(channels, filters, 3, padding=1)
    random = convolution.weight.detach().clone()
    start_as_identity(nn.Sequential(convolution))
    x = torch.randn(2, channels, 5, 5)
    passed = min(channels, filters)
    bias = convolution.bias[:passed, None, None]
    torch.testing.assert_close(convolution(x)[:, :passed] - bias, x[:, :passed])
    assert torch.equal(convolution.weight[passed:], random[passed:])


def test_a_subset_is_drawn_with_the_seed_and_without_repeats() -> None:
    split = small_split()
    numbered = Split(np.arange(40, dtype=np.uint8)[:, None, None, None], split.labels)
    drawn = draw_subset(numbered, 15, seed=1)
    assert len(set(drawn.images.ravel().tolist())) == 15
    assert np.array_equal(drawn.images, draw_subset(numbered, 15, seed=1).images)
    assert not np.array_equal(drawn.images, draw_subset(numbered, 15, seed=2).images)
    assert draw_subset(numbered, None, seed=1) is numbered
    with pytest.raises(DataError, match=r"data\.subset is 41, .* 40 images"):
        draw_subset(numbered, 41, seed=1)


def test_a_subset_is_another_training_and_is_what_is_trained_on(paths: Paths) -> None:
    overrides = [*QUICK, "train.validation_fraction=0", "train.batch_size=20"]
    part = train(load("digits", [*overrides, "data.subset=40"]), paths, NullListener())
    other = train(load("digits", [*overrides, "data.subset=60"]), paths, NullListener())
    assert part != other
    assert part.checkpoint().history[0].accuracy * 40 == pytest.approx(
        round(part.checkpoint().history[0].accuracy * 40)
    )


def test_a_run_from_before_these_settings_can_still_be_worked_with(own_run: RunDirectory) -> None:
    path = own_run.path / "checkpoint.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    for key in ("ema_decay", "decoupled", "initial_weights"):
        del record["config"]["train"][key]
    for key in ("cutout", "cutmix", "alternating_flip"):
        del record["config"]["train"]["augment"][key]
    record["config_sha256"] = json_sha256(record["config"])
    path.write_text(json.dumps(record), encoding="utf-8")
    assert settings_of(own_run, own_run.checkpoint(), ()).train.ema_decay == 0
    with pytest.raises(ConfigError, match=r"train\.ema_decay: .*0\.0.*digits-001"):
        settings_of(own_run, own_run.checkpoint(), ["train.ema_decay=0.5"])
