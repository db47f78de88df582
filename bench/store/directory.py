"""Run directories: where the records of one training live.

``runs/deep_mish-003/`` holds ``run.json`` (what it is), ``resume.pt`` (while training),
``weights.safetensors``, ``probe.safetensors`` (what the network answered when it was written) and
``checkpoint.json``, ``artifacts/*.onnx`` and ``artifacts.json``,
``samples.jsonl`` (while comparing, and after an interruption), ``comparisons/001.json`` and so on
(every comparison that finished), ``results.json`` (the newest one of them), ``profile.json``,
``capacity.json``, ``report.md`` and ``report.html``. Some commands add to that:
``image_model.json`` and ``artifacts/*.image.onnx`` (the network with its preprocessing),
``artifacts/engines/`` (TensorRT's), ``artifacts/optimised/`` (onnxruntime's), ``filters.png``,
``loss.png`` and ``features/*.png``.
``.lock`` is held by the command that works on the run, and ``artifacts.json.damaged`` is a list
that could not be read. Every file is whole or not there.
"""

import errno
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from filelock import FileLock, Timeout
from pydantic import ConfigDict, Field

from foldbench.bench.errors import RunError, UnknownNameError
from foldbench.bench.records import (
    Artifact,
    Beside,
    Capacity,
    Checkpoint,
    Profile,
    Protocol,
    Record,
    Run,
)
from foldbench.bench.store.comparisons import (
    NEWEST,
    KeptComparison,
    kept_comparisons,
    next_comparison,
)
from foldbench.bench.store.files import file_sha256, temporary_name, write_text
from foldbench.bench.store.parsing import parse_record
from foldbench.bench.store.temporary import sweep, sweep_temporary_folders

_LOCK = ".lock"
_NAME = re.compile(r"(?P<config>.+)-(?P<number>\d{3,})")
_LISTED = 10
"""Comparisons that an error lists."""


class RunMeta(Record):
    """What run.json holds; fields of other versions are kept."""

    model_config = ConfigDict(extra="allow")

    config_name: str = ""
    training_key: str = ""
    config: dict[str, Any] = Field(default_factory=dict)
    """As it was last given to `bench train`."""


@dataclass(frozen=True)
class Paths:
    """Where things are kept on this machine."""

    runs: Path
    cache: Path


