"""The training loop: images in memory, augmentation on the device, resumable after every epoch.

Every random choice of an epoch follows from the seed and the epoch's number alone, so training that
was killed and started again reaches the weights that it would have reached without.
"""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from bench.config import TrainSection
from bench.datasets import Split
from bench.errors import TrainingError, one_line
from bench.progress import Listener
from bench.records import Epoch, Preprocessing
from models._augment import flip_and_crop, normalise
from models._optimization import make_optimizer, make_scheduler
from models._resume import Resume, restore_state, save_state

_PROGRESS_INTERVAL_S = 0.2
_EVALUATION_BATCH = 500


@dataclass(frozen=True)
class _Images:
    """A split on the device."""

    images: Tensor
    """(N, C, H, W) uint8."""
    labels: Tensor
    """(N,) int64."""
    mean: Tensor
    std: Tensor
    """(C, 1, 1) float32."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class _Trainer:
    model: nn.Module
    settings: TrainSection
    device: torch.device
    seed: int
    train: _Images
    held_out: _Images | None
    optimizer: torch.optim.Optimizer
    scheduler: lr_scheduler.LRScheduler
    listener: Listener

    def run_epoch(self, epoch: int) -> Epoch:
        """Train on every image once, in an order and with changes drawn from seed and epoch."""
        generator = seed_epoch(self.seed, epoch)
        batches = list(split_batches(len(self.train), self.settings.batch_size, generator))
        self.model.train()
        started = last_told = time.perf_counter()
        loss_sum = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        seen = 0
        for number, indices in enumerate(batches, start=1):
            loss, hits = self._step(indices, generator)
            weight = 1 if self.settings.protocol == "homework" else len(indices)
            loss_sum += loss * weight
            correct += hits
            seen += len(indices)
            now = time.perf_counter()
            if now - last_told > _PROGRESS_INTERVAL_S:
                last_told = now
                divisor = number if self.settings.protocol == "homework" else seen
                self._tell(epoch, seen, float(loss_sum) / divisor, int(correct), now - started)
        divisor = len(batches) if self.settings.protocol == "homework" else seen
        loss = float(loss_sum) / divisor
        duration_s = time.perf_counter() - started
        if not math.isfinite(loss):
            raise TrainingError(
                f"the training loss became {loss} in epoch {epoch} at learning rate "
                f"{self.learning_rate():g}: lower train.learning_rate; the epochs before are kept"
            )
        if self.settings.schedule.name == "step":
            self.scheduler.step()
        return Epoch(
            epoch=epoch,
            loss=loss,
            accuracy=int(correct) / seen,
            validation_accuracy=self._validate(),
            learning_rate=self.learning_rate(),
            duration_s=duration_s,
            images_per_s=seen / duration_s,
        )

    def learning_rate(self) -> float:
        """Return the rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def _step(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Make one step; return the batch's mean loss and its number of correct answers."""
        indices = indices.to(self.device)
        augment = self.settings.augment
        pixels = flip_and_crop(
            self.train.images[indices],
            flip=augment.flip,
            crop_padding=augment.crop_padding,
            generator=generator,
        )
        labels = self.train.labels[indices]
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            logits = self.model(self._inputs(pixels, self.train))
        loss = nn.functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.settings.label_smoothing
        )
        loss.backward()
        self.optimizer.step()
        if self.settings.schedule.name != "step":
            self.scheduler.step()
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def _inputs(self, pixels: Tensor, source: _Images) -> Tensor:
        inputs = normalise(pixels, source.mean, source.std)
        layout = torch.channels_last if self.settings.channels_last else torch.contiguous_format
        return inputs.contiguous(memory_format=layout)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.settings.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _validate(self) -> float | None:
        """Return the share of held-out images that are classified correctly as they are."""
        if self.held_out is None:
            return None
        self.model.eval()
        correct = 0
        with torch.inference_mode(), self._autocast():
            for start in range(0, len(self.held_out), _EVALUATION_BATCH):
                part = slice(start, start + _EVALUATION_BATCH)
                logits = self.model(self._inputs(self.held_out.images[part], self.held_out))
                correct += int((logits.argmax(1) == self.held_out.labels[part]).sum())
        return correct / len(self.held_out)

    def _tell(self, epoch: int, seen: int, loss: float, correct: int, elapsed_s: float) -> None:
        done = (epoch - 1) * len(self.train) + seen
        self.listener.advance(
            done,
            f"epoch {epoch}/{self.settings.epochs}  loss {loss:.4f}  "
            f"accuracy {100 * correct / seen:.1f} %  {seen / elapsed_s:,.0f} images/s",
        )


