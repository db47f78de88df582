"""CutMix: a box of another image, and that image's label in proportion."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from builders import PREPROCESSING, small_split
from foldbench.bench.config.schema import Config
from foldbench.bench.config.training import TrainSection
from foldbench.bench.progress import NullListener
from foldbench.bench.stages.settings import training_settings
from foldbench.models.training.augment import cut_mix, normalise
from foldbench.models.training.process_group import ProcessGroup
from foldbench.models.training.trainer import Trainer


def chance(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(
    count=st.integers(2, 5),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_image_keeps_all_but_one_box_of_the_image_before_it(
    count: int, height: int, width: int, share: float, seed: int
) -> None:
    images = torch.arange(count * 3 * height * width).reshape(count, 3, height, width)
    mixed, kept = cut_mix(images, share, chance(seed))
    for number in range(count):
        own, before, found = images[number], images[number - 1], mixed[number]
        pasted = (found == before).all(0)
        assert torch.equal(found[:, ~pasted], own[:, ~pasted])
        rows, columns = pasted.any(1), pasted.any(0)
        assert torch.equal(pasted, rows[:, None] & columns[None])
        for line in (rows.nonzero().flatten(), columns.nonzero().flatten()):
            assert torch.equal(line.diff(), torch.ones(max(0, len(line) - 1), dtype=torch.int64))
        assert float(kept[number]) == pytest.approx(1 - float(pasted.float().mean()), abs=1e-6)


def test_the_share_is_that_of_the_images_and_a_box_has_any_size() -> None:
    images = torch.zeros(10_000, 1, 32, 32)
    _, none = cut_mix(images, 0.0, chance(0))
    assert torch.equal(none, torch.ones(len(images)))
    _, some = cut_mix(images, 0.3, chance(0))
    # Five standard errors; boxes of less than half a pixel are one in a thousand.
    assert float((some < 1).float().mean()) == pytest.approx(0.3, abs=0.024)
    _, every = cut_mix(images, 1.0, chance(0))
    # Of a box of side s (of the image's) around a point anywhere in the image, s - s^2 / 4 lies
    # within it each way, on average; the mean of its square over a uniform s^2 is 77 / 240.
    assert float(every.mean()) == pytest.approx(1 - 77 / 240, abs=0.012)
    assert float(every.min()) < 0.05
    assert float(every.quantile(0.99)) > 0.98


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_mixed_image_is_of_both_labels_in_proportion(
    monkeypatch: pytest.MonkeyPatch, parts: int, smoothing: float
) -> None:
    split = small_split()
    count = len(split.labels)
    kept = torch.rand(count, generator=chance(1))

    def known(images: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return images, kept

    monkeypatch.setattr("foldbench.models.training.batches.cut_mix", known)
    section = TrainSection.model_validate(
        {
            "batch_size": count,
            "micro_batches": parts,
            "label_smoothing": smoothing,
            "augment": {"flip": False, "crop_padding": 0, "cutmix": 0.5},
        }
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(split.images[0].size, 10))
    trainer = Trainer(
        model, split, None, network=model, process_group=ProcessGroup(), settings=section,
        preprocessing=PREPROCESSING, seed=0, listener=NullListener(),
    )  # fmt: skip
    images, labels = torch.tensor(split.images), torch.tensor(split.labels)
    held = trainer.train
    inputs = normalise(images, held.mean, held.std)
    with torch.no_grad():
        logits = model(inputs)
    before = torch.stack([labels[number - 1] for number in range(count)])
    own, other = (
        cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)
        for y in (labels, before)
    )
    loss, hits = trainer.step(torch.arange(count), 1, chance(0))
    assert float(loss) == pytest.approx(float((kept * own + (1 - kept) * other).mean()), rel=1e-5)
    larger = torch.where(kept < 0.5, before, labels)
    assert int(hits) == int((logits.argmax(1) == larger).sum())


def test_trainings_without_it_are_known_by_the_same_key_as_before_it_existed() -> None:
    model = {"name": "bn_cnn"}
    plain = training_settings(Config.model_validate({"model": model}))
    assert "cutmix" not in plain["train.augment"]
    with_it = {"model": model, "train": {"augment": {"cutmix": 0.5}}}
    found = training_settings(Config.model_validate(with_it))
    assert found["train.augment"] == {**plain["train.augment"], "cutmix": 0.5}
