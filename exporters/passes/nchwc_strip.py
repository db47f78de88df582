"""Keep activations in the blocked layout of onnxruntime's convolutions; for this machine alone.

onnxruntime's convolutions on a CPU work on channels in blocks as wide as a vector register (NCHWc).
Around operators that it knows in the usual layout alone it reorders: ReorderOutput, the operators,
ReorderInput. An operator that treats every number alike does not mind the order they are in, so
both reorderings can go; one with a number for each channel, such as the gate of
squeeze-and-excitation, becomes a custom operator that finds it in blocks (without a C compiler it
stays). A reordering of a single pixel moves nothing, and goes too. What comes out is the same bit
for bit.

This works on the graph that onnxruntime itself has optimised, whose weights lie in this
processor's layout and whose operators belong to this onnxruntime. The file says so in its metadata,
has to be run without further optimisation, and is refused elsewhere; hence it is on for the target
``host`` alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir
import onnxruntime
from onnx import ModelProto

from foldbench.bench.compiler.body import PLAIN, parse_body
from foldbench.bench.errors import BackendError
from foldbench.bench.host_files import custom_operators
from foldbench.bench.host_files.marks import (
    DISABLED,
    ON_BLOCKS,
    OPTIMIZATION,
    bodies_in,
    custom_operator_facts,
    host_facts,
)
from foldbench.bench.records import PassReport, Target
from foldbench.exporters.onnx_store import copy_of
from foldbench.exporters.passes._graphs.lanes import Laned, laned
from foldbench.exporters.passes._graphs.optimised import (
    BLOCKED,
    channels_in_a_block,
    optimise,
    why_not_optimised,
)
from foldbench.exporters.passes._graphs.rewrite import array_of, sizes_of

ERROR_BOUND = 0.0
TARGETS = ("host",)
ONLY_FOR: Target | None = "host"

_MICROSOFT = "com.microsoft"
_ELEMENTWISE = {
    "": (
        *("Abs", "Add", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Floor"),
        *("Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Max", "Min"),
        *("Mul", "Neg", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin"),
        *("Softplus", "Softsign", "Sqrt", "Sub", "Swish", "Tanh", "ThresholdedRelu"),
    ),
    _MICROSOFT: ("FastGelu", "Gelu", "QuickGelu"),
}
_RANK = 4
"""Of what is reordered: (N, C, H, W)."""
_PIXEL = (1, 1)
_KEEPS_CHANNELS = ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Upsample")

_Key = tuple[str | int, ...]
"""Equal for values of equal shape."""


def apply(model: ModelProto) -> tuple[ModelProto, PassReport]:
    """Return `model` as onnxruntime optimises it for this machine, without needless reordering.

    The copy is exact where there is nothing to take out. Raises what onnxruntime raises on a model
    that it cannot load.
    """
    if reason := why_not_optimised(model):
        return copy_of(model), _report(0, reason)
    optimised = optimise(model)
    bodies = bodies_in(optimised.metadata_props) or ()
    block = channels_in_a_block() or 0
    regions = _find_regions(optimised, block, bodies)
    made = {one.body.text for region in regions for one in region.laned.values()}
    if made:
        try:
            custom_operators.register(onnxruntime.SessionOptions(), (*bodies, *made))
        except BackendError:
            regions, made = _find_regions(optimised, 0, bodies), set()
    removed = sum(_strip(optimised, region) for region in regions)
    if not removed:
        return copy_of(model), _report(0, "no reordering that could be left out")
    removed += _strip_pixels(optimised, block)
    optimised.metadata_props.update(host_facts(onnxruntime.__version__))
    if made:
        optimised.metadata_props.update(custom_operator_facts((*bodies, *made)))
        optimised.opset_imports[custom_operators.DOMAIN] = 1
    optimised.metadata_props[OPTIMIZATION] = DISABLED
    left = sum(node.op_type.startswith("Reorder") for node in optimised.graph)
    return ir.to_proto(optimised), _report(
        removed, f"{removed} reorderings left out, {left} kept; for this machine alone"
    )


def _report(changed: int, detail: str) -> PassReport:
    return PassReport(name="nchwc_strip", changed=changed, detail=detail)


@dataclass
class _Region:
    """Elementwise operators between reorderings, and the values that they read and make."""

    sources: list[ir.Node] = field(default_factory=list)
    """ReorderOutput nodes."""
    nodes: set[ir.Node] = field(default_factory=set)
    laned: dict[ir.Node, Laned] = field(default_factory=dict)
    """What those of `nodes` become that have a number for each channel."""

    def values(self) -> Iterator[ir.Value]:
        """Yield every value in the usual layout that would be blocked instead."""
        for node in (*self.sources, *self.nodes):
            yield from node.outputs

    def back(self) -> list[ir.Node]:
        """Return the ReorderInput nodes that would not be needed any more."""
        readers = (use.node for value in self.values() for use in value.uses())
        return list(dict.fromkeys(node for node in readers if _is_blocked(node, "ReorderInput")))

    def needed(self) -> list[ir.Value]:
        """Return the values that something outside needs in the usual layout."""
        inside = self.nodes | set(self.back())
        return [
            value
            for value in self.values()
            if value.is_graph_output() or any(use.node not in inside for use in value.uses())
        ]


def _find_regions(model: ir.Model, block: int, bodies: Sequence[str]) -> list[_Region]:
    """Return the regions whose reorderings are more than those that would have to be added.

    Operators with a number for each channel are in them where `block` is how many lie in one.
    """
    named = {body.name: body for body in map(parse_body, bodies)}
    keys: dict[ir.Value, _Key] = {}
    home: dict[ir.Value, _Region] = {}
    for node in model.graph:
        if _is_blocked(node, "ReorderOutput") and _is_unpadded(node):
            keys[node.outputs[0]] = _key_of(node.outputs[0])
            home[node.outputs[0]] = _Region(sources=[node])
            continue
        key = _key_read(node, keys)
        whole = [value for value in node.inputs if value in keys and keys[value] == key]
        one = laned(node, whole, block, named)
        if key and (one or _reads_alone(node, key, keys)):
            region = _merge([home[value] for value in whole], home)
            region.nodes.add(node)
            if one:
                region.laned[node] = one
            keys[node.outputs[0]], home[node.outputs[0]] = key, region
    regions = {id(region): region for region in home.values()}.values()
    return [r for r in regions if len(r.sources) + len(r.back()) > len(r.needed())]


def _key_read(node: ir.Node, keys: Mapping[ir.Value, _Key]) -> _Key | None:
    """Return the shape, of those in `keys`, that `node` computes; None where it reads none."""
    read = [keys[value] for value in node.inputs if value in keys]
    return max(read, key=lambda key: key[-2:] != _PIXEL, default=None)


def _reads_alone(node: ir.Node, key: _Key, keys: Mapping[ir.Value, _Key]) -> bool:
    """Return whether `node` treats numbers alike, and all that it reads are numbers or in `key`."""
    read = [value for value in node.inputs if value is not None and not _is_scalar(value)]
    return _is_elementwise(node) and all(keys.get(value) == key for value in read)


def _merge(regions: list[_Region], home: dict[ir.Value, _Region]) -> _Region:
    """Return one region in place of all of `regions`."""
    first, *others = {id(region): region for region in regions}.values()
    for other in others:
        first.sources += other.sources
        first.nodes |= other.nodes
        first.laned |= other.laned
        home.update(dict.fromkeys(other.values(), first))
    return first


def _key_of(value: ir.Value) -> _Key:
    """Return a key that equals another value's only if their shapes are known to be equal."""
    dims = sizes_of(value)
    if not dims or None in dims:
        return ("the shape of", str(value.name))
    return tuple(d for d in dims if d is not None)


