"""The intermediate form: what one element of the output follows from, as steps over the inputs.

A body is a list of steps in single assignment. Values are numbered: first the inputs, then the
steps; a step names values before it; the last value is the result. All arithmetic is in float32;
inputs and the result may be stored in float16. Codes of 8 bits are looked up in tables.

A body is kept in the metadata of files as one line of text, of which the source is made again where
the file is run. The text is read strictly, so that a file can carry formulas, and no code.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from foldbench.bench.errors import BackendError

Storage = Literal["float32", "float16", "uint8"]
Extent = Literal["full", "moves", "stays", "lanes8", "lanes16", "table"]
"""How an input lies along the output: of the same shape, or broadcast, and then along the innermost
axis of the output from one element to the next, or staying the same; or as 256 entries. Lanes are a
number for each channel, where channels lie in blocks of 8 or 16: the output is (N, C, H, W), stored
as (N, C / 8, H, W, 8)."""
Kind = Literal["float", "bool", "code", "table"]

NUMBER = "number"
PLAIN = "Elementwise_"
"""What the names of operators begin with that have all inputs of one shape, in any order."""
_BROADCAST = "Broadcast_"
_LOOKUP = "Lookup_"
_FLOAT: Kind = "float"
_BOOL: Kind = "bool"
_CODE: Kind = "code"
_TABLE: Kind = "table"
LANES: dict[int, Extent] = {8: "lanes8", 16: "lanes16"}
"""By how many channels lie in a block."""
_FLOATS = (_FLOAT, _FLOAT)

OPERATIONS: dict[str, tuple[tuple[Kind, ...], Kind]] = {
    **dict.fromkeys(
        (
            *("neg", "abs", "sqrt", "exp", "expm1", "log", "erf", "tanh", "sigmoid", "softplus"),
            *("mish", "floor", "ceil", "rint", "half"),
        ),
        ((_FLOAT,), _FLOAT),
    ),
    **dict.fromkeys(("add", "sub", "mul", "div", "min", "max"), (_FLOATS, _FLOAT)),
    **dict.fromkeys(("less", "less_equal", "equal"), (_FLOATS, _BOOL)),
    **dict.fromkeys(("and", "or", "xor"), ((_BOOL, _BOOL), _BOOL)),
    "not": ((_BOOL,), _BOOL),
    "where": ((_BOOL, _FLOAT, _FLOAT), _FLOAT),
    "lookup": ((_CODE, _TABLE), _CODE),
}
"""What each takes and gives. min and max of NaN and anything are NaN; rint rounds halves to even;
half rounds to the nearest float16, where it may overflow to infinity."""

MOST_INPUTS = 16
_MOST_STEPS = 512


@dataclass(frozen=True)
class Input:
    """One tensor that is read."""

    extent: Extent = "full"
    storage: Storage = "float32"

    @property
    def kind(self) -> Kind | None:
        """What it is to the steps; None for an input that there is not."""
        kinds: dict[tuple[bool, Extent], Kind] = {
            (True, "full"): _CODE,
            (True, "table"): _TABLE,
            **{(False, extent): _FLOAT for extent in get_args(Extent) if extent != "table"},
        }
        return kinds.get((self.storage == "uint8", self.extent))


@dataclass(frozen=True)
class Step:
    """An operation on earlier values, or a number."""

    operation: str
    arguments: tuple[int, ...] = ()
    number: float = 0.0

    def __str__(self) -> str:
        if self.operation == NUMBER:
            return f"{NUMBER}({self.number.hex()})"
        return f"{self.operation}({','.join(map(str, self.arguments))})"


@dataclass(frozen=True)
class Body:
    """A formula over `inputs`, the first of which is full. Raises BackendError for a broken one."""

    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    storage: Storage = "float32"
    """Of the result."""

    def __post_init__(self) -> None:
        kinds = self.kinds
        if not self.inputs or len(self.inputs) > MOST_INPUTS or self.inputs[0].extent != "full":
            raise BackendError(
                f"a body takes 1 to {MOST_INPUTS} inputs, the first in full: {self.text}"
            )
        extents = {given.extent for given in self.inputs}
        if self.lanes and len(extents) > 2:
            raise BackendError(f"lanes stand beside full inputs alone: {self.text}")
        wanted = _CODE if self.storage == "uint8" else _FLOAT
        if not self.steps or len(self.steps) > _MOST_STEPS or kinds[-1] != wanted:
            raise BackendError(
                f"a body has 1 to {_MOST_STEPS} steps, the last a {wanted}: {self.text}"
            )

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """The kind of each value; raises BackendError for a step that does not fit them."""
        kinds = [given.kind for given in self.inputs if given.kind is not None]
        if len(kinds) < len(self.inputs):
            raise BackendError(_broken(self.text))
        for step in self.steps:
            takes, gives = OPERATIONS.get(step.operation, ((), _FLOAT))
            known = step.operation in OPERATIONS or step.operation == NUMBER
            before = all(0 <= argument < len(kinds) for argument in step.arguments)
            if not (known and before and tuple(kinds[a] for a in step.arguments) == takes):
                raise BackendError(_broken(f"{step} after {len(kinds)} values"))
            kinds.append(gives)
        return tuple(kinds)

    @property
    def lanes(self) -> int:
        """How many channels lie in a block of the output; 0 where no input is in lanes."""
        extents = {given.extent for given in self.inputs}
        return next((count for count, extent in LANES.items() if extent in extents), 0)

    @property
    def is_plain(self) -> bool:
        """Whether all inputs have the output's shape, so that the order of elements is free."""
        return all(given.extent == "full" for given in self.inputs)

    @cached_property
    def text(self) -> str:
        """The body in one line: ``float32 full, float32 stays -> float32: add(0,1) exp(2)``."""
        takes = ", ".join(f"{given.storage} {given.extent}" for given in self.inputs)
        return f"{takes} -> {self.storage}: {' '.join(map(str, self.steps))}"

    @cached_property
    def name(self) -> str:
        """The name of the operator: equal only for equal bodies."""
        kind = PLAIN if self.is_plain else _BROADCAST
        kind = _LOOKUP if self.storage == "uint8" else kind
        return f"{kind}{hashlib.sha256(self.text.encode()).hexdigest()[:16]}"


