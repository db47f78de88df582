"""One training in memory: its steps and its epochs."""

import math
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from foldbench.bench import units
from foldbench.bench.config.training import TrainSection
from foldbench.bench.errors import TrainingError
from foldbench.bench.images.image_set import Split
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Epoch, Preprocessing
from foldbench.models.building.outputs import logits_of
from foldbench.models.training.averaging import WeightAverage
from foldbench.models.training.batches import (
    HeldImages,
    TrainingBatches,
    draw_seed,
    hold,
    seed_epoch,
)
from foldbench.models.training.compiled import NetworkCall
from foldbench.models.training.device import layout
from foldbench.models.training.optimization import make_optimizer, make_scheduler
from foldbench.models.training.process_group import ProcessGroup
from foldbench.models.training.resume import Stateful

_PROGRESS_INTERVAL_S = 0.2
_EVALUATION_BATCH = 500


class Trainer:
    """A network, what it learns from, and what changes while it does.

    `network` is what is called to train `model`: itself, or what wraps it. Every process of a
    `process_group` has its own trainer on the same images.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Split,
        held_out: Split | None,
        *,
        network: NetworkCall,
        process_group: ProcessGroup,
        settings: TrainSection,
        preprocessing: Preprocessing,
        seed: int,
        listener: ProgressListener,
    ) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self._network = network
        self.process_group = process_group
        self.train = hold(train, preprocessing, self.device)
        self.held_out = hold(held_out, preprocessing, self.device) if held_out else None
        self._settings = settings
        self._seed = seed
        self._listener = listener
        self._optimizer = make_optimizer(model, settings)
        self._batches = TrainingBatches(self.train, settings, process_group, seed)
        steps = len(self._batches.draw(torch.Generator()))
        self._scheduler = make_scheduler(self._optimizer, settings, steps)
        self._average = WeightAverage(model, settings.ema_decay) if settings.ema_decay else None

    def parts(self) -> dict[str, Stateful]:
        """Return what has to be kept to go on after an epoch, by name."""
        parts: dict[str, Stateful] = {
            "model": self.model,
            "optimizer": self._optimizer,
            "scheduler": self._scheduler,
        }
        return parts if self._average is None else {**parts, "average": self._average}

    def run_epoch(self, epoch: int) -> Epoch:
        """Train on every image once, in an order and with changes drawn from seed and epoch."""
        homework = self._settings.protocol == "homework"
        generator = seed_epoch(self._seed, epoch)
        if not self.process_group.is_main:
            own = draw_seed(self._seed, epoch, rank=self.process_group.rank)
            torch.manual_seed(own)  # dropout of its own
        batches = self._batches.draw(generator)
        self.model.train()
        started = last_told = time.perf_counter()
        loss_sum = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        seen = 0
        for number, indices in enumerate(batches, start=1):
            loss, hits = self.step(indices, epoch, generator)
            loss_sum += loss * (1 if homework else len(indices))
            correct += hits
            seen += len(indices)
            now = time.perf_counter()
            if now - last_told > _PROGRESS_INTERVAL_S:
                last_told = now
                part = self.process_group.size  # its own share stands for all until the end
                mean_loss = part * float(loss_sum) / (number if homework else seen)
                self._tell(epoch, seen, mean_loss, part * int(correct), now - started)
        loss_sum, correct = map(self.process_group.all_reduce_sum, (loss_sum, correct))
        loss_mean = float(loss_sum) / (len(batches) if homework else seen)
        duration_s = time.perf_counter() - started
        if not math.isfinite(loss_mean):
            raise TrainingError(
                f"the training loss became {loss_mean} in epoch {epoch} at learning rate "
                f"{units.learning_rate(self.learning_rate())}: lower train.learning_rate; the "
                "epochs before are kept"
            )
        if self._settings.schedule.name == "step":
            self._scheduler.step()
        return Epoch(
            epoch=epoch,
            loss=loss_mean,
            accuracy=int(correct) / seen,
            validation_accuracy=self._validate(epoch),
            learning_rate=self.learning_rate(),
            duration_s=duration_s,
            images_per_s=seen / duration_s,
        )

    def learning_rate(self) -> float:
        """Return the rate of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def step(
        self, indices: Tensor, epoch: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Make one step; return the batch's mean loss and its number of correct answers.

        `indices` is (N,) int64 on the CPU: the images of the batch. In a process group, each gets
        its own share's part of both.
        """
        images, kept = self._batches.augmented(indices, epoch, generator)
        labels = self.train.labels[indices.to(self.device)]
        count = self._settings.micro_batches
        batch = (images, labels) if kept is None else (images, labels, labels.roll(1), kept)
        parts = zip(*(self.process_group.shard(x).tensor_split(count) for x in batch), strict=True)
        self._optimizer.zero_grad(set_to_none=True)
        found = [self._learn(*part, whole=len(indices)) for part in parts]
        self._optimizer.step()
        if self._average is not None:
            self._average.update()
        if self._settings.schedule.name != "step":
            self._scheduler.step()
        losses, hits = zip(*found, strict=True)
        return torch.stack(losses).sum(), torch.stack(hits).sum()

    def _learn(self, inputs: Tensor, *answers: Tensor, whole: int) -> tuple[Tensor, Tensor]:
        """Add to the gradients what a part of a batch of `whole` images gives.

        Return its part of the batch's mean loss, and its number of correct answers.
        """
        with self._autocast():
            logits = logits_of(self._network(inputs))
        loss, hits = self._judged(logits.float(), *answers)
        part = len(inputs) / whole
        # The process group takes the mean of its gradients; that of the whole batch is weighted by
        # parts.
        (loss * (self.process_group.size * part)).backward()
        return loss.detach() * part, hits

    def _judged(
        self,
        logits: Tensor,
        labels: Tensor,
        others: Tensor | None = None,
        kept: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the number of correct answers.

        Each image is of `labels`, or for the share that it `kept` of itself, and of `others` for
        the rest; the right answer is the label with the larger share.
        """
        loss_of = partial(
            nn.functional.cross_entropy, label_smoothing=self._settings.label_smoothing
        )
        answers = logits.detach().argmax(1)
        if others is None or kept is None:
            return loss_of(logits, labels), (answers == labels).sum()
        own, other = (loss_of(logits, x, reduction="none") for x in (labels, others))
        right = torch.where(kept < 0.5, others, labels)
        return (kept * own + (1 - kept) * other).mean(), (answers == right).sum()

    def finish(self, epoch: int) -> None:
        """Give the network the weights that training was for: averaged ones where it averages."""
        if self._average is not None and self.process_group.is_main:
            with self._autocast():
                self._average.settle(self._batches.for_statistics(epoch))

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._settings.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _validate(self, epoch: int) -> float | None:
        """Return the share of held-out images that are classified correctly as they are."""
        if self.held_out is None or not self.process_group.is_main:
            return None
        if self._average is None:
            return self._score(self.held_out)
        with self._autocast(), self._average.in_place(self._batches.for_statistics(epoch)):
            return self._score(self.held_out)

    def _score(self, split: HeldImages) -> float:
        self.model.eval()
        correct = 0
        with torch.inference_mode(), self._autocast():
            for start in range(0, len(split), _EVALUATION_BATCH):
                part = slice(start, start + _EVALUATION_BATCH)
                inputs = split.inputs(part).contiguous(memory_format=layout(self._settings))
                logits = self.model(inputs)
                correct += int((logits.argmax(1) == split.labels[part]).sum())
        return correct / len(split)

    def _tell(self, epoch: int, seen: int, loss: float, correct: int, elapsed_s: float) -> None:
        done = (epoch - 1) * len(self.train) + seen
        self._listener.advance(
            done,
            f"epoch {epoch}/{self._settings.epochs}  loss {units.loss(loss)}  "
            f"accuracy {units.percent(correct / seen)} %  {units.rate(seen / elapsed_s)} images/s",
        )
