"""Records out of JSON: of the right kind, and in agreement with themselves."""

from typing import TypeVar

from pydantic import ValidationError

from foldbench.bench.errors import RunError
from foldbench.bench.records import SCHEMA_VERSION, Record
from foldbench.bench.store.consistency import find_fault

R = TypeVar("R", bound=Record)


def parse_record(kind: type[R], text: str, origin: str) -> R:
    """Return the record of type `kind` in the JSON `text`, which was read from `origin`.

    Raises RunError that names the file and the first fault.
    """
    try:
        record = kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RunError(
            f"{origin} is no {kind.__name__.lower()} record of schema {SCHEMA_VERSION}: "
            f"{where}: {first['msg']}; it was damaged or written by another version: "
            "make it again, or use the version of foldbench that wrote it"
        ) from None
    fault = find_fault(record)
    if fault is not None:
        raise RunError(
            f"{origin} contradicts itself: {fault}; it was damaged, or edited by hand: "
            "make it again, or restore it"
        )
    return record