def seed_epoch(seed: int, epoch: int) -> torch.Generator:
    """Return the epoch's own CPU generator; seed torch's global one (for dropout) alike."""
    (value,) = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    torch.manual_seed(int(value >> 1))
    return torch.Generator().manual_seed(int(value >> 1))


def split_batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield every index from 0 to `count` - 1 once, shuffled, in batches of `size`.

    The last batch may be smaller. One image alone joins the batch before it, since BatchNorm cannot
    train on a single value.
    """
    batches = list(torch.randperm(count, generator=generator).split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    yield from batches


def pick_device(asked: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``; raise TrainingError without a GPU."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "train.device is cuda, but torch sees no CUDA device here: "
            "set train.device to auto or cpu, or check the driver with nvidia-smi"
        )
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(asked)


def train_model(
    model: nn.Module,
    train: Split,
    held_out: Split | None,
    *,
    settings: TrainSection,
    preprocessing: Preprocessing,
    seed: int,
    resume: Resume,
    listener: Listener,
) -> tuple[Epoch, ...]:
    """Train `model` in place, from the state at `resume.path` where there is one.

    Return one record an epoch, those before the interruption included. The state is written after
    every epoch. Raises TrainingError when the loss is no longer finite or the device is missing,
    RunError when the state cannot be read or written.
    """
    device = pick_device(settings.device)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    model.to(device=device, memory_format=layout)
    images = _to_device(train, preprocessing, device)
    optimizer = make_optimizer(model, settings)
    steps = _steps_per_epoch(len(images), settings.batch_size)
    trainer = _Trainer(
        model=model,
        settings=settings,
        device=device,
        seed=seed,
        train=images,
        held_out=_to_device(held_out, preprocessing, device) if held_out else None,
        optimizer=optimizer,
        scheduler=make_scheduler(optimizer, settings, steps),
        listener=listener,
    )
    parts = {"model": model, "optimizer": optimizer, "scheduler": trainer.scheduler}
    history = list(restore_state(resume, parts, device))
    if history:
        listener.note(f"going on after epoch {len(history)} of {settings.epochs} ({resume.path})")
    listener.begin("training", settings.epochs * len(images))
    listener.advance(len(history) * len(images))
    for number in range(len(history) + 1, settings.epochs + 1):
        history.append(_run_epoch(trainer, number))
        save_state(resume, parts, history)
        listener.advance(number * len(images))
        listener.note(_epoch_text(history[-1], settings.epochs))
    listener.end()
    return tuple(history)


def _run_epoch(trainer: _Trainer, number: int) -> Epoch:
    """Run one epoch; what torch refuses (sizes that do not fit, memory) becomes TrainingError."""
    try:
        return trainer.run_epoch(number)
    except (ValueError, RuntimeError, MemoryError) as error:
        shape = tuple(trainer.train.images.shape[1:])
        raise TrainingError(
            f"torch could not train {type(trainer.model).__name__} on images of shape {shape} in "
            f"batches of {trainer.settings.batch_size}: {one_line(error, 160)}: "
            "change train.batch_size or data.image_size"
        ) from error


def _epoch_text(epoch: Epoch, epochs: int) -> str:
    held_out = epoch.validation_accuracy
    validation = f"  validation {100 * held_out:.2f} %" if held_out is not None else ""
    return (
        f"epoch {epoch.epoch}/{epochs}  loss {epoch.loss:.4f}  "
        f"accuracy {100 * epoch.accuracy:.1f} %{validation}  "
        f"{epoch.duration_s:.1f} s  {epoch.images_per_s:,.0f} images/s"
    )


def _to_device(split: Split, preprocessing: Preprocessing, device: torch.device) -> _Images:
    return _Images(
        images=torch.tensor(split.images, device=device),
        labels=torch.tensor(split.labels, device=device),
        mean=torch.tensor(preprocessing.mean, device=device)[:, None, None],
        std=torch.tensor(preprocessing.std, device=device)[:, None, None],
    )


def _steps_per_epoch(count: int, size: int) -> int:
    whole, rest = divmod(count, size)
    return max(1, whole + (rest > 1))
