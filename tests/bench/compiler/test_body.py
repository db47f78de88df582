"""Bodies: their text is read back strictly, and what they mean in float64."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.bench.compiler.body import (
    OPERATIONS,
    Body,
    BodyBuilder,
    Extent,
    Input,
    Step,
    parse_body,
)
from foldbench.bench.compiler.c_source import c_functions
from foldbench.bench.compiler.evaluation import evaluate
from foldbench.bench.errors import BackendError

EXTENTS: tuple[tuple[Extent, ...], ...] = (
    ("full", "moves", "stays"),
    ("full", "lanes8"),
    ("full", "lanes16"),
)


@st.composite
def bodies(draw: st.DrawFn) -> Body:
    more = draw(st.lists(st.sampled_from(draw(st.sampled_from(EXTENTS))), max_size=3))
    builder = BodyBuilder([Input(extent) for extent in ("full", *more)])
    values = {"float": list(range(1 + len(more))), "bool": []}
    for _ in range(draw(st.integers(1, 12))):
        known = [name for name, (takes, _) in OPERATIONS.items() if all(map(values.get, takes))]
        name = draw(st.sampled_from(known))
        takes, gives = OPERATIONS[name]
        arguments = [draw(st.sampled_from(values[kind])) for kind in takes]
        values[gives].append(builder.apply(name, *arguments))
        values["float"].append(builder.number(draw(st.floats(width=32))))
    values["float"].append(builder.apply("neg", draw(st.sampled_from(values["float"]))))
    return builder.finish(values["float"][-1])


@given(bodies())
def test_a_text_is_read_back_to_the_same_operator(body: Body) -> None:
    again = parse_body(body.text)
    assert (again.text, again.name, again.is_plain) == (body.text, body.name, body.is_plain)
    assert c_functions([again]) == c_functions([body])


@given(bodies(), st.integers(0, 200), st.characters(codec="ascii"))
def test_a_text_with_another_character_is_another_body_or_refused(
    body: Body, place: int, other: str
) -> None:
    changed = body.text[:place] + other + body.text[place + 1 :]
    read = None
    with suppress(BackendError):
        read = parse_body(changed)
    assert read is None or read.text == changed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "own",
        "float32 full -> float32: system(0)",
        "float32 full -> float32: exp(1)",
        "float32 full -> float32: exp(0) add(0,1,1)",
        "float32 full -> float32: less(0,0)",
        "float32 full -> float32: where(0,0,0)",
        "float32 stays -> float32: exp(0)",
        "float32 full -> float32: number(0x1p0;)",
        "float32 full -> float64: exp(0)",
        "float32 full -> float32: " + " ".join(["exp(0)"] * 513),
        ", ".join(["float32 full"] * 17) + " -> float32: exp(0)",
        "float32 full */ int x; /* -> float32: exp(0)",
        "float32 full, float32 table -> float32: add(0,1)",
        "uint8 full -> float32: exp(0)",
        "float32 full, float32 lanes4 -> float32: mul(0,1)",
        "float32 lanes8 -> float32: exp(0)",
        "float32 full, float32 lanes8, float32 lanes16 -> float32: mul(0,1)",
        "float32 full, float32 lanes8, float32 stays -> float32: mul(0,1)",
        "uint8 full, uint8 table -> float32: lookup(0,1)",
        "uint8 full, uint8 full -> uint8: lookup(0,1)",
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BackendError) as caught:
        parse_body(text)
    assert "\n" not in str(caught.value)


def test_equal_steps_are_made_once_and_needless_ones_not_at_all() -> None:
    builder = BodyBuilder([Input()])
    first, again = builder.apply("exp", 0), builder.apply("exp", 0)
    builder.apply("log", 0)
    body = builder.finish(builder.apply("add", first, again))
    assert body.steps == (Step("exp", (0,)), Step("add", (1, 1)))


def test_the_meaning_is_numpys_with_broadcasting() -> None:
    body = parse_body("float32 full, float32 stays -> float32: less(0,1) mul(0,1) where(2,0,3)")
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    gate = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)
    np.testing.assert_array_equal(evaluate(body, [x, gate]), np.where(x < gate, x, x * gate))