@dataclass(frozen=True)
class RunDirectory:
    """One run's folder: reads and writes its records, and says how far the run has come."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name, such as ``deep_mish-003``."""
        return self.path.name

    @property
    def config_name(self) -> str:
        """The configuration's name, ``deep_mish`` for ``deep_mish-003``."""
        match = _NAME.fullmatch(self.name)
        return match["config"] if match else self.name

    @property
    def resume(self) -> Path:
        """Where the training state is kept between epochs."""
        return self.path / "resume.pt"

    def meta(self) -> dict[str, Any]:
        """Return run.json: the configuration and the training key; empty when it is missing.

        Raises RunError when it is damaged.
        """
        path = self.path / "run.json"
        if not path.is_file():
            return {}
        text = self._read(path, "has no run.json")
        return parse_record(RunMeta, text, str(path)).model_dump(exclude_unset=True)

    def is_trained(self) -> bool:
        """Return whether training has finished."""
        return (self.path / "checkpoint.json").is_file()

    def has_anything(self) -> bool:
        """Return whether there is more in it than what it is: an epoch's state, weights, a file."""
        known = ("run.json", _LOCK)
        return self.path.is_dir() and any(p.name not in known for p in self.path.iterdir())

    def has_key(self, training_key: str) -> bool:
        """Return whether it is a training with this key; a damaged run.json has none."""
        try:
            return self.meta().get("training_key") == training_key
        except RunError:
            return False

    def is_usable(self) -> bool:
        """Return whether training can go on, or has finished and its weights are still whole."""
        if not self.is_trained():
            return True
        try:
            checkpoint = self.checkpoint()
            return file_sha256(self.path / checkpoint.weights) == checkpoint.sha256
        except (RunError, OSError):
            return False

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Write run.json."""
        self._write("run.json", json.dumps(meta, indent=1))

    @property
    def samples(self) -> Path:
        """Where a comparison that has not finished keeps what it has timed."""
        return self.path / "samples.jsonl"

    def is_compared(self) -> bool:
        """Return whether a comparison has finished."""
        return bool(self.comparisons())

    def describe(self) -> str:
        """Return how far the run has come, for `bench list`."""
        if not self.is_trained():
            return "training not finished"
        try:
            exported = ["exported"] if self.artifacts() else []
        except RunError:
            exported = ["artifacts.json damaged"]
        compared = self._how_compared()
        interrupted = ["comparison not finished"] if self.samples.is_file() else []
        return ", ".join([self._how_it_came(), *exported, *compared, *interrupted])

    def _how_compared(self) -> list[str]:
        count = len(self.comparisons())
        if not count:
            return []
        try:
            self.results()
        except RunError:
            return ["results.json damaged"]
        return [f"compared {count} times" if count > 1 else "compared"]

    def _how_it_came(self) -> str:
        try:
            added = str(self.meta().get("training_key", "")).startswith("added:")
        except RunError:
            added = False
        return "added" if added else "trained"

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint's record; raise RunError when training has not finished."""
        path = self.path / "checkpoint.json"
        return parse_record(
            Checkpoint,
            self._read(path, f"is not trained to its end: bench train {self.config_name}"),
            str(path),
        )

    def write_checkpoint(self, checkpoint: Checkpoint) -> Path:
        """Write the checkpoint's record; return its path."""
        return self._write("checkpoint.json", checkpoint.model_dump_json(indent=1))

    def artifacts(self) -> tuple[Artifact, ...]:
        """Return the exported artifacts, none when nothing was exported."""
        path = self.path / "artifacts.json"
        if not path.is_file():
            return ()
        try:
            items = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: is not JSON ({error}): export the run again") from error
        if not isinstance(items, list):
            raise RunError(f"{path}: is not a list of artifacts: export the run again")
        return tuple(parse_record(Artifact, json.dumps(item), str(path)) for item in items)

    def find_artifact(self, inputs_sha256: str) -> Artifact | None:
        """Return the artifact that was made from the same inputs and is still whole."""
        try:
            artifacts = self.artifacts()
        except RunError:
            return None  # a damaged list is replaced by the export that follows
        for artifact in artifacts:
            path = self.path / artifact.path
            same = artifact.inputs_sha256 == inputs_sha256 and path.is_file()
            if same and file_sha256(path) == artifact.sha256:
                return artifact
        return None

    def write_artifact(self, artifact: Artifact) -> Path:
        """Add the artifact's record, in place of one of the same variant; return the path.

        A list that cannot be read is kept as artifacts.json.damaged, and a new one begins.
        """
        try:
            kept = [a for a in self.artifacts() if a.variant != artifact.variant]
        except RunError:
            kept = []
            listed = self.path / "artifacts.json"
            listed.replace(listed.with_suffix(".json.damaged"))
        ordered = sorted([*kept, artifact], key=lambda a: a.variant, reverse=True)
        return self._write(
            "artifacts.json", json.dumps([a.model_dump(mode="json") for a in ordered], indent=1)
        )

    def write_profile(self, profile: Record) -> Path:
        """Write profile.json: where the time of the run's contenders goes."""
        return self._write("profile.json", profile.model_dump_json(indent=1))

    def write_capacity(self, capacity: Record) -> Path:
        """Write capacity.json: how many images a second the run's contenders serve."""
        return self._write("capacity.json", capacity.model_dump_json(indent=1))

    def write_explanation(self, explanation: Record) -> Path:
        """Write explanation.json: time, cost and error of the network by module."""
        return self._write("explanation.json", explanation.model_dump_json(indent=1))

    def comparisons(self) -> tuple[KeptComparison, ...]:
        """Return the comparisons that finished, oldest first, without reading their records."""
        return kept_comparisons(self.path)

    def comparison(self, number: int | None = None) -> KeptComparison:
        """Return the comparison of a number: the newest for None, and the one before it for -1.

        Raises UnknownNameError that lists those that there are, RunError when there is none.
        """
        kept = self.comparisons()
        if not kept:
            raise RunError(f"run {self.name} has not been compared: bench compare {self.name}")
        if number is None:
            return kept[-1]
        if 0 <= -number - 1 < len(kept) - 1:
            return kept[number - 1]
        found = next((one for one in kept if one.number == number), None)
        if found is None:
            known = [f"@{one.number} of {one.fact('created') or '?'}" for one in kept[-_LISTED:]]
            more = f"the newest {_LISTED} of {len(kept)}: " if len(kept) > _LISTED else ""
            raise UnknownNameError(
                f"run {self.name} has no comparison @{number} ({more}{', '.join(known)})"
            )
        return found

    def read_comparison(self, kept: KeptComparison) -> Run:
        """Return the record of a comparison; raise RunError when it is damaged."""
        text = self._read(kept.path, f"has no comparison {kept.number}")
        return parse_record(Run, text, str(kept.path))

    def results(self) -> Run:
        """Return the record of the newest comparison; raise RunError when there is none."""
        return self.read_comparison(self.comparison())

    def results_by_protocol(self) -> tuple[Run, ...]:
        """Return the record of the newest comparison under each protocol that there is one for.

        Raises RunError when there is none at all.
        """
        newest = {kept.fact("evaluation_protocol"): kept for kept in self.comparisons()}
        found = [newest[name] for name in get_args(Protocol) if name in newest]
        return tuple(map(self.read_comparison, found)) or (self.results(),)

    def write_results(self, run: Run) -> Path:
        """Keep the record of a comparison behind those before it; return the path.

        The lock is held by the caller. results.json becomes the same.
        """
        text = run.model_dump_json()
        path = self._write(next_comparison(self.path), text)
        self._write(NEWEST, text)
        return path

    def beside(self, name: str) -> list[Beside]:
        """Return where the time goes and the capacity, as far as recorded, as of the run `name`."""
        kinds: dict[str, type[Beside]] = {"profile.json": Profile, "capacity.json": Capacity}
        paths = {self.path / file: kind for file, kind in kinds.items()}
        return [
            parse_record(kind, self._read(path, "is not there"), str(path)).model_copy(
                update={"name": name}
            )
            for path, kind in paths.items()
            if path.is_file()
        ]

    def write_report(self, markdown: str, page: str) -> tuple[Path, Path]:
        """Write the report as Markdown and as an HTML page; return their paths."""
        return self._write("report.md", markdown), self._write("report.html", page)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; raise RunError when another one works on it."""
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"{self.path} is in use by another bench process: wait for it, or stop it"
            ) from None
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        try:
            sweep(self.path.rglob(".foldbench-*"))
            sweep_temporary_folders()
            yield
        finally:
            lock.release()

    def _read(self, path: Path, missing: str) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise RunError(f"run {self.name} {missing}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{path}: cannot be read: {error}") from error

    def _write(self, name: str, text: str) -> Path:
        if name != "run.json" and not (self.path / "run.json").is_file():
            raise RunError(f"{self.path} was deleted meanwhile: {name} was not written")
        write_text(self.path / name, text + "\n")
        return self.path / name


def list_runs(root: Path) -> tuple[RunDirectory, ...]:
    """Return the runs in `root`, oldest first, by configuration and number."""
    if not root.is_dir():
        return ()
    found = [RunDirectory(p) for p in root.iterdir() if (p / "run.json").is_file()]
    return tuple(sorted(found, key=lambda run: (run.config_name, _number(run.name), run.name)))


def create_run(root: Path, config_name: str, meta: dict[str, Any]) -> RunDirectory:
    """Make the next numbered run of a configuration, with `meta` in its run.json."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        sweep(root.glob(".foldbench-*"))
        made = RunDirectory(root / temporary_name())
        made.path.mkdir()
        try:
            made.write_meta(meta)
            return _numbered(made, config_name)
        except BaseException:
            shutil.rmtree(made.path, ignore_errors=True)
            raise
    except OSError as error:
        raise _cannot_write(root, error) from error


def _numbered(made: RunDirectory, config_name: str) -> RunDirectory:
    """Give the run that was `made` the configuration's next number that is free."""
    root = made.path.parent
    taken = [_number(p.name) for p in root.iterdir() if p.name.startswith(f"{config_name}-")]
    number = max(taken, default=0) + 1
    while True:
        try:
            return RunDirectory(made.path.rename(root / f"{config_name}-{number:03d}"))
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            number += 1


def _number(name: str) -> int:
    match = _NAME.fullmatch(name)
    return int(match["number"]) if match else 0


def _cannot_write(path: Path, error: OSError) -> RunError:
    return RunError(
        f"cannot write in {path}: {error.strerror or error}: choose another place with --runs"
    )
