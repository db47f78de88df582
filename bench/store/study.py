"""A search that several processes share: which trial comes next, and what became of the others.

Optuna keeps the trials in a journal file or a database, so that a search goes on where it stopped.
A trial that is running holds a lock, which the system takes back when its process dies: a trial
that says it runs but whose lock is free was interrupted, and is made again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from foldbench.bench.errors import MissingPackageError, RunError, one_line
from foldbench.bench.records import Hyperparameters, SearchTrial, TrialStatus

_STARTUP_TRIALS, _STARTUP_EPOCHS = 5, 3
"""What is seen before anything is pruned."""


@dataclass(frozen=True)
class Space:
    """From what is chosen: both ends are included."""

    learning_rates: tuple[float, float]
    batch_sizes: tuple[int, ...]
    epochs: tuple[int, int]


@dataclass(frozen=True)
class SearchPlan:
    """What is searched, and for how long."""

    study: str
    space: Space
    seed: int
    trials: int
    """In all, those of other processes and earlier ones included."""
    rows: tuple[Hyperparameters, ...] = ()
    """Try these and nothing else; the lowest value wins. Otherwise the highest one."""


@dataclass
class Attempt:
    """One trial while it runs here."""

    choice: Hyperparameters
    handle: Any
    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)


class SharedSearch:
    """The trials of a search, shared through its storage by every process that works on it."""

    def __init__(self, plan: SearchPlan, folder: Path, storage: str | None = None) -> None:
        """Open or begin the search.

        `storage` is a database's URL or a journal file; ``study.journal`` in `folder` by default.
        Raises MissingPackageError without Optuna, RunError when the storage cannot be used.
        """
        self._plan = plan
        self._folder = folder
        self._lock = FileLock(folder / "search.lock")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write in {folder}: {error.strerror or error}") from error
        optuna = _import_optuna()
        place = storage or str(folder / "study.journal")
        try:
            with self._lock:
                self._study = optuna.create_study(
                    storage=_open_storage(place),
                    study_name=plan.study,
                    direction="minimize" if plan.rows else "maximize",
                    pruner=optuna.pruners.MedianPruner(_STARTUP_TRIALS, _STARTUP_EPOCHS - 1),
                    load_if_exists=True,
                )
        except Exception as error:  # every database has errors of its own
            raise RunError(
                f"{place}: cannot keep a search here ({one_line(error, 160)}): give --storage a "
                "file, or a URL such as sqlite:///search.db"
            ) from error

    @contextmanager
    def attempt(self) -> Iterator[Attempt | None]:
        """Yield the next trial, None when there is nothing left to try.

        It counts as interrupted, and is made again, when the block raises or the process dies.
        """
        with self._lock:
            self._give_up_interrupted()
            handle = self._ask()
            lock = self._lock_of(handle.number) if handle else None
            if lock:
                lock.acquire(timeout=0)
        if handle is None or lock is None:
            yield None
            return
        try:
            yield Attempt(Hyperparameters.model_validate(handle.params), handle)
            Path(lock.lock_file).unlink(missing_ok=True)
        finally:
            lock.release()

    def report(self, attempt: Attempt, loss: float, accuracy: float) -> bool:
        """Note what an epoch came to; return whether the trial has fallen behind the others."""
        attempt.losses.append(loss)
        attempt.validation.append(accuracy)
        attempt.handle.report(loss if self._plan.rows else accuracy, len(attempt.losses))
        # The homework ran every one of its rows to the end.
        return not self._plan.rows and bool(attempt.handle.should_prune())

    def end(
        self, attempt: Attempt, status: TrialStatus, duration_s: float, reason: str | None = None
    ) -> None:
        """Store what became of a trial."""
        from optuna.trial import TrialState

        handle = attempt.handle
        handle.set_user_attr("losses", attempt.losses)
        handle.set_user_attr("validation", attempt.validation)
        handle.set_user_attr("duration_s", duration_s)
        if status == "finished":
            values = attempt.losses if self._plan.rows else attempt.validation
            self._study.tell(handle, values[-1])
        elif status == "pruned":
            self._study.tell(handle, state=TrialState.PRUNED)
        else:
            handle.set_user_attr("reason", reason or "no reason was given")
            self._study.tell(handle, state=TrialState.FAIL)

    def trials(self) -> tuple[SearchTrial, ...]:
        """Return all trials but interrupted ones, in the order they began."""
        return tuple(_to_trial(t) for t in self._trials() if t.params and not _is_interrupted(t))

    def count(self) -> tuple[int, int]:
        """Return how many trials have ended, and how many there will be."""
        ended = sum(t.status != "running" for t in self.trials())
        return ended, len(self._plan.rows) or self._plan.trials

    def _trials(self) -> Sequence[Any]:
        return self._study.get_trials(deepcopy=False)

    def _ask(self) -> Any | None:
        """Return the next trial, or None: one that waits first, then one that Optuna chooses."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        counted = [t for t in self._trials() if not _is_interrupted(t)]
        if self._plan.rows:
            known = [t.params or t.system_attrs.get("fixed_params") for t in counted]
            missing = [
                r for r in map(Hyperparameters.model_dump, self._plan.rows) if r not in known
            ]
            for row in missing:
                self._study.enqueue_trial(row)
        waiting = any(t.state == TrialState.WAITING for t in self._trials())
        if not waiting and (self._plan.rows or len(counted) >= self._plan.trials):
            return None
        # Each trial's own seed: a search that is resumed or shared does not draw the same again.
        (seed,) = np.random.SeedSequence((self._plan.seed, len(self._trials()))).generate_state(1)
        self._study.sampler = TPESampler(seed=int(seed), constant_liar=True)
        return self._study.ask(self._distributions())

    def _distributions(self) -> dict[str, Any]:
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        space = self._plan.space
        return {
            "learning_rate": FloatDistribution(*space.learning_rates, log=True),
            "batch_size": CategoricalDistribution(space.batch_sizes),
            "epochs": IntDistribution(*space.epochs),
        }

    def _give_up_interrupted(self) -> None:
        """Re-queue every trial that is marked as running but whose process is gone."""
        from optuna.trial import TrialState

        for trial in self._trials():
            path = Path(self._lock_of(trial.number).lock_file)
            # A trial of another machine, whose locks are elsewhere, is left alone.
            if trial.state == TrialState.RUNNING and path.exists() and self._is_free(trial.number):
                self._study.tell(trial.number, state=TrialState.FAIL)
                self._study.enqueue_trial(trial.params)

    def _lock_of(self, number: int) -> FileLock:
        return FileLock(self._folder / f"{self._plan.study}-trial-{number}.lock")

    def _is_free(self, number: int) -> bool:
        lock = self._lock_of(number)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True


def _import_optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "bench tune needs the package optuna, which is not installed: "
            "pip install 'foldbench[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _open_storage(place: str) -> Any:
    """Return Optuna's storage for a URL, or for a journal file."""
    if "://" in place:
        return place
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(place))


def _is_interrupted(trial: Any) -> bool:
    """Return whether it failed for no reason of its own."""
    from optuna.trial import TrialState

    return trial.state == TrialState.FAIL and "reason" not in trial.user_attrs


def _to_trial(trial: Any) -> SearchTrial:
    from optuna.trial import TrialState

    statuses: dict[Any, TrialStatus] = {
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    found = trial.user_attrs
    return SearchTrial(
        number=trial.number,
        choice=Hyperparameters.model_validate(trial.params),
        status=statuses.get(trial.state, "running"),
        losses=tuple(found.get("losses", ())),
        validation=tuple(found.get("validation", ())),
        reason=found.get("reason"),
        duration_s=found.get("duration_s"),
    )
