"""How a backend is written: ``ort``, ``torch:channels_last``, ``ort@1.23.2:micro=16+tuned``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from foldbench.bench.errors import ConfigError, nearest
from foldbench.bench.registry import BACKENDS

_VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc|\.dev|\.post)\d+)*")


@dataclass(frozen=True)
class Spec:
    """A backend and the options that it is opened with."""

    backend: str
    """File name in bench/backends/."""
    options: Mapping[str, str]
    """Option -> value; an option that is only switched on has the value ``""``."""
    version: str | None = None
    """Of its runtime, to be had in an environment of its own; None for the installed one."""

    def __str__(self) -> str:
        """Return it as it is written, options in the order in which they were given."""
        written = [f"{name}={value}" if value else name for name, value in self.options.items()]
        version = f"@{self.version}" if self.version else ""
        return self.backend + version + (":" + "+".join(written) if written else "")


def parse_spec(text: str) -> Spec:
    """Return the parts of ``backend[@version][:option[=value][+option[=value]]...]``.

    A hyphen in the backend's name is read as an underscore. Nothing is imported and no option is
    checked. Raises UnknownNameError for a backend that there is not, ConfigError for the form.
    """
    name, colon, rest = text.strip().partition(":")
    name, at, number = name.partition("@")
    BACKENDS.check(name.replace("-", "_"))
    if at and not _VERSION.fullmatch(number):
        raise ConfigError(f"backend {text!r}: {number!r} is no version; write it as {name}@1.23.2")
    options: dict[str, str] = {}
    for part in rest.split("+") if colon else ():
        option, equals, value = part.partition("=")
        if not option or (equals and not value) or option in options:
            raise ConfigError(
                f"backend {text!r}: {part!r} is no option of its own; write "
                f"{name}:option or {name}:option=value+option, each option once"
            )
        options[option] = value
    return Spec(name.replace("-", "_"), options, number or None)


def load_backend(spec: Spec) -> ModuleType:
    """Import and return the backend's module.

    Raises MissingPackageError that names what to install, ConfigError for an option that it lacks
    and where another version is asked for than this Python has: a worker's environment has it.
    """
    backend = BACKENDS.load(spec.backend)
    if spec.version is not None:
        _check_version(spec, distributions_of(spec.backend))
    known: Mapping[str, str] = backend.OPTIONS
    for option in spec.options:
        if option not in known:
            has = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise ConfigError(
                f"backend {spec.backend!r} has no option {option!r}"
                f"{nearest(option, tuple(known))} ({has})"
            )
    return backend


def distributions_of(backend: str) -> Mapping[str, str]:
    """Return the distribution of the backend's runtime by device; {} where it has no versions."""
    found: Mapping[str, str] = getattr(BACKENDS.load(backend), "DISTRIBUTIONS", {})
    return found


def _check_version(spec: Spec, distributions: Mapping[str, str]) -> None:
    installed = [_installed(name) for name in dict.fromkeys(distributions.values())]
    if _plain(spec.version) not in [_plain(one) for one in installed]:
        has = next(filter(None, installed), None)
        raise ConfigError(
            f"asked for {spec.backend}@{spec.version}, but this Python has {has or 'none of it'}: "
            f"versions are for bench compare; give {spec.backend} alone"
        )


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution.partition("[")[0])
    except PackageNotFoundError:
        return None


def _plain(number: str | None) -> str | None:
    """Return a version without zeros at its end: 2025.2 is 2025.2.0."""
    return re.sub(r"(\.0)+$", "", number) if number else None
