"""Bodies as C: one function each over a row of elements, in a loop that a compiler vectorises."""

from collections.abc import Sequence

from foldbench.bench.compiler.body import LANES, Body
from foldbench.bench.compiler.statements import statements

_TYPES = {"float32": "float", "float16": "_Float16"}
_ONNX_TYPES = {"float32": "FLOAT32", "float16": "FLOAT16", "uint8": "UINT8"}
_MOVES: dict[str, str] = {
    **{"full": "MOVES", "moves": "MOVES", "stays": "STAYS", "table": "TABLE"},
    **{extent: str(count) for count, extent in LANES.items()},
}


def c_functions(bodies: Sequence[Body]) -> str:
    """Return ``void body_I(const void *const *from, void *to, size_t n)`` for each body.

    Each computes `n` elements of a row of the output; an input that stays is read once, lanes are
    read again for each block. They need kernels/arithmetic.h before them, with FB_FLOAT16 defined
    where float16 occurs.
    """
    return "\n".join(_function(index, body) for index, body in enumerate(bodies))


def needs_float16(bodies: Sequence[Body]) -> bool:
    """Return whether any body reads, writes or rounds to float16."""
    return any("float16" in body.text or "half" in body.text for body in bodies)


def c_table(bodies: Sequence[Body], images: Sequence[bytes] = ()) -> str:
    """Return ``static const Body BODIES[]`` (kernels/elementwise.h), with an empty entry behind.

    Each has its function of `c_functions`, or its module of `images` for a GPU.
    """
    data = "".join(
        f"static const unsigned char image_{index}[] __attribute__((aligned(16))) = "
        f"{{{','.join(map(str, image))}}};\n"
        for index, image in enumerate(images)
    )
    entries = "".join(_entry(index, body, bool(images)) for index, body in enumerate(bodies))
    return f"{data}static const Body BODIES[] = {{\n{entries}{{0}}}};\n"


def _function(index: int, body: Body) -> str:
    lines = [
        f"/* {body.text} */",
        f"static void body_{index}(const void *const *from, void *to, size_t n)",
        "{",
        *(f"    {line}" for line in (_lookup(body) if body.storage == "uint8" else _loop(body))),
        "}",
        "",
    ]
    return "\n".join(lines)


def _lookup(body: Body) -> list[str]:
    """Return the call that looks a row of codes up."""
    codes, table = body.steps[-1].arguments
    return [f"fb_look_up(from[{codes}], from[{table}], to, n);"]


def _loop(body: Body) -> list[str]:
    """Return the loop over the elements of a row, and over the blocks in it where there are any."""
    before, inside = [], []
    element = "block + i" if body.lanes else "i"
    for place, given in enumerate(body.inputs):
        kind = _TYPES[given.storage]
        if given.extent == "stays":
            before.append(f"float v{place} = *(const {kind} *)from[{place}];")
        else:
            before.append(f"const {kind} *x{place} = from[{place}];")
            at = "i" if given.extent in LANES.values() else element
            inside.append(f"float v{place} = x{place}[{at}];")
    inside += statements(body)
    result = len(body.inputs) + len(body.steps) - 1
    kind = _TYPES[body.storage]
    return [
        *before,
        f"{kind} *y = to;",
        *([f"for (size_t block = 0; block < n; block += {body.lanes})"] if body.lanes else []),
        "INDEPENDENT",
        f"for (size_t i = 0; i < {body.lanes or 'n'}; i++) {{",
        *(f"    {line}" for line in inside),
        f"    y[{element}] = {'' if kind == 'float' else f'({kind})'}v{result};",
        "}",
    ]


def _entry(index: int, body: Body, on_gpu: bool) -> str:
    types = ", ".join(_ONNX_TYPES[given.storage] for given in body.inputs)
    moves = ", ".join(_MOVES[given.extent] for given in body.inputs)
    row, image = ("0", f"(const char *)image_{index}") if on_gpu else (f"body_{index}", "0")
    return (
        f'{{"{body.name}", {row}, {len(body.inputs)}, {{{types}}}, {{{moves}}}, '
        f"{_ONNX_TYPES[body.storage]}, {image}}},\n"
    )
