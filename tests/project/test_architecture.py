"""The shape of the code: floors of packages, heavy imports, short files, no pickle."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("bench", "models", "exporters", "reports", "configs")
FILES = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))
LINES_AT_MOST = 400

FLOORS = (
    "bench bench.errors bench.progress bench.samples exporters reports configs",
    "bench.library_logs bench.records",
    "bench.registry bench.store bench.torchrun bench.machine bench.user_code bench.compiler "
    "reports.text "
    "exporters.folding exporters.image_input",
    "bench.config bench.host_files exporters.rewriting exporters.onnx_store "
    "exporters.onnx_metadata exporters.onnx_operators models.building.foreign_weights",
    "bench.workers.protocol",
    "bench.workers.child bench.workers.starting",
    "bench.workers.isolated models.zoo exporters.onnx_session",
    "bench.analysis bench.images bench.backends models.building exporters.parity exporters.passes "
    "exporters.onnx_file exporters.onnx_cut",
    "bench.datasets bench.timing exporters.origins exporters.module_names "
    "exporters.onnx_double exporters.onnx_batch models models.training reports.rows",
    "bench.workers bench.predict models.transfer exporters.export exporters.onnx_adopt "
    "exporters.onnx_truth exporters.quantization reports.sections reports.figures reports.formats "
    "reports.pictures",
    "bench.carried bench.measure bench.remote exporters.onnx_export exporters.explaining "
    "reports.html reports.formats.screen",
    "exporters.onnx_optimize reports.render",
    "bench.stages reports.commands",
    "bench.api",
    "bench.cli",
)
"""From the ground up. A module belongs to the longest entry that names it, and imports from its own
entry and from lower floors alone; imports within functions count."""

APART = {"models", "exporters", "reports"}
"""Never import one another: records are all that they share."""

HEAVY = {
    "bench.api": {"torch"},
    "bench.carried.reproduce": {"onnxruntime"},
    "bench.analysis": {"scipy"},
    "bench.backends": {"torch", "onnxruntime", "openvino"},
    "bench.datasets": {"sklearn", "torchvision"},
    "bench.images": {"sklearn", "torch"},
    "bench.machine.environment": {"psutil"},
    "bench.measure": {"torch"},
    "bench.remote": {"ray"},
    "bench.predict": {"onnx", "scipy", "torch"},
    "bench.stages": {"onnx", "onnxruntime", "torch", "mlflow", "matplotlib"},
    "bench.probabilities": {"scipy"},
    "bench.store": {"optuna", "psutil"},
    "bench.workers": {"torch"},
    "exporters": {"torch", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "scipy"},
    "models": {"torch", "torchvision", "timm", "sklearn"},
    "reports.pictures": {"matplotlib"},
}
"""Packages that take long to import or are not always there, and who may import them."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Return the syntax of a file."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports_of(path: Path) -> Iterator[str]:
    """Yield what a file imports; our own modules without the name of the root."""
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            ours = node.module.removeprefix("foldbench.")
            names = {f"{ours}.{alias.name}" for alias in node.names}
            yield from names & MODULES.keys() or {node.module}


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def floor_of(name: str) -> tuple[str, int]:
    """Return the entry of FLOORS that a module belongs to, and the number of its floor."""
    entries = ((entry, floor) for floor, names in enumerate(FLOORS) for entry in names.split())
    found = [(entry, floor) for entry, floor in entries if is_within(name, entry)]
    assert found, f"{name} belongs to no entry of FLOORS"
    return max(found, key=lambda pair: len(pair[0]))


def imports_from_above(name: str, path: Path) -> Iterator[str]:
    """Yield which modules a module imports and should not."""
    entry, floor = floor_of(name)
    for imported in imports_of(path):
        ours = imported.removeprefix("foldbench.")
        if ours not in MODULES or ours == "configs":
            continue
        below, its_floor = floor_of(ours)
        tops = {name.partition(".")[0], ours.partition(".")[0]}
        is_lower = below == entry or its_floor < floor
        if not is_lower or (len(tops) == 2 and tops <= APART):
            yield f"{name} imports {ours}"


def test_modules_import_only_from_lower_floors() -> None:
    assert not [fault for name, path in MODULES.items() for fault in imports_from_above(name, path)]


def test_modules_import_only_the_heavy_packages_that_are_their_own() -> None:
    heavy = set().union(*HEAVY.values())
    found = {}
    for name, path in MODULES.items():
        allowed = set().union(*(names for part, names in HEAVY.items() if is_within(name, part)))
        imported = {module.partition(".")[0] for module in imports_of(path)} - {name.split(".")[0]}
        found[name] = imported & heavy - allowed
    assert not {name: packages for name, packages in found.items() if packages}


def test_the_code_has_one_import_root() -> None:
    for path in FILES:
        tops = {module.partition(".")[0] for module in imports_of(path) if module not in MODULES}
        assert not tops & set(FOLDERS), path


def test_the_process_that_is_timed_loads_neither_scipy_nor_psutil() -> None:
    code = (
        "import sys, foldbench.bench.backends.ort, foldbench.bench.workers.server\n"
        "import foldbench.bench.timing.tuning, foldbench.bench.timing.loadgen\n"
        "import foldbench.bench.machine.clocks\n"
        "from foldbench.bench.host_files.marks import host_facts\n"
        "foldbench.bench.machine.clocks.open_reader('cpu')(), host_facts('1')\n"
        "print(sorted({'scipy', 'psutil', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_no_file_is_longer_than_can_be_read_at_one_sitting() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {path: lines for path, lines in lengths.items() if lines > LINES_AT_MOST}


def test_no_file_is_called_utils_common_or_helpers() -> None:
    names = {path.stem.strip("_") for path in FILES}
    assert not names & {"utils", "util", "common", "helpers", "misc"}


def test_no_module_has_the_name_of_one_in_the_standard_library() -> None:
    assert not {path.stem for path in FILES} & sys.stdlib_module_names - {"__init__"}


def test_the_library_loads_no_pickle() -> None:
    for path in FILES:
        for node in nodes_of(path):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            called = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called == "torch.load":
                assert keywords.get("weights_only") == "True", path
            assert not called.startswith("pickle."), path
            if called in ("np.load", "numpy.load"):
                assert keywords.get("allow_pickle", "False") == "False", path
