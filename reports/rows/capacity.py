"""Which capacities belong to the runs of a report."""

from collections.abc import Iterator, Sequence

from foldbench.bench.records import Beside, Capacity
from foldbench.reports.text.labels import Labelled


def capacities_of(labelled: Labelled, beside: Sequence[Beside]) -> Iterator[tuple[str, Capacity]]:
    """Yield each capacity behind the label of its run."""
    for label, run in labelled:
        for one in beside:
            if isinstance(one, Capacity) and one.name == run.name:
                yield label, one
