"""Reports say what exported files were held against."""

import pytest

from builders import make_artifact
from foldbench.bench import records
from foldbench.reports.commands.export import render_artifact
from foldbench.reports.text.parity import told_float32, told_references


def artifact(reference: str, variant: str = "folded") -> records.Artifact:
    parity = make_artifact(variant).parity.model_copy(update={"reference": reference})
    return make_artifact(variant, parity=parity)


@pytest.mark.parametrize(
    ("reference", "told", "exact"),
    [
        ("float64", "float64 torch", True),
        ("float32", "float32 torch", False),
        ("ort_float64", "given file in float64", True),
        ("onnx_float64", "reference evaluator", True),
        ("ort_float32", "given file in float32", False),
    ],
)
def test_float64_is_told_where_it_was_and_nowhere_else(tmp_path, reference, told, exact) -> None:
    one = artifact(reference)
    for text in (told_references([one]), render_artifact(tmp_path, one)):
        assert told in text
        assert ("float64 does not run" in text) is not exact
    assert one.parity.is_exact is exact
    assert ("torch" in told_float32([one])) is (reference in ("float64", "float32"))


def test_all_kinds_that_are_in_a_table_are_told_once() -> None:
    told = told_references([artifact("float64"), artifact("float32"), artifact("float64")])
    assert told == "float64 torch or float32 torch (float64 does not run)"
