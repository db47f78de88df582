"""Profile a run: where the time of a run's contenders goes."""

from collections.abc import Sequence

from foldbench.bench.images.classes import match_classes
from foldbench.bench.images.loading import load_data
from foldbench.bench.machine.environment import choose_thread_counts
from foldbench.bench.measure.comparison import describe_job
from foldbench.bench.measure.contenders import Subject, devices_of, list_contenders
from foldbench.bench.measure.evaluation import prepare_evaluation
from foldbench.bench.measure.profiling import profile_contenders
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Profile
from foldbench.bench.stages.settings import settings_of
from foldbench.bench.store.directory import Paths, RunDirectory


def profile_run(
    run: RunDirectory, overrides: Sequence[str], paths: Paths, listener: ProgressListener
) -> Profile:
    """Profile the contenders that the run's configuration names; store the record in the run."""
    checkpoint = run.checkpoint()
    config = settings_of(run, checkpoint, overrides)
    data = load_data(config.data, paths.cache, listener, needs_train=False)
    data = match_classes(checkpoint.classes, data, listener)
    threads = choose_thread_counts(config.compare.thread_counts, "compare.threads")[0]
    with run.locked(), prepare_evaluation(config.evaluate, data.test) as (evaluation, _):
        subject = Subject(run.path, checkpoint, run.artifacts())
        devices = devices_of(config.compare.devices)
        found = profile_contenders(
            run.name,
            list_contenders(subject, config.compare.backends, devices),
            lambda contender: describe_job(subject, contender, evaluation, threads),
            config.compare.batch_sizes,
            threads,
            listener,
        )
        run.write_profile(found)
    return found
