"""Cut a network down to the smallest part that still shows what a version made worse."""

import os
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from foldbench.bench.analysis.bisection import Halved, Part, narrow
from foldbench.bench.analysis.gate import Check
from foldbench.bench.errors import BackendError
from foldbench.bench.images.normalization import normalize
from foldbench.bench.stages.versions import Network, Trials
from foldbench.bench.store.files import temporary_name, write_text
from foldbench.bench.store.temporary import temporary_folder
from foldbench.bench.workers.isolated import run_isolated
from foldbench.bench.workers.runtimes import run_program
from foldbench.exporters.onnx_cut import Cut, WrittenPart, list_cuts, write_part

_IMAGES = 64
_IMAGES_BYTES = 2**27
"""Of the largest tensor that parts are given."""
SCRIPT, MODEL = "reproduce.py", "model.onnx"


def cut_down(trials: Trials, network: Network, base: str, halved: Halved, target: Path) -> Part:
    """Write the smallest part that shows it to the folder `target`; return what it is.

    The newest version that is not worse is held against the oldest that is, where they differ by
    enough; else `base`. A part that cannot be told does not show it.
    """
    with temporary_folder() as folder:
        search = _Search(trials, network, base, halved, folder)
        begin, end = narrow(len(search.cuts), search.shows)
        return search.write(begin, end, target)


class _Search:
    """Makes parts of a network, and asks two versions about each."""

    def __init__(
        self, trials: Trials, network: Network, base: str, halved: Halved, folder: Path
    ) -> None:
        self._trials, self._folder = trials, folder
        self.bad = str(halved.bad)
        self.cuts: tuple[Cut, ...] = run_isolated(list_cuts, network.path)
        self.good, check = self._find_pair(network, base, halved)
        self._network = self._most_different(network)
        self._parts: dict[tuple[int, int], tuple[Network, WrittenPart]] = {}
        self._checks: dict[tuple[int, int], Check] = {(0, len(self.cuts) - 1): check}

    def _find_pair(self, network: Network, base: str, halved: Halved) -> tuple[str, Check]:
        if halved.good != base:
            check = self._trials.check(halved.good, self.bad, network)
            if check.outcome == "worse":
                return halved.good, check
        known = next(one.check for one in halved.tried if one.version == self.bad)
        if known is None:
            raise BackendError(f"{self.bad} was skipped")
        return base, known

    def _most_different(self, network: Network) -> Network:
        """Return the network with the images whose answers differ most, few enough for parts."""
        answers = [self._trials.answers(one, network) for one in (self.good, self.bad)]
        difference = np.abs(answers[0] - answers[1]).max(1)
        first = np.argsort(-np.nan_to_num(difference, nan=np.inf), kind="stable")
        largest = 4 * max(int(np.prod(cut.shape)) for cut in self.cuts)
        (size,) = self._trials.settings.batch_sizes
        count = max(size, min(_IMAGES, _IMAGES_BYTES // largest))
        images = np.load(network.evaluation.images, mmap_mode="r", allow_pickle=False)
        return network.with_images(images[first[:count]], self._folder / "images.npy")

    def shows(self, begin: int, end: int) -> bool:
        """Return whether the part between two cuts shows it."""
        name = f"nodes {self.cuts[begin].nodes + 1} to {self.cuts[end].nodes}"
        self._trials.listener.note(f"testing {name} of {self.cuts[-1].nodes}")
        try:
            part, _ = self._part(begin, end)
            found = self._trials.check(self.good, self.bad, part)
        except BackendError as error:
            self._trials.listener.note(f"{name} cannot be run by itself: {error}")
            return False
        self._checks[begin, end] = found
        return found.outcome == "worse"

    def _part(self, begin: int, end: int) -> tuple[Network, WrittenPart]:
        """Return a part as a network that is given what the rest would give it; made once."""
        if (begin, end) not in self._parts:
            self._parts[begin, end] = self._make(begin, end)
        return self._parts[begin, end]

    def _make(self, begin: int, end: int) -> tuple[Network, WrittenPart]:
        path = self._folder / f"part-{begin}-{end}.onnx"
        whole = self._network
        written = run_isolated(write_part, whole.path, self.cuts[begin], self.cuts[end], path)
        spec = replace(whole.side.spec, path=path, source_sha256=None, size_bytes=None)
        side = replace(whole.side, spec=spec, folder=self._folder, classes=written.features)
        part = replace(whole, side=side)
        if begin == 0:
            return part, written
        before, _ = self._part(0, begin)
        given = self._trials.answers(self.good, before)
        inputs = given.reshape(len(given), *self.cuts[begin].shape)
        return part.with_images(inputs, self._folder / f"given-{begin}.npy"), written

    def write(self, begin: int, end: int, target: Path) -> Part:
        """Write the part, its input, the right answers, a script and both profiles."""
        part, written = self._part(begin, end)
        size = part.side.spec.fixed_batch or self._trials.settings.batch_sizes[0]
        images = np.load(part.evaluation.images, mmap_mode="r", allow_pickle=False)
        preprocessing = part.side.preprocessing
        answers = self._trials.answers(self.good, part)
        rows = np.resize(np.arange(len(images)), size)
        temporary = target.absolute().parent / temporary_name()
        temporary.mkdir(parents=True)
        try:
            cuts = self.cuts[begin], self.cuts[end]
            run_isolated(write_part, self._network.path, *cuts, temporary / MODEL)
            batch = normalize(images[rows], preprocessing.mean, preprocessing.std)
            np.save(temporary / "input.npy", batch, allow_pickle=False)
            np.save(temporary / "expected.npy", answers[rows], allow_pickle=False)
            source = (files("foldbench.bench.carried") / SCRIPT).read_text(encoding="utf-8")
            threads = f"intra_op_num_threads = {self._trials.threads}"
            write_text(temporary / SCRIPT, source.replace("intra_op_num_threads = 1", threads))
            for version in (self.good, self.bad):
                python = [str(self._trials.python_of(version)), "-I"]
                run_program(python, str(temporary / SCRIPT), "--profile", doing="run")
            os.rename(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return Part(
            folder=str(target),
            good=self.good,
            bad=self.bad,
            nodes=len(written.operators),
            of_nodes=self.cuts[-1].nodes,
            operators=written.operators,
            check=self._checks[begin, end],
        )
