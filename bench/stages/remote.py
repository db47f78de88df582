"""Measure a bundle on other machines, and store a record of each."""

import re
from collections.abc import Sequence
from pathlib import Path

from foldbench.bench.carried.unpacking import unpack
from foldbench.bench.errors import BenchError, RunError
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Run
from foldbench.bench.remote.places import Elsewhere, Place, measure_at
from foldbench.bench.store.files import write_text
from foldbench.bench.store.finding import named_after
from foldbench.bench.store.parsing import parse_record


def measure_elsewhere(
    bundle: Path, places: Sequence[Place], folder: Path, listener: ProgressListener
) -> tuple[Elsewhere, ...]:
    """Return what came of each place, in their order.

    A record is ``BUNDLE.PLACE.json`` in `folder`. One that is there from before is replaced by a
    record in which something ran, and by nothing else. Raises RunError for a file that is no whole
    bundle, or two places of one name.
    """
    wrong = unpack(bundle, None)
    if wrong is not None:
        raise RunError(wrong)
    paths = [folder / f"{bundle.stem}.{_slug(place.name)}.json" for place in places]
    for place, path in zip(places, paths, strict=True):
        if paths.count(path) > 1:
            raise RunError(f"{place.name} is named twice: a machine measures one bundle at a time")
    found = {}
    for place, answer in measure_at(places, bundle, listener):
        try:
            if isinstance(answer, BenchError):
                raise answer
            path = paths[places.index(place)]
            found[place.name] = _store(place.name, answer, path)
            listener.note(f"{place.name}: written: {path}")
        except BenchError as error:
            found[place.name] = Elsewhere(place.name, reason=str(error))
            listener.note(f"{place.name}: failed: {error}")
    return tuple(found[place.name] for place in places)


def _slug(name: str) -> str:
    """Return what stands for a host in the name of a file: ``me@pi`` is ``pi``."""
    host = name.removeprefix("ssh://").rpartition("@")[2]
    return re.sub(r"[^A-Za-z0-9.-]+", "-", host).strip("-")


def _store(place: str, text: str, path: Path) -> Elsewhere:
    record = parse_record(Run, text, f"the record of {place}")
    if not any(m.status == "ok" for m in record.measurements):
        reasons = dict.fromkeys(m.reason for m in record.measurements if m.reason)
        raise RunError(f"nothing ran there: {'; '.join(reasons)}")
    write_text(path, text)
    return Elsewhere(place, path, named_after(record, path))
