"""Optimizers and learning-rate schedules by the names that configurations use."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from bench.config import TrainSection


def make_optimizer(model: nn.Module, settings: TrainSection) -> torch.optim.Optimizer:
    common: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), momentum=settings.momentum, nesterov=settings.momentum > 0, **common
        )
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[settings.optimizer]
    return kind(model.parameters(), **common)


def make_scheduler(
    optimizer: torch.optim.Optimizer, settings: TrainSection, steps_per_epoch: int
) -> lr_scheduler.LRScheduler:
    schedule, steps = settings.schedule, settings.epochs * steps_per_epoch
    match schedule.name:
        case "step":
            return lr_scheduler.StepLR(optimizer, schedule.step_size, schedule.gamma)
        case "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, steps)
        case "one_cycle":
            return lr_scheduler.LambdaLR(
                optimizer, lambda step: one_cycle_factor(step, steps, schedule.warmup)
            )
        case _:
            return lr_scheduler.ConstantLR(optimizer, factor=1.0)


def one_cycle_factor(step: int, steps: int, warmup: float) -> float:
    """Return the factor of the learning rate at `step` of `steps`: up to 1, then down to 0.

    Half a cosine from 1/25 up over the share `warmup` of all steps, and one down over the rest
    (L. N. Smith, N. Topin, Super-convergence, 2018, in its cosine form).
    """
    peak = warmup * steps
    if step < peak:
        return 1 - (1 - 1 / 25) * (1 + math.cos(math.pi * step / peak)) / 2
    return (1 + math.cos(math.pi * min(1.0, (step - peak) / max(steps - peak, 1e-9)))) / 2
