"""Networks that are not foldbench's own: code of the user's, a library's, an exported program."""

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import cloudpickle
from torch import Tensor, nn

from foldbench.bench.errors import ConfigError, nearest, one_line, place_of
from foldbench.bench.user_code import load_user_code
from foldbench.bench.user_code.memory import pickle_of
from foldbench.bench.user_code.source import SourceText, parse_source
from foldbench.models.building.outputs import describe_output
from foldbench.models.building.programs import load_program
from foldbench.models.zoo.networks import ZooNetwork, create, find_network

_CLASS_COUNTS = ("num_classes", "classes", "n_classes", "nclasses", "num_labels")
"""How networks call the argument for the number of their classes."""


def build_source(
    text: str,
    args: Mapping[str, Any],
    classes: int | None,
    input_shape: tuple[int, int, int],
    output: str | None = None,
) -> nn.Module:
    """Return the network that `text` names, float32, on the CPU, as its own code builds it.

    `classes` is None where the network itself says how many it has. `output` chooses the logits
    among several outputs. Raises ConfigError for what is not there or cannot be built.
    """
    source = parse_source(text)
    if source.form == "onnx":
        raise ConfigError(f"{source.location}: an .onnx file holds no torch module")
    build = _BUILDERS[source.form]
    network = build(source, args, classes, input_shape)
    return network if output is None else LogitsOf(network, output)


def _from_code(
    source: SourceText, args: Mapping[str, Any], classes: int | None, shape: tuple[int, int, int]
) -> nn.Module:
    text = f"{source.location}:{source.attribute}"
    attribute = load_user_code(text).attribute
    if isinstance(attribute, nn.Module):
        if args:
            raise ConfigError(
                f"{text}: is a module already and takes no model.args: leave them out"
            )
        return deepcopy(attribute)
    if not callable(attribute):
        raise ConfigError(
            f"{text}: is of type {type(attribute).__name__}; allowed: a torch.nn.Module, or a "
            "class or function that returns one"
        )
    given = {**_known_arguments(attribute, classes, shape), **args}
    check_call(text, attribute, given)
    try:
        network = attribute(**given)
    except Exception as error:  # the user's own code
        raise ConfigError(
            f"{text}: cannot be built with {_shown(given)}: {type(error).__name__}: "
            f"{one_line(error, 200)}{place_of(error)}"
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{text}: returned {type(network).__name__}; allowed: a torch.nn.Module")
    return network


def _known_arguments(
    attribute: Callable[..., Any], classes: int | None, shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Return what foldbench knows and the network asks for by name."""
    parameters = _parameters_of(attribute)
    known: dict[str, Any] = {}
    if classes is not None:
        known |= {name: classes for name in _CLASS_COUNTS if name in parameters}
    if "input_shape" in parameters:
        known["input_shape"] = shape
    return known


def stated_classes(text: str, args: Mapping[str, Any]) -> int | None:
    """Return the number of classes that arguments of the user's code say, or their defaults."""
    source = parse_source(text)
    if source.form != "code":
        return None
    parameters = _parameters_of(load_user_code(f"{source.location}:{source.attribute}").attribute)
    for name in _CLASS_COUNTS:
        said = args.get(name, parameters[name].default if name in parameters else None)
        if isinstance(said, int):
            return said
    return None


def _parameters_of(attribute: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(attribute).parameters
    except (TypeError, ValueError):  # written in another language
        return {}


def check_call(text: str, attribute: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise ConfigError when `attribute` does not take the arguments `given`, or needs others."""
    parameters = _parameters_of(attribute)
    kinds = {p.kind for p in parameters.values()}
    if not parameters and not given:
        return
    named = [
        name
        for name, p in parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    for key in given:
        if key not in named and inspect.Parameter.VAR_KEYWORD not in kinds:
            allowed = f"allowed: {', '.join(named)}" if named else "it takes none"
            raise ConfigError(
                f"model.args.{key}: {text} has no such argument{nearest(key, named)} ({allowed})"
            )
    missing = [
        name
        for name in named
        if parameters[name].default is inspect.Parameter.empty and name not in given
    ]
    if missing:
        wanted = f"--args '{{{missing[0]}: ...}}' (model.args)"
        if missing[0] in _CLASS_COUNTS:
            wanted = "--classes 10"
        raise ConfigError(
            f"{text}: needs the arguments {', '.join(missing)}: give them, such as {wanted}"
        )


def _shown(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in given.items()) or "no arguments"


def _from_library(
    source: SourceText, args: Mapping[str, Any], classes: int | None, shape: tuple[int, int, int]
) -> nn.Module:
    network = network_of(source)
    given = dict(args)
    if classes is not None:
        given.setdefault("num_classes", classes)
    if source.form == "timm" and shape[0] != 3:
        given.setdefault("in_chans", shape[0])
    try:
        return create(network, **given)
    except Exception as error:  # numbers that no layer can have raise anything
        raise ConfigError(
            f"{network.name}: cannot be built with {_shown(given)}: {one_line(error, 200)}"
        ) from error


def network_of(source: SourceText) -> ZooNetwork:
    """Return the library's network; raise UnknownNameError with the nearest spelling."""
    return find_network(f"{source.form}:{source.location}")


def _from_program(
    source: SourceText, args: Mapping[str, Any], classes: int | None, shape: tuple[int, int, int]
) -> nn.Module:
    path = Path(source.location)
    if args:
        raise ConfigError(f"{path}: an exported program takes no model.args: leave them out")
    return load_program(path, shape)


def _from_memory(
    source: SourceText, args: Mapping[str, Any], classes: int | None, shape: tuple[int, int, int]
) -> nn.Module:
    """Return a copy of a module that the Python API was given, with the weights it has."""
    if args:
        raise ConfigError(f"{source.name}: a module takes no model.args: leave them out")
    content = pickle_of(source.location)
    try:
        found = cloudpickle.loads(content)
    except Exception as error:  # the user's classes are built here
        raise ConfigError(
            f"{source.name}: cannot be rebuilt in a process of its own: {type(error).__name__}: "
            f"{one_line(error, 200)}"
        ) from error
    if not isinstance(found, nn.Module):
        raise ConfigError(f"{source.name}: found {type(found).__name__}; allowed: torch.nn.Module")
    return found.float()


_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "code": _from_code,
    "torchvision": _from_library,
    "timm": _from_library,
    "program": _from_program,
    "memory": _from_memory,
}


class LogitsOf(nn.Module):
    """A network of several outputs, reduced to the one that holds the logits.

    `output` is its number from 0, or its name in what the network returns.
    """

    def __init__(self, network: nn.Module, output: str) -> None:
        super().__init__()
        self.network = network
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, (N, classes); raise ConfigError when there is no such output."""
        return choose_output(self.network(x), self.output)


def choose_output(found: Any, output: str) -> Any:
    """Return one of several outputs, by number or by name; raise ConfigError without it."""
    try:
        if output.isdecimal() and not isinstance(found, Mapping):
            return found[int(output)]
        return found[output] if isinstance(found, Mapping) else getattr(found, output)
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"model.output: there is no {output!r} in the network's output, "
            f"{describe_output(found)}: give a number from 0, or a name"
        ) from error
