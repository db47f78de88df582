"""Training from the first epoch to the last, resumable after every one of them."""

from collections.abc import Callable

from torch import nn

from foldbench.bench import units
from foldbench.bench.config.training import TrainSection
from foldbench.bench.errors import TrainingError, one_line
from foldbench.bench.images.image_set import Split
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Epoch, Preprocessing
from foldbench.models.building.network import start_as_identity
from foldbench.models.training.compiled import compiled
from foldbench.models.training.device import layout, pick_device, plain_float32
from foldbench.models.training.process_group import ProcessGroup
from foldbench.models.training.resume import Resume, restore_state, save_state
from foldbench.models.training.trainer import Trainer

VERSION = 1
"""Raised whenever the same settings and seed give other weights, beyond rounding."""


def train_model(
    model: nn.Module,
    train: Split,
    held_out: Split | None,
    *,
    settings: TrainSection,
    preprocessing: Preprocessing,
    seed: int,
    resume: Resume | None,
    listener: ProgressListener,
    after_epoch: Callable[[Epoch], None] | None = None,
    process_group: ProcessGroup | None = None,
) -> tuple[Epoch, ...]:
    """Train `model` in place, from the state at `resume.path` where there is one.

    Return one record an epoch, those before the interruption included. The state is written after
    every epoch, nowhere without `resume`. `after_epoch` hears of every epoch that was run here;
    what it raises ends the training. In a `process_group`, every process calls this with the same
    arguments; rank 0 writes the state. Raises TrainingError when the loss is no longer
    finite or the device is missing, RunError when the state cannot be read or written.
    """
    if settings.initial_weights == "dirac":
        start_as_identity(model)
    model.to(device=pick_device(settings.device), memory_format=layout(settings))
    process_group = process_group or ProcessGroup()
    wrapped = process_group.wrap(model, preprocessing.input_shape)
    with plain_float32(), compiled(wrapped, settings.compile) as network:
        trainer = Trainer(
            model,
            train,
            held_out,
            network=network,
            process_group=process_group,
            settings=settings,
            preprocessing=preprocessing,
            seed=seed,
            listener=listener,
        )
        history = _train(trainer, settings, resume, listener, after_epoch)
    return tuple(history)


def _train(
    trainer: Trainer,
    settings: TrainSection,
    resume: Resume | None,
    listener: ProgressListener,
    after_epoch: Callable[[Epoch], None] | None,
) -> list[Epoch]:
    """Run the epochs that are left, keep the state after each, and settle the weights."""
    images = len(trainer.train)
    history = list(restore_state(resume, trainer.parts(), trainer.device) if resume else ())
    if history and resume:
        listener.note(f"going on after epoch {len(history)} of {settings.epochs} ({resume.path})")
    listener.begin("training", settings.epochs * images)
    listener.advance(len(history) * images)
    for number in range(len(history) + 1, settings.epochs + 1):
        history.append(_run_epoch(trainer, settings, number))
        if resume and trainer.process_group.is_main:
            save_state(resume, trainer.parts(), history)
        listener.advance(number * images)
        listener.note(_epoch_text(history[-1], settings.epochs))
        if after_epoch:
            after_epoch(history[-1])
    trainer.finish(settings.epochs)
    listener.end()
    return history


def _run_epoch(trainer: Trainer, settings: TrainSection, number: int) -> Epoch:
    """Run one epoch; what torch refuses (sizes that do not fit, memory) becomes TrainingError."""
    try:
        return trainer.run_epoch(number)
    except (ValueError, RuntimeError, MemoryError) as error:
        shape = tuple(trainer.train.images.shape[1:])
        raise TrainingError(
            f"torch could not train {type(trainer.model).__name__} on images of shape {shape} in "
            f"batches of {settings.batch_size}: {one_line(error, 160)}: "
            "change train.batch_size or data.image_size"
        ) from error


def _epoch_text(epoch: Epoch, epochs: int) -> str:
    held_out = epoch.validation_accuracy
    validation = f"  validation {units.percent(held_out)} %" if held_out is not None else ""
    return (
        f"epoch {epoch.epoch}/{epochs}  loss {units.loss(epoch.loss)}  "
        f"accuracy {units.percent(epoch.accuracy)} %{validation}  "
        f"{units.duration(epoch.duration_s)}  {units.rate(epoch.images_per_s)} images/s"
    )
