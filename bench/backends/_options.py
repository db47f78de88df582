"""What backends ask of the options that they are given."""

from collections.abc import Collection, Mapping

from foldbench.bench.backends import BackendOptions
from foldbench.bench.errors import BackendError
from foldbench.bench.samples.timing import Device


def refuse_elsewhere(
    backend: str, options: BackendOptions, only_on: Mapping[str, Device], device: Device
) -> str | None:
    """Return why `options` cannot be had on `device`; None when each is for it.

    `only_on` names the device of each option that is for one alone.
    """
    for option in options:
        wanted = only_on.get(option, device)
        if wanted != device:
            return f"{backend}:{option} is for {wanted} alone: leave it out on {device}"
    return None


def check_values(backend: str, options: BackendOptions, with_value: Collection[str] = ()) -> None:
    """Raise BackendError for an option without the value it needs, or with one that it has not."""
    for option, value in options.items():
        if value and option not in with_value:
            raise BackendError(f"{backend}:{option}={value}: write {option} alone, without a value")
        if not value and option in with_value:
            raise BackendError(f"{backend}:{option} needs a value: write {option}=VALUE")


def check_exclusive(backend: str, options: BackendOptions, group: Collection[str]) -> None:
    """Raise BackendError when more than one option of `group` is given."""
    given = [option for option in options if option in group]
    if len(given) > 1:
        raise BackendError(f"{backend}:{'+'.join(given)}: give only one of them")


def whole_number(backend: str, option: str, text: str) -> int:
    """Return the whole number, 1 or more, that `text` is; raise BackendError for any other."""
    if not text.isdecimal() or int(text) < 1:
        raise BackendError(f"{backend}:{option}={text}: give a whole number from 1 on")
    return int(text)
