"""Optimizers and learning-rate schedules by the names that configurations use."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.optim import lr_scheduler

from foldbench.bench.config.training import TrainSection
from foldbench.models.training.muon import MuonWithAdamW, ParameterGroup

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_KILO = 1024


def make_optimizer(model: nn.Module, settings: TrainSection) -> torch.optim.Optimizer:
    """Return the optimizer; parameters with the same rate and weight decay form one group.

    Of muon, every weight of two dimensions or more is a matrix but the last: what a network ends
    with gives classes, not features, and gets AdamW as vectors do.
    """
    rates = list(_rates(model, settings))
    match settings.optimizer:
        case "sgd":
            momentum = settings.momentum
            return torch.optim.SGD(_grouped(rates), momentum=momentum, nesterov=momentum > 0)
        case "muon":
            hidden = [rate for rate in rates if rate[0].ndim > 1][:-1]
            taken = {id(parameter) for parameter, _, _ in hidden}
            others = [rate for rate in rates if id(rate[0]) not in taken]
            return MuonWithAdamW(_grouped(hidden), _grouped(others), momentum=settings.momentum)
        case "adam":
            return torch.optim.Adam(_grouped(rates))
        case _:
            return torch.optim.AdamW(_grouped(rates))


def _grouped(rates: Iterable[tuple[nn.Parameter, float, float]]) -> list[ParameterGroup]:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter, rate, decay in rates:
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def base_rates(settings: TrainSection) -> tuple[float, float]:
    """Return learning rate and weight decay as torch's optimizers want them.

    Decoupled ones are converted: N images give N / 1024 of the step, of which momentum makes
    ``1 + 1 / (1 - momentum)`` with Nesterov's correction; their product, what a step takes off a
    weight, no longer holds the learning rate (K. Jordan, arXiv:2404.00498, 2024).
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    if not settings.decoupled:
        return rate, decay
    steps = 1 + 1 / (1 - settings.momentum)
    return rate * settings.batch_size / (_KILO * steps), decay / rate


def _rates(model: nn.Module, settings: TrainSection) -> Iterator[tuple[nn.Parameter, float, float]]:
    """Yield every parameter once, with its learning rate and its weight decay."""
    rate, decay = base_rates(settings)
    of_norms = {
        id(parameter): name
        for module in model.modules()
        if isinstance(module, _NORMS)
        for name, parameter in module.named_parameters(recurse=False)
    }
    for parameter in model.parameters():
        factor = settings.norm_bias_factor if of_norms.get(id(parameter)) == "bias" else 1.0
        decays = settings.decay_norm_and_bias or parameter.ndim > 1
        # A step takes rate * decay off a weight: the factor is not to change that.
        yield parameter, rate * factor, decay / factor if decays else 0.0


def make_scheduler(
    optimizer: torch.optim.Optimizer, settings: TrainSection, steps_per_epoch: int
) -> lr_scheduler.LRScheduler:
    """Return the schedule of the learning rate that the settings ask for."""
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
