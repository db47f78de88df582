"""What a run is measured by and on: its settings, its test images, the threads."""

from collections.abc import Sequence
from dataclasses import dataclass

from foldbench.bench.config.schema import Config
from foldbench.bench.images.classes import match_classes
from foldbench.bench.images.image_set import Split
from foldbench.bench.images.loading import load_data
from foldbench.bench.machine.environment import choose_thread_counts
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Checkpoint
from foldbench.bench.stages.settings import settings_of
from foldbench.bench.store.directory import Paths, RunDirectory


@dataclass(frozen=True)
class Measured:
    """One run, as one of its commands measures it."""

    checkpoint: Checkpoint
    config: Config
    test: Split
    threads: int


def load_measured(
    run: RunDirectory, overrides: Sequence[str], paths: Paths, listener: ProgressListener
) -> Measured:
    """Return a run with its settings, test images in the order of its classes, and threads."""
    checkpoint = run.checkpoint()
    config = settings_of(run, checkpoint, overrides)
    data = load_data(config.data, paths.cache, listener, needs_train=False)
    data = match_classes(checkpoint.classes, data, listener, checkpoint.class_ids)
    threads = choose_thread_counts(config.compare.thread_counts, "compare.threads")[0]
    return Measured(checkpoint, config, data.test, threads)
