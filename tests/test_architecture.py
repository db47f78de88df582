"""The shape of the code: who may import whom, and how long a file may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("bench", "models", "exporters", "reports", "configs")
FILES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
LINES_AT_MOST = 300

HEAVY = {"torch", "torchvision", "timm", "onnx", "onnxruntime", "onnxscript", "onnx_ir", "sklearn"}
HEAVY |= {"openvino", "scipy", "psutil"}

# For each part: which of our packages it may import, and which heavy ones. Lighter third-party
# packages are free. What is not listed (cli, stages, worker, compare and their like) may import
# everything.
GROUND = {"bench", "bench.errors"}
RECORDS = {"bench.records", "bench.record_base", "bench.records_profile", "bench.records_machine"}
RECORDS |= {"bench.records_search", "bench.records_quantization"}
CONFIG = {"bench.config", "bench.config_base", "bench.config_training"}
PLAIN = GROUND | RECORDS | CONFIG | {"bench.progress", "bench.storage"}
RULES: dict[str, tuple[set[str], set[str]]] = {
    "bench.errors": (set(), set()),
    "bench.record_base": (set(), set()),
    "bench.records_timing": (GROUND | {"bench.record_base"}, set()),
    "bench.records_quantization": (GROUND | {"bench.record_base"}, set()),
    "bench.records_scenarios": (GROUND | {"bench.record_base"}, set()),
    "bench.records_machine": ({"bench.record_base"}, set()),
    "bench.records_search": ({"bench.record_base"}, set()),
    "bench.search": (GROUND | {"bench.records_search"}, set()),
    "bench.records_images": (GROUND | {"bench.record_base"}, set()),
    "bench.records_transfer": (GROUND | {"bench.record_base", "bench.records_images"}, set()),
    "bench.records": (
        GROUND
        | {"bench.record_base", "bench.records_timing", "bench.records_scenarios"}
        | {"bench.records_machine", "bench.records_images", "bench.records_transfer"}
        | {"bench.records_quantization"},
        set(),
    ),
    "bench.records_samples": (RECORDS | {"bench.records_timing"}, set()),
    "bench.series": (RECORDS | {"bench.timing"}, set()),
    "bench.registry": (GROUND, set()),
    "bench.storage": (GROUND, set()),
    "bench.progress": (GROUND, set()),
    "bench.config_base": (set(), set()),
    "bench.config_training": (GROUND | {"bench.config_base", "bench.records"}, set()),
    "bench.config": (PLAIN | {"bench.records_scenarios"}, set()),
    "bench.specs": (GROUND | {"bench.registry"}, set()),
    "bench.yaml_files": (GROUND, set()),
    "bench.config_files": (PLAIN | {"bench.registry", "bench.specs", "bench.yaml_files"}, set()),
    "bench.statistics": (GROUND, {"scipy"}),
    "bench.accuracy": (PLAIN, set()),
    "bench.advice": (
        PLAIN
        | {"bench.statistics", "bench.speedups", "bench.advice_rule", "bench.advice_latency"}
        | {"bench.advice_machine", "bench.advice_export", "bench.advice_clocks"}
        | {"bench.advice_scenarios"},
        set(),
    ),
    "bench.advice_rule": (PLAIN | {"bench.speedups"}, set()),
    "bench.advice_latency": (
        PLAIN | {"bench.statistics", "bench.speedups", "bench.advice_rule"},
        set(),
    ),
    "bench.advice_machine": (
        PLAIN | {"bench.statistics", "bench.speedups", "bench.advice_rule"},
        set(),
    ),
    "bench.advice_clocks": (
        PLAIN | {"bench.statistics", "bench.speedups", "bench.advice_rule"},
        set(),
    ),
    "bench.advice_export": (PLAIN | {"bench.speedups", "bench.advice_rule"}, set()),
    "bench.advice_scenarios": (
        PLAIN | {"bench.statistics", "bench.speedups", "bench.advice_rule", "bench.scenarios"},
        set(),
    ),
    "bench.torchrun": (GROUND, set()),
    "bench.interference": (GROUND, set()),
    "bench.scenarios": (PLAIN | {"bench.interference", "bench.records_scenarios"}, set()),
    "bench.loadgen": (
        GROUND | {"bench.backends", "bench.interference", "bench.scenarios", "bench.timing"},
        set(),
    ),
    "bench.host": (GROUND, set()),
    "bench.gpu": (GROUND, set()),
    "bench.libraries": (GROUND, set()),
    "bench.host_files": (GROUND | {"bench.host", "bench.environment"}, set()),
    "bench.own_operators": (GROUND | {"bench.host", "bench.storage"}, set()),
    "bench.targets": (GROUND | RECORDS, set()),
    "bench.environment": (GROUND | {"bench.host", "bench.gpu"}, {"psutil"}),
    "bench.clocks": (GROUND | {"bench.host", "bench.gpu", "bench.records"}, set()),
    "bench.timing": (
        GROUND
        | {"bench.backends", "bench.interference", "bench.clocks", "bench.records"}
        | {"bench.records_machine"},
        set(),
    ),
    "bench.tuning": (PLAIN | {"bench.backends", "bench.statistics", "bench.timing"}, set()),
    "bench.speedups": (PLAIN | {"bench.statistics"}, set()),
    "bench.comparable": (PLAIN | {"bench.speedups"}, set()),
    "bench.difference": (
        PLAIN | {"bench.statistics", "bench.speedups", "bench.comparable"},
        set(),
    ),
    "bench.error_overlap": (PLAIN | {"bench.statistics", "bench.speedups"}, set()),
    "bench.regressions": (PLAIN | {"bench.difference"}, set()),
    "bench.schedule": (PLAIN | {"bench.statistics", "bench.speedups"}, set()),
    "bench.budget": (PLAIN | {"bench.statistics", "bench.schedule", "bench.timing"}, set()),
    "bench.preprocessing": (PLAIN, set()),
    "bench.datasets": (PLAIN | {"bench.datasets", "bench.environment"}, {"torchvision", "sklearn"}),
    "bench.backends": (
        PLAIN | {"bench.backends", "bench.host_files", "bench.own_operators"},
        {"torch", "onnxruntime", "openvino"},
    ),
    "models": (
        PLAIN | {"models", "bench.registry", "bench.datasets", "bench.torchrun"},
        {"torch", "torchvision", "timm"},
    ),
    "exporters": (
        PLAIN
        | {"exporters", "bench.registry", "bench.accuracy"}
        | {"bench.host_files", "bench.own_operators"},
        {"torch", "onnx", "onnxruntime", "onnxscript", "onnx_ir", "scipy"},
    ),
    "reports": (
        PLAIN
        | {"reports", "bench.statistics", "bench.advice", "bench.speedups"}
        | {"bench.comparable", "bench.difference", "bench.regressions", "bench.error_overlap"}
        | {"bench.scenarios", "bench.records_scenarios", "bench.advice_scenarios", "bench.probe"},
        set(),
    ),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_module_imports_only_what_its_place_allows(path: Path) -> None:
    name = module_name(path)
    rule = next((r for part, r in RULES.items() if is_within(name, part)), None)
    for imported in imports_of(path):
        assert imported != "bench.cli" or name == "bench.__main__", "nothing imports bench.cli"
        if rule is None:
            continue
        ours, heavy = rule
        top = imported.partition(".")[0]
        if top in PACKAGES:
            allowed = any(
                imported == one or (one not in GROUND and is_within(imported, one)) for one in ours
            )
            assert allowed, f"{name} imports {imported}"
        elif top in HEAVY:
            assert top in heavy, f"{name} imports {imported}"


def test_the_process_that_is_timed_loads_neither_scipy_nor_psutil() -> None:
    code = (
        "import sys, numpy as np, bench.servant, bench.clocks, bench.tuning, bench.loadgen\n"
        "import bench.backends.ort\n"
        "from bench.host_files import host_facts\n"
        "bench.clocks.open_reader('cpu')(), host_facts('1')\n"
        "print(sorted({'scipy', 'psutil', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_file_is_longer_than_can_be_read_at_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_AT_MOST


def test_no_file_is_called_utils_common_or_helpers() -> None:
    names = {path.stem.strip("_") for path in FILES}
    assert not names & {"utils", "util", "common", "helpers", "misc"}


def test_every_rule_is_about_something_that_exists() -> None:
    names = {module_name(path) for path in FILES}
    assert all(any(is_within(name, part) for name in names) for part in RULES)


def test_the_library_loads_no_pickle() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            called = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called == "torch.load":
                assert keywords.get("weights_only") == "True", path
            assert not called.startswith("pickle."), path
            if called in ("np.load", "numpy.load"):
                assert keywords.get("allow_pickle", "False") == "False", path
