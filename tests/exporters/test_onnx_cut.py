"""Parts of a graph: where it can be cut, and that parts in a row compute what the whole does."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import classifier
from onnx.parser import parse_model

from foldbench.exporters.onnx_cut import list_cuts, write_part
from foldbench.exporters.onnx_session import open_session

BRANCHES = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,4] x) => (float[N,4] y) {
    one = Constant <value = float {1.0}> ()
    a = Relu(x)
    b = Add(a, one)
    c = Mul(a, b)
    d = Exp(c)
    y = Add(d, one)
}
"""


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = open_session(path)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.fixture(params=["chain", "branches"])
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "whole.onnx"
    onnx.save(classifier() if request.param == "chain" else parse_model(BRANCHES), path)
    return path


def test_parts_in_a_row_give_what_the_whole_gives(whole: Path, tmp_path: Path) -> None:
    cuts = list_cuts(whole)
    assert len(cuts) > 2
    images = np.random.default_rng(0).standard_normal((3, *cuts[0].shape)).astype(np.float32)
    x, nodes = images, 0
    for number, (first, last) in enumerate(pairwise(cuts)):
        part = tmp_path / f"{number}.onnx"
        written = write_part(whole, first, last, part)
        y = run(part, x)
        assert y.shape == (3, written.features)
        x, nodes = y.reshape(3, *last.shape), nodes + len(written.operators)
    np.testing.assert_allclose(x, run(whole, images), rtol=1e-5, atol=1e-6)
    assert nodes >= cuts[-1].nodes


def test_there_is_no_cut_inside_of_branches_nor_at_a_constant(tmp_path: Path) -> None:
    path = tmp_path / "branches.onnx"
    onnx.save(parse_model(BRANCHES), path)
    assert [(cut.tensor, cut.nodes) for cut in list_cuts(path)] == [
        ("x", 0),
        ("a", 2),
        ("c", 4),
        ("d", 5),
        ("y", 6),
    ]


def test_a_shape_that_is_not_known_is_no_cut(tmp_path: Path) -> None:
    path = tmp_path / "computed.onnx"
    onnx.save(classifier(head="computed"), path)
    cuts = list_cuts(path)
    assert (cuts[0].tensor, cuts[-1].tensor) == ("images", "scores")
    assert all(cut.shape for cut in cuts)
