"""Profile a run: where the time of a run's contenders goes."""

from collections.abc import Sequence

from foldbench.bench.measure.comparison import describe_job
from foldbench.bench.measure.contenders import Subject, devices_of, list_contenders
from foldbench.bench.measure.evaluation import prepare_evaluation
from foldbench.bench.measure.profiling import profile_contenders
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Profile
from foldbench.bench.stages.measured import load_measured
from foldbench.bench.store.directory import Paths, RunDirectory


def profile_run(
    run: RunDirectory, overrides: Sequence[str], paths: Paths, listener: ProgressListener
) -> Profile:
    """Profile the contenders that the run's configuration names; store the record in the run."""
    measured = load_measured(run, overrides, paths, listener)
    checkpoint, config, threads = measured.checkpoint, measured.config, measured.threads
    with run.locked(), prepare_evaluation(config.evaluate, measured.test) as (evaluation, _):
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
