"""Reading the metadata of .onnx files without reading their graphs."""

import io
from pathlib import Path

import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import helper

from foldbench.bench.errors import BackendError
from foldbench.bench.host_files.marks import (
    HowToRun,
    custom_operator_facts,
    host_facts,
    how_to_run,
    read_metadata,
)


def model_with(facts: dict[str, str]) -> bytes:
    graph = helper.make_graph([], "g", [], [])
    weights = onnx.numpy_helper.from_array(__import__("numpy").zeros(1000, "float32"), "w")
    graph.initializer.append(weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=300), max_size=5))
def test_it_reads_what_onnx_wrote(facts: dict[str, str]) -> None:
    assert read_metadata(io.BytesIO(model_with(facts))) == facts


@given(st.binary(max_size=200))
@example(b"\x02\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")  # a field of 2**63 bytes
def test_anything_else_has_no_metadata_or_some_text(content: bytes) -> None:
    facts = read_metadata(io.BytesIO(content))
    assert all(isinstance(text, str) for pair in facts.items() for text in pair)


def test_a_file_says_how_it_is_to_be_run(tmp_path: Path) -> None:
    here = host_facts("1.2.3")
    optimised = {**here, "foldbench.graph_optimization": "disabled"}
    assert how_to_run(model_with(here), "1.2.3") == HowToRun(host=True)
    assert how_to_run(model_with(optimised), "1.2.3") == HowToRun(host=True, optimised=True)
    for bodies in (("a",), ("a", "b")):
        own = custom_operator_facts(bodies)
        assert how_to_run(model_with(own), "1.2.3") == HowToRun(operators=bodies)
    assert how_to_run(model_with({}), "1.2.3") == HowToRun()
    assert how_to_run(tmp_path / "nothing.onnx", "1.2.3") == HowToRun()


@pytest.mark.parametrize("operators", ["own", ""])
def test_a_file_with_operators_of_an_earlier_version_is_refused(operators: str) -> None:
    earlier = {**host_facts("1.2.3"), "foldbench.operators": operators}
    with pytest.raises(BackendError, match="export it again"):
        how_to_run(model_with(earlier), "1.2.3")
