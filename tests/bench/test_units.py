"""Numbers are rounded in one module, so that the same number looks the same everywhere."""

import ast
import re
from pathlib import Path

import pytest

import foldbench
from foldbench.bench import units

ROOT = Path(foldbench.__file__).parent.parent
EXEMPT = {"bench/units.py", "reports/figures/elements.py", "bench/timing/scenarios.py"}
"""A drawing's coordinates, and a key of LoadGen's log."""


def test_no_other_module_rounds() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in ("bench", "models", "exporters", "reports")
        for path in (ROOT / package).rglob("*.py")
        if str(path.relative_to(ROOT)) not in EXEMPT
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None
        if re.search(r"[,.eEfFgG%]", _written(node.format_spec))
    ]
    assert found == []


def _written(spec: ast.expr) -> str:
    parts = spec.values if isinstance(spec, ast.JoinedStr) else []
    return "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
