"""Weights that somebody else's training wrote, as a network calls them.

Training code wraps a network's state in dictionaries and prefixes. They are taken off when there is
exactly one way in which every tensor fits, which is said; nothing is loaded in part.
"""

from foldbench.models.building.foreign_weights.file import read_weights
from foldbench.models.building.foreign_weights.fitting import (
    FittedWeights,
    fit_classes,
    fit_tensors,
    fit_weights,
)
from foldbench.models.building.foreign_weights.loading import load_state

__all__ = [
    "FittedWeights",
    "fit_classes",
    "fit_tensors",
    "fit_weights",
    "load_state",
    "read_weights",
]
