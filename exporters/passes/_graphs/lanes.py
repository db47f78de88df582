"""Element-wise operators with a number for each channel, as operators on channels in blocks."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from foldbench.bench.compiler.body import LANES, Body, BodyBuilder, Extent, Input
from foldbench.bench.errors import BackendError
from foldbench.bench.host_files.custom_operators import DOMAIN
from foldbench.exporters.passes._graphs.elementwise import (
    UntranslatableError,
    is_elementwise,
    translate,
)
from foldbench.exporters.passes._graphs.rewrite import scalar_of, sizes_of

_RANK = 4


@dataclass(frozen=True)
class Laned:
    """What an operator computes on blocks."""

    body: Body
    places: tuple[int, ...]
    """Which inputs of the operator the body takes, in its order."""

    def put(self, node: ir.Node) -> None:
        """Make `node` the operator of the body; its output stays the value that it is."""
        inputs = [node.inputs[place] for place in self.places]
        node.domain, node.op_type = DOMAIN, self.body.name
        node.attributes.clear()
        node.resize_inputs(len(inputs))
        for place, value in enumerate(inputs):
            node.replace_input_with(place, value)


def laned(
    node: ir.Node,
    whole: Collection[ir.Value],
    block: int,
    bodies: Mapping[str, Body],
) -> Laned | None:
    """Return what `node` computes on blocks of so many channels; None where it does not.

    Its inputs `whole` lie in blocks; all others have to have one number, or one for each channel.
    `bodies` are those of custom operators that are there, by name.
    """
    extent = LANES.get(block)
    given = [value for value in node.inputs if value is not None]
    floats = all(value.dtype == ir.DataType.FLOAT for value in (*given, *node.outputs))
    if extent is None or not whole or not floats or len(given) < len(node.inputs):
        return None
    wholes = [place for place, value in enumerate(given) if value in whole]
    numbers = [None if value in whole else scalar_of(value) for value in given]
    lanes = [p for p, number in enumerate(numbers) if number is None and p not in wholes]
    if not lanes or not all(_is_by_channel(given[p], given[wholes[0]]) for p in lanes):
        return None
    if node.domain == DOMAIN:
        return _of_body(bodies.get(node.op_type), wholes, extent)
    if not is_elementwise(node):
        return None
    places = (*wholes, *lanes)
    builder = BodyBuilder([Input()] * len(wholes) + [Input(extent)] * len(lanes))
    values = {place: value for value, place in enumerate(places)}
    operands = [values[p] if number is None else number for p, number in enumerate(numbers)]
    try:
        return Laned(builder.finish(translate(builder, node, operands)), places)
    except (UntranslatableError, BackendError):
        return None


def _is_by_channel(value: ir.Value, whole: ir.Value) -> bool:
    """Return whether `value` has one number for each channel of `whole`."""
    mine, theirs = sizes_of(value), sizes_of(whole)
    if len(theirs) != _RANK or len(mine) not in (_RANK - 1, _RANK) or None in (*mine, *theirs):
        return False
    batch = mine[0] if len(mine) == _RANK else 1
    return batch in (1, theirs[0]) and mine[-3:] == [theirs[1], 1, 1]


def _of_body(body: Body | None, wholes: Sequence[int], extent: Extent) -> Laned | None:
    """Return `body` with those inputs in lanes that stay along rows, if all others are `wholes`."""
    if body is None or body.storage != "float32":
        return None
    places = tuple(range(len(body.inputs)))
    if body.inputs != tuple(Input("full" if p in wholes else "stays") for p in places):
        return None
    inputs = tuple(Input("full" if p in wholes else extent) for p in places)
    return Laned(Body(inputs, body.steps), places)
