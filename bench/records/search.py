"""The record of a search for learning rate, batch size and epochs."""

from typing import Any, Literal

from pydantic import Field

from foldbench.bench.records.base import Record

TrialStatus = Literal["finished", "pruned", "failed", "running"]


class Hyperparameters(Record):
    """What a search chooses."""

    learning_rate: float
    batch_size: int
    epochs: int


class SearchTrial(Record):
    """One training of a search."""

    number: int
    choice: Hyperparameters
    status: TrialStatus
    losses: tuple[float, ...] = ()
    """Mean training loss of each epoch that was run."""
    validation: tuple[float, ...] = ()
    """Share of the held-out images that were classified correctly after each of them."""
    reason: str | None = None
    """Why it failed; None otherwise."""
    duration_s: float | None = None

    def loss(self) -> float | None:
        """Return the loss of the last epoch, None before there is one."""
        return self.losses[-1] if self.losses else None

    def accuracy(self) -> float | None:
        """Return the validation accuracy after the last epoch, None before there is one."""
        return self.validation[-1] if self.validation else None


class Search(Record):
    """All trials of a search, and what they had in common."""

    schema_version: Literal[1] = 1
    config_name: str
    config: dict[str, Any]
    """As resolved, before anything was chosen."""
    preset: Literal["homework"] | None
    study: str
    """Its name in the storage: another one for other settings or other images."""
    data_title: str
    data_sha256: str
    images: int = Field(ge=1)
    """Training images that each trial was trained on."""
    validation_images: int = Field(ge=1)
    """Training images that it was validated on: none of `images`, and none of the test split."""
    environment: dict[str, Any]
    trials: tuple[SearchTrial, ...]

    def winner(self) -> SearchTrial | None:
        """Return the finished trial that the search was for, None before there is one.

        Under the homework's preset the lowest training loss wins, as it did there; otherwise the
        highest validation accuracy.
        """
        finished = [t for t in self.trials if t.status == "finished"]
        if self.preset == "homework":
            return min(finished, key=lambda t: t.losses[-1], default=None)
        return max(finished, key=lambda t: (t.validation[-1], -t.losses[-1]), default=None)
