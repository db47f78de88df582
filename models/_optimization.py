"""Optimizers and learning-rate schedules by the names that configurations use."""

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
            return lr_scheduler.OneCycleLR(
                optimizer, settings.learning_rate, total_steps=steps + 1, pct_start=schedule.warmup
            )
        case _:
            return lr_scheduler.ConstantLR(optimizer, factor=1.0)