LOOKUP = Body((Input("full", "uint8"), Input("table", "uint8")), (Step("lookup", (0, 1)),), "uint8")
"""Any chain of element-wise operators between two tensors of codes: ``table[x]``."""


class BodyBuilder:
    """Collects the steps of a body over `inputs`; equal steps are made once."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self._inputs = tuple(inputs)
        self._steps: list[Step] = []
        self._made: dict[str, int] = {}

    def number(self, value: float) -> int:
        """Return the value that is this number."""
        return self._add(Step(NUMBER, (), float(value)))

    def apply(self, operation: str, *arguments: int | float) -> int:
        """Return the value that `operation` makes of values (int) and numbers (float)."""
        indices = (a if isinstance(a, int) else self.number(a) for a in arguments)
        return self._add(Step(operation, tuple(indices)))

    def finish(self, result: int, storage: Storage = "float32") -> Body:
        """Return the body of what `result` needs; raises BackendError where there is no step."""
        first = len(self._inputs)
        needed = {result}
        for index in range(result, first - 1, -1):
            if index in needed:
                needed.update(self._steps[index - first].arguments)
        kept = [index for index in range(first, result + 1) if index in needed]
        places = {index: index for index in range(first)}
        places |= {index: first + place for place, index in enumerate(kept)}
        steps = [self._steps[index - first] for index in kept]
        moved = (
            Step(step.operation, tuple(places[a] for a in step.arguments), step.number)
            for step in steps
        )
        return Body(self._inputs, tuple(moved), storage)

    def _add(self, step: Step) -> int:
        place = len(self._inputs) + len(self._steps)
        found = self._made.setdefault(str(step), place)
        if found == place:
            self._steps.append(step)
        return found


_STEP = re.compile(r"([a-z_0-9]+)\(([^()\s]*)\)")
_INPUT = re.compile(rf"(float32|float16|uint8) ({'|'.join(get_args(Extent))})")
_BODY = re.compile(rf"([^:>]+) -> (float32|float16|uint8): ({_STEP.pattern}(?: {_STEP.pattern})*)")
_LONGEST = 2**16
_EXTENTS: dict[str, Extent] = {extent: extent for extent in get_args(Extent)}
_STORAGES: dict[str, Storage] = {storage: storage for storage in get_args(Storage)}


def parse_body(text: str) -> Body:
    """Return the body that `text` stands for; raise BackendError for anything else."""
    found = _BODY.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise BackendError(_broken(text))
    inputs = [_INPUT.fullmatch(part) for part in found[1].split(", ")]
    if not all(inputs):
        raise BackendError(_broken(text))
    made = Body(
        tuple(Input(_EXTENTS[given[2]], _STORAGES[given[1]]) for given in inputs if given),
        tuple(_parse_step(*step) for step in _STEP.findall(found[3])),
        _STORAGES[found[2]],
    )
    if made.text != text:
        raise BackendError(_broken(text))
    return made


def _parse_step(operation: str, inside: str) -> Step:
    if operation == NUMBER:
        try:
            return Step(operation, (), float.fromhex(inside))
        except (ValueError, OverflowError) as error:
            raise BackendError(_broken(f"{operation}({inside})")) from error
    if not re.fullmatch(r"[0-9]{1,5}(,[0-9]{1,5})*", inside):
        raise BackendError(_broken(f"{operation}({inside})"))
    return Step(operation, tuple(map(int, inside.split(","))))


def _broken(text: str) -> str:
    return f"no formula of an operator: {text[:80]!r}: export the file again"
