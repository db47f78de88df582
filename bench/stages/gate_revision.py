"""A configuration at a git revision: exported by the code of that revision, in a worktree of it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from foldbench.bench.errors import ConfigError, RunError, UnknownNameError, cut
from foldbench.bench.progress import ProgressListener
from foldbench.bench.store.directory import Paths, RunDirectory, list_runs
from foldbench.bench.store.finding import find_runs

_LEFT_OUT = ("artifacts", "artifacts.json", "comparisons", "results.json", "samples*.jsonl")
"""Of a run whose checkpoint is exported again."""


def is_revision(name: str) -> bool:
    """Return whether `name` has the form REVISION:FILE.onnx rather than that of a path."""
    return ":" in name and not Path(name).exists() and not re.match(r"[A-Za-z]:[\\/]", name)


def export_revision(
    name: str,
    overrides: Sequence[str],
    paths: Paths,
    folder: Path,
    listener: ProgressListener,
) -> RunDirectory:
    """Return a run in `folder` that REVISION's code exported from the checkpoint of CONFIG.

    The checkpoint is that of the run in the revision's own folder of runs where it has one, else in
    `paths`; a network of one's own is added as the revision has it. The user's working tree stays
    as it is. Raises BenchError that says what is missing, or how the export ended.
    """
    revision, _, config = name.partition(":")
    top = _repository(name)
    commit = _resolve(name, revision, top)
    listener.note(f"{name}: exporting with the code of {commit[:12]}")
    folder.mkdir(parents=True)
    runs = folder / "runs"
    with _worktree(top, commit, folder / "tree") as tree:
        subject = _prepare(name, config, tree, paths, runs)
        command = [sys.executable, "-m", "foldbench", "export", subject, "--runs", str(runs)]
        command += [part for text in overrides for part in ("--set", text)]
        done = subprocess.run(
            command, cwd=tree, env=_environment(tree), capture_output=True, text=True
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RunError(f"{name}: bench export {subject} failed there: {cut(last, 400)}")
    made = list_runs(runs)
    if not made:
        raise RunError(f"{name}: bench export {subject} left no run there")
    return made[-1]


def _prepare(name: str, config: str, tree: Path, paths: Paths, runs: Path) -> str:
    """Return what to export: a copy of the run that `config` has, or `config` itself."""
    for root in (tree / paths.runs.name, paths.runs):
        try:
            (run,) = find_runs(root, [config])
        except UnknownNameError:
            continue
        _refuse_code_of_the_user(name, run)
        shutil.copytree(
            run.path, runs / run.name, ignore=shutil.ignore_patterns(*_LEFT_OUT, ".lock")
        )
        return run.name
    if (tree / config.partition(":")[0]).is_file():
        return config
    raise RunError(
        f"{name}: there is no run of {config!r} in {paths.runs}, nor a file of that name in the "
        "revision: train it first (bench train), or name a .yaml file with model.from and weights"
    )


def _refuse_code_of_the_user(name: str, run: RunDirectory) -> None:
    source = run.checkpoint().source
    if source is not None and source.form in ("code", "memory"):
        raise ConfigError(
            f"{name}: run {run.name} was added from {source.name}, a file outside the revision: "
            "name a .yaml file of the revision with model.from and model.weights"
        )


def _environment(tree: Path) -> dict[str, str]:
    """Return the environment in which the revision's own foldbench is imported, if it has one."""
    environment = dict(os.environ)
    if (tree / "foldbench" / "__init__.py").is_file():
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(tree), *([before] if before else [])])
    return environment


@contextmanager
def _worktree(top: Path, commit: str, path: Path) -> Iterator[Path]:
    """Yield a worktree of `commit` at `path`, and remove it."""
    _git(top, "worktree", "add", "--quiet", "--detach", str(path), commit)
    try:
        yield path
    finally:
        subprocess.run(
            ["git", "-C", str(top), "worktree", "remove", "--force", str(path)],
            capture_output=True,
        )


def _repository(name: str) -> Path:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--show-toplevel"], capture_output=True, text=True
        )
    except OSError:
        raise RunError(f"{name} names a git revision, and there is no git here") from None
    if done.returncode != 0:
        raise UnknownNameError(
            f"{name}: is no run, and as REVISION:CONFIG it needs a git repository around the "
            "current folder"
        )
    return Path(done.stdout.strip())


def _resolve(name: str, revision: str, top: Path) -> str:
    if not revision or revision.startswith("-"):
        raise UnknownNameError(f"{name}: found no git revision before the colon")
    done = subprocess.run(
        ["git", "-C", str(top), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise UnknownNameError(
            f"{name}: {revision!r} is no revision of {top} (a shallow clone lacks older ones: "
            "git fetch --unshallow)"
        )
    return done.stdout.strip()


def _git(top: Path, *arguments: str) -> None:
    done = subprocess.run(["git", "-C", str(top), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RunError(f"git {arguments[0]} failed: {cut(done.stderr.strip(), 300)}")
