"""Protocols of transfer learning, and what BatchNorm alone does to them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foldbench.bench.analysis.estimates import mcnemar
from foldbench.bench.arrays import Labels
from foldbench.bench.records import DataInfo, Transfer


@dataclass(frozen=True)
class Probe:
    """One way of doing it, and what came of it."""

    config_name: str
    batchnorm: str | None
    """``running`` or ``per_image``; None for a network without BatchNorm."""
    classifier: str
    as_configured: bool
    """Whether this is the configuration as it is."""
    data: DataInfo
    resize: str
    record: Transfer
    answers: Labels
    """(M,) int64: the class of each test image."""
    labels: Labels


@dataclass(frozen=True)
class BatchNormEffect:
    """Test images that one kind of BatchNorm gets wrong and the other right, all else equal."""

    config_name: str
    classifier: str
    only_running_wrong: int
    only_per_image_wrong: int
    both_wrong: int
    images: int
    p_value: float
    """McNemar's exact test."""


def batchnorm_effects(probes: Sequence[Probe]) -> tuple[BatchNormEffect, ...]:
    """Return what BatchNorm alone changes, for each configuration and classifier that has both."""
    found = []
    by_kind = {(p.config_name, p.classifier, p.batchnorm): p for p in probes}
    for name, classifier, batchnorm in by_kind:
        per_image = by_kind.get((name, classifier, "per_image"))
        if batchnorm != "running" or per_image is None:
            continue
        running = by_kind[name, classifier, batchnorm]
        wrong = [p.answers != p.labels for p in (running, per_image)]
        only = [int((wrong[i] & ~wrong[1 - i]).sum()) for i in (0, 1)]
        found.append(
            BatchNormEffect(
                config_name=name,
                classifier=classifier,
                only_running_wrong=only[0],
                only_per_image_wrong=only[1],
                both_wrong=int(np.logical_and(*wrong).sum()),
                images=len(running.labels),
                p_value=mcnemar(*only),
            )
        )
    return tuple(found)
