"""How a backend is written: ``ort``, ``torch:channels_last``, ``ort:micro=16+tuned``."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from foldbench.bench.errors import ConfigError, nearest
from foldbench.bench.registry import BACKENDS


@dataclass(frozen=True)
class Spec:
    """A backend and the options that it is opened with."""

    backend: str
    """File name in bench/backends/."""
    options: Mapping[str, str]
    """Option -> value; an option that is only switched on has the value ``""``."""

    def __str__(self) -> str:
        """Return it as it is written, options in the order in which they were given."""
        written = [f"{name}={value}" if value else name for name, value in self.options.items()]
        return self.backend + (":" + "+".join(written) if written else "")


def parse_spec(text: str) -> Spec:
    """Return the backend and options of ``backend[:option[=value][+option[=value]]...]``.

    A hyphen in the backend's name is read as an underscore. Nothing is imported and no option is
    checked. Raises UnknownNameError for a backend that there is not, ConfigError for the form.
    """
    name, colon, rest = text.strip().partition(":")
    BACKENDS.check(name.replace("-", "_"))
    options: dict[str, str] = {}
    for part in rest.split("+") if colon else ():
        option, equals, value = part.partition("=")
        if not option or (equals and not value) or option in options:
            raise ConfigError(
                f"backend {text!r}: {part!r} is no option of its own; write "
                f"{name}:option or {name}:option=value+option, each option once"
            )
        options[option] = value
    return Spec(name.replace("-", "_"), options)


def load_backend(spec: Spec) -> ModuleType:
    """Import and return the backend's module.

    Raises MissingPackageError that names what to install, ConfigError for an option that it lacks.
    """
    backend = BACKENDS.load(spec.backend)
    known: Mapping[str, str] = backend.OPTIONS
    for option in spec.options:
        if option not in known:
            has = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise ConfigError(
                f"backend {spec.backend!r} has no option {option!r}"
                f"{nearest(option, tuple(known))} ({has})"
            )
    return backend
