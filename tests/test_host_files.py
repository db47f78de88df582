"""Reading the metadata of .onnx files without reading their graphs."""

import io
from pathlib import Path

import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from bench.host_files import host_facts, is_ready_made, read_metadata


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
def test_anything_else_has_no_metadata_or_some_text(content: bytes) -> None:
    facts = read_metadata(io.BytesIO(content))
    assert all(isinstance(text, str) for pair in facts.items() for text in pair)


def test_a_file_made_here_is_run_as_it_is_and_others_are_not(tmp_path: Path) -> None:
    assert is_ready_made(model_with(host_facts("1.2.3")), "1.2.3")
    assert not is_ready_made(model_with({"foldbench.host": host_facts("1")["foldbench.host"]}), "1")
    assert not is_ready_made(model_with({}), "1.2.3")
    assert not is_ready_made(tmp_path / "nothing.onnx", "1.2.3")
