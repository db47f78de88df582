"""Numbers are rounded in one module, so that the same number looks the same everywhere."""

import ast
import re
from pathlib import Path

import pytest

import foldbench
from foldbench.bench import units

ROOT = Path(foldbench.__file__).parent.parent
EXEMPT = {
    *("bench/units.py", "reports/figures/elements.py", "bench/timing/scenarios.py"),
    "bench/carried/reproduce.py",
}
"""A drawing's coordinates, a key of LoadGen's log, and a script that runs without foldbench."""


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


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (units.milliseconds(0.00093412), "0.934"),
        (units.milliseconds(0.0099964), "10.0"),
        (units.milliseconds(1.2345), "1,234"),
        (units.milliseconds(None), ""),
        (units.duration(0.00093412), "934 µs"),
        (units.duration(0.0009999), "1.00 ms"),
        (units.duration(90.0), "90.0 s"),
        (units.long_duration(48.4), "48 s"),
        (units.long_duration(119.4), "119 s"),
        (units.long_duration(119.6), "2 min"),
        (units.long_duration(7_229), "2 h 00 min"),
        (units.long_duration(7_500), "2 h 05 min"),
        (units.long_duration(None), ""),
        (units.rate(31847.2), "31,800"),
        (units.percent(0.7698), "76.98"),
        (units.points(0.7601 - 0.7627), "-0.26"),
        (units.points(0.00123), "+0.12"),
        (units.points(-0.000001), "0.00"),
        (units.ratio(1.0), "1"),
        (units.ratio(2.1415), "2.14"),
        (units.error(0.0), "0"),
        (units.error(5.7231e-6), "5.72e-06"),
        (units.size(1000), "1000 B"),
        (units.size(247_901), "242 KiB"),
        (units.size(1_048_500), "1.00 MiB"),
        (units.span("1.24", ""), ""),
        (units.best_case_ratio(2.1015), "≈2.10 (best case)"),
        (units.best_case_ratio(None), ""),
    ],
)
def test_numbers_are_rounded_for_people(shown, text):
    assert shown == text


ESTIMATES = {
    (2.104, 1.98, 2.213): ("2.1", "2.0–2.2"),
    (1.0834, 1.071, 1.0987): ("1.08", "1.07–1.10"),
    (0.991, 0.984, 1.02): ("0.99", "0.98–1.02"),
    (12.34, 10.9, 14.2): ("12.3", "10.9–14.2"),
    (1.2501, 1.2499, 1.2502): ("1.25", "1.25–1.25"),
    (0.00512, 0.00509, 0.00514): ("0.0051", "0.0051–0.0051"),
    (1.0, 1.0, 1.0): ("1", ""),
    (1.375, None, None): ("1.38", ""),
    (None, None, None): ("", ""),
}


@pytest.mark.parametrize(("given", "shown"), ESTIMATES.items())
def test_a_ratio_and_its_interval_have_the_decimals_that_the_interval_supports(given, shown):
    assert units.estimate(*given) == shown


def _written(spec: ast.expr) -> str:
    parts = spec.values if isinstance(spec, ast.JoinedStr) else []
    return "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
