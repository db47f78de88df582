"""How a contender's backend is written, and what becomes of what it does not have."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.bench.config.backend_spec import Spec, load_backend, parse_spec
from foldbench.bench.errors import BenchError
from foldbench.bench.measure.contenders import contenders_of

WORD = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)


@given(st.dictionaries(WORD, st.one_of(st.just(""), WORD), max_size=4))
def test_what_is_written_is_read_back(options: dict[str, str]) -> None:
    spec = Spec("ort", options)
    assert parse_spec(str(spec)) == spec


def test_a_hyphen_in_the_name_of_a_backend_is_an_underscore(monkeypatch) -> None:
    monkeypatch.setattr("foldbench.bench.registry.Registry.names", lambda self: ("a_b",))
    assert parse_spec("a-b:x").backend == "a_b"


@pytest.mark.parametrize("text", ["ort:", "ort:+", "ort:a+a", "ort:a=", "ort:=b", "ort:a++b"])
def test_an_option_that_is_none_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(BenchError, match="each option once"):
        parse_spec(text)


def test_an_unknown_backend_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(BenchError, match="'ort'"):
        parse_spec("ort2:x")


def test_a_contender_that_makes_no_sense_on_a_device_is_skipped_with_the_reason() -> None:
    subject: Any = SimpleNamespace(folder=Path("run"), artifacts=())
    (row,) = contenders_of(subject, "ort:tf32", "cpu")
    assert row.status == "skipped"
    assert str(row.reason).startswith("ort:tf32 is for cuda ")
    (row,) = contenders_of(subject, "ort:search=best", "cuda")
    assert row.status == "failed"
    assert str(row.reason).startswith("ort:search=best: ")
    assert str(row.reason).endswith(" exhaustive, heuristic, default")


def test_an_unknown_option_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BenchError, match="'mikro'.*'micro'"):
        load_backend(parse_spec("ort:mikro=4"))
