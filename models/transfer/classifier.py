"""A linear classifier on features that stay as they are, in two ways of fitting it.

The homework's is a linear layer trained by gradient descent. The other is scikit-learn's logistic
regression, regularised as strongly as does best on training images that are held out; the test
split plays no part in that choice.
"""

import time
import warnings
from dataclasses import dataclass

import numpy as np

from foldbench.bench import units
from foldbench.bench.arrays import Floats, Labels
from foldbench.bench.config.schema import Config
from foldbench.bench.config.training import TrainSection
from foldbench.bench.errors import TrainingError
from foldbench.bench.images.splits import draw_held_out
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Candidate, Epoch

_ITERATIONS = 2000


@dataclass(frozen=True)
class Linear:
    """Logits are ``features @ weight.T + bias``."""

    weight: Floats
    """(classes, D) float32."""
    bias: Floats
    """(classes,) float32."""

    def classify(self, features: Floats) -> Labels:
        """Return the class with the largest logit for each row of `features` (N, D)."""
        found: Labels = (features @ self.weight.T + self.bias).argmax(1)
        return found


@dataclass(frozen=True)
class Fitted:
    """A classifier and how it came about."""

    linear: Linear
    fit_s: float
    history: tuple[Epoch, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    validation_count: int = 0


def fit_linear(
    features: Floats, labels: Labels, classes: int, config: Config, listener: ProgressListener
) -> Fitted:
    """Return the classifier that ``transfer.classifier`` asks for, fitted to `features` (N, D)."""
    if config.transfer is None:
        raise ValueError("the configuration has no transfer section")
    started = time.perf_counter()
    if config.transfer.classifier == "adam":
        linear, history = _descend(features, labels, classes, config, listener)
        return Fitted(linear, time.perf_counter() - started, history)
    linear, candidates, held = _regress(features, labels, config, listener)
    return Fitted(linear, time.perf_counter() - started, (), candidates, held)


def _descend(
    features: Floats, labels: Labels, classes: int, config: Config, listener: ProgressListener
) -> tuple[Linear, tuple[Epoch, ...]]:
    """Train a linear layer in batches; under protocol homework in the same order every time."""
    import torch
    from torch import nn

    from foldbench.models.training.optimization import make_optimizer

    settings = config.train
    torch.manual_seed(config.seed)
    head = nn.Linear(features.shape[1], classes)
    optimizer = make_optimizer(head, settings)
    x, y = torch.from_numpy(np.array(features)), torch.from_numpy(labels)
    generator = torch.Generator().manual_seed(config.seed)
    history = []
    listener.begin("training the linear layer", settings.epochs)
    for number in range(1, settings.epochs + 1):
        order = torch.arange(len(x))
        if settings.protocol == "clean":
            order = torch.randperm(len(x), generator=generator)
        started, losses, correct = time.perf_counter(), [], 0
        for rows in order.split(settings.batch_size):
            optimizer.zero_grad()
            logits = head(x[rows])
            loss = nn.functional.cross_entropy(
                logits, y[rows], label_smoothing=settings.label_smoothing
            )
            loss.backward()
            optimizer.step()
            losses.append((float(loss.detach()), len(rows)))
            correct += int((logits.argmax(1) == y[rows]).sum())
        history.append(_epoch(number, losses, correct, settings, time.perf_counter() - started))
        listener.advance(number, f"loss {units.loss(history[-1].loss)}")
    listener.end()
    weight, bias = head.weight.detach().numpy().copy(), head.bias.detach().numpy().copy()
    return Linear(weight, bias), tuple(history)


def _epoch(
    number: int,
    losses: list[tuple[float, int]],
    correct: int,
    settings: TrainSection,
    duration_s: float,
) -> Epoch:
    count = sum(size for _, size in losses)
    if settings.protocol == "homework":
        loss = sum(value for value, _ in losses) / len(losses)
    else:
        loss = sum(value * size for value, size in losses) / count
    if not np.isfinite(loss):
        raise TrainingError(
            f"the training loss became {loss} in epoch {number}: lower train.learning_rate"
        )
    return Epoch(
        epoch=number,
        loss=loss,
        accuracy=correct / count,
        validation_accuracy=None,
        learning_rate=settings.learning_rate,
        duration_s=duration_s,
        images_per_s=count / duration_s,
    )


def _regress(
    features: Floats, labels: Labels, config: Config, listener: ProgressListener
) -> tuple[Linear, tuple[Candidate, ...], int]:
    """Choose the regularisation on held-out training images, then fit to all of them."""
    if config.transfer is None or config.train.validation_fraction == 0:
        raise TrainingError(
            "the regularisation is chosen on held-out training images, and none are held out: set "
            "train.validation_fraction to 0.2, or transfer.classifier to adam"
        )
    kept, held = draw_held_out(labels, config.train.validation_fraction, config.seed)
    path = sorted(config.transfer.candidates)
    listener.begin("choosing the regularisation", len(path) + 1)
    candidates = []
    for number, value in enumerate(path, start=1):
        linear = _logistic(features[kept], labels[kept], value, listener)
        share = float((linear.classify(features[held]) == labels[held]).mean())
        candidates.append(Candidate(inverse_regularisation=value, validation_accuracy=share))
        listener.advance(number, f"C {units.plain(value)}: validation {units.percent(share)} %")
    # Of equally good ones the first, which is the most regularised.
    best = max(candidates, key=lambda c: c.validation_accuracy).inverse_regularisation
    linear = _logistic(features, labels, best, listener)
    listener.end(
        f"regularisation C {units.plain(best)}, chosen on {units.count(len(held))} held-out "
        "training images"
    )
    return linear, tuple(candidates), len(held)


def _logistic(features: Floats, labels: Labels, value: float, listener: ProgressListener) -> Linear:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=value, max_iter=_ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features, labels)
    if any(issubclass(w.category, ConvergenceWarning) for w in caught):
        listener.note(
            f"logistic regression with C {units.plain(value)} did not settle in {_ITERATIONS} steps"
        )
    weight, bias = model.coef_.astype(np.float32), model.intercept_.astype(np.float32)
    if len(weight) == 1:  # of two classes it is one logit: the second's minus the first's
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Linear(weight, bias)