def _is_blocked(node: ir.Node, op_type: str) -> bool:
    """Return whether `node` is this operator on blocks, or between them and NCHW (not NHWC)."""
    same = node.domain == BLOCKED and node.op_type == op_type
    return same and not node.attributes.get_int("channels_last", 0)


def _is_elementwise(node: ir.Node) -> bool:
    ours = node.domain == custom_operators.DOMAIN and node.op_type.startswith(PLAIN)
    known = ours or node.op_type in _ELEMENTWISE.get(node.domain, ())
    return known and len(node.outputs) == 1


def _is_scalar(value: ir.Value) -> bool:
    array = array_of(value)
    return array is not None and array.size == 1 and array.ndim <= _RANK


def _is_unpadded(node: ir.Node) -> bool:
    """Return whether the channels that ReorderOutput `node` gives are whole blocks.

    The weights say so: those of the convolution before have as many rows as blocks have channels.
    """
    channels = node.attributes.get_int("channels", 0)
    value = node.inputs[0]
    while value is not None and (before := value.producer()) is not None:
        if _is_blocked(before, "Conv"):
            weight = array_of(before.inputs[1])
            return weight is not None and len(weight) == channels
        keeps = before.domain == BLOCKED and before.op_type in _KEEPS_CHANNELS
        if not keeps and not _is_elementwise(before):
            return False
        value = before.inputs[0]
    return False


def _strip(model: ir.Model, region: _Region) -> int:
    """Let a region work on blocks; return how many reorderings fewer there are."""
    for node, one in region.laned.items():
        one.put(node)
    back, needed = region.back(), region.needed()
    inside = region.nodes | set(back)
    for value in needed:
        _read_reordered(model.graph, value, inside, region.sources[0])
    for node in (*back, *region.sources):
        node.outputs[0].replace_all_uses_with(node.inputs[0])
    for value in region.values():  # no longer the numbers in their order
        value.shape = None
        value.name = f"{value.name}{ON_BLOCKS}"
    model.graph.remove([*back, *region.sources], safe=True)
    return len(back) + len(region.sources) - len(needed)


def _read_reordered(graph: ir.Graph, value: ir.Value, inside: set[ir.Node], like: ir.Node) -> None:
    """Let everything but `inside` read `value` through a ReorderOutput of its own."""
    outside = [use for use in value.uses() if use.node not in inside]
    node = ir.Node(BLOCKED, "ReorderOutput", [value], like.attributes.values())
    before = value.producer()
    assert before is not None  # a region's values are made by its nodes
    graph.insert_after(before, node)
    reordered = node.outputs[0]
    reordered.name, reordered.type, reordered.shape = value.name, value.type, value.shape
    for use in outside:
        use.node.replace_input_with(use.idx, reordered)
    if value.is_graph_output():
        places = [n for n, output in enumerate(graph.outputs) if output is value]
        for place in places:
            graph.outputs[place] = reordered


def _strip_pixels(model: ir.Model, block: int) -> int:
    """Remove reorderings of one pixel with whole blocks, which move nothing; return how many."""
    removed = 0
    for node in list(model.graph):
        usual = node.outputs[0] if node.op_type == "ReorderOutput" else node.inputs[0]
        if usual is None or usual.shape is None or tuple(usual.shape[2:]) != _PIXEL:
            continue
        channels = usual.shape[1]
        whole = isinstance(channels, int) and block > 0 and channels % block == 0
        out = _is_blocked(node, "ReorderOutput") and _is_unpadded(node)
        back = _is_blocked(node, "ReorderInput") and whole
        if (out or back) and not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(node.inputs[0])
            model.graph.remove(node, safe=True)
            removed += 1
    return removed
