"""The shape of the code: who may import whom, and how long a file may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("bench", "models", "exporters", "reports", "configs")
FILES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
LINES_AT_MOST = 300

HEAVY = {"torch", "torchvision", "timm", "onnx", "onnxruntime", "onnxscript", "onnx_ir", "sklearn"}
HEAVY |= {"openvino", "scipy", "psutil"}

# For each part: which of our packages it may import, and which heavy ones. Lighter third-party
# packages are free. What is not listed (cli, stages, worker, compare and their like) may import
# everything.
GROUND = {"bench", "foldbench.bench.errors"}
RECORDS = {
    "foldbench.bench.records.run",
    "foldbench.bench.records.base",
    "foldbench.bench.records.profile",
    "foldbench.bench.records.machine",
}
RECORDS |= {"foldbench.bench.records.search", "foldbench.bench.records.quantization"}
CONFIG = {
    "foldbench.bench.config.schema",
    "foldbench.bench.config.base",
    "foldbench.bench.config.training",
}
PLAIN = GROUND | RECORDS | CONFIG | {"foldbench.bench.progress", "foldbench.bench.store.files"}
RULES: dict[str, tuple[set[str], set[str]]] = {
    "foldbench.bench.errors": (set(), set()),
    "foldbench.bench.records.base": (set(), set()),
    "foldbench.bench.records.timing": (GROUND | {"foldbench.bench.records.base"}, set()),
    "foldbench.bench.records.quantization": (GROUND | {"foldbench.bench.records.base"}, set()),
    "foldbench.bench.records.scenarios": (GROUND | {"foldbench.bench.records.base"}, set()),
    "foldbench.bench.records.machine": ({"foldbench.bench.records.base"}, set()),
    "foldbench.bench.records.search": ({"foldbench.bench.records.base"}, set()),
    "foldbench.bench.store.study": (GROUND | {"foldbench.bench.records.search"}, set()),
    "foldbench.bench.records.images": (GROUND | {"foldbench.bench.records.base"}, set()),
    "foldbench.bench.records.transfer": (
        GROUND | {"foldbench.bench.records.base", "foldbench.bench.records.images"},
        set(),
    ),
    "foldbench.bench.records.run": (
        GROUND
        | {
            "foldbench.bench.records.base",
            "foldbench.bench.records.timing",
            "foldbench.bench.records.scenarios",
        }
        | {
            "foldbench.bench.records.machine",
            "foldbench.bench.records.images",
            "foldbench.bench.records.transfer",
        }
        | {"foldbench.bench.records.quantization"},
        set(),
    ),
    "foldbench.bench.records.samples": (RECORDS | {"foldbench.bench.records.timing"}, set()),
    "foldbench.bench.measure.series": (RECORDS | {"foldbench.bench.timing.loop"}, set()),
    "foldbench.bench.registry": (GROUND, set()),
    "foldbench.bench.store.files": (GROUND, set()),
    "foldbench.bench.progress": (GROUND, set()),
    "foldbench.bench.config.base": (set(), set()),
    "foldbench.bench.config.training": (
        GROUND | {"foldbench.bench.config.base", "foldbench.bench.records.run"},
        set(),
    ),
    "foldbench.bench.config.schema": (PLAIN | {"foldbench.bench.records.scenarios"}, set()),
    "foldbench.bench.config.backend_spec": (GROUND | {"foldbench.bench.registry"}, set()),
    "foldbench.bench.config.yaml_files": (GROUND, set()),
    "foldbench.bench.config.files": (
        PLAIN
        | {
            "foldbench.bench.registry",
            "foldbench.bench.config.backend_spec",
            "foldbench.bench.config.yaml_files",
        },
        set(),
    ),
    "foldbench.bench.analysis.statistics": (GROUND, {"scipy"}),
    "foldbench.bench.analysis.logits": (PLAIN, set()),
    "foldbench.bench.analysis.advice.rules": (
        PLAIN
        | {
            "foldbench.bench.analysis.statistics",
            "foldbench.bench.analysis.speedups",
            "foldbench.bench.analysis.advice.rule",
            "foldbench.bench.analysis.advice.latency",
        }
        | {
            "foldbench.bench.analysis.advice.machine",
            "foldbench.bench.analysis.advice.export",
            "foldbench.bench.analysis.advice.clocks",
        }
        | {"foldbench.bench.analysis.advice.scenarios"},
        set(),
    ),
    "foldbench.bench.analysis.advice.rule": (PLAIN | {"foldbench.bench.analysis.speedups"}, set()),
    "foldbench.bench.analysis.advice.latency": (
        PLAIN
        | {
            "foldbench.bench.analysis.statistics",
            "foldbench.bench.analysis.speedups",
            "foldbench.bench.analysis.advice.rule",
        },
        set(),
    ),
    "foldbench.bench.analysis.advice.machine": (
        PLAIN
        | {
            "foldbench.bench.analysis.statistics",
            "foldbench.bench.analysis.speedups",
            "foldbench.bench.analysis.advice.rule",
        },
        set(),
    ),
    "foldbench.bench.analysis.advice.clocks": (
        PLAIN
        | {
            "foldbench.bench.analysis.statistics",
            "foldbench.bench.analysis.speedups",
            "foldbench.bench.analysis.advice.rule",
        },
        set(),
    ),
    "foldbench.bench.analysis.advice.export": (
        PLAIN | {"foldbench.bench.analysis.speedups", "foldbench.bench.analysis.advice.rule"},
        set(),
    ),
    "foldbench.bench.analysis.advice.scenarios": (
        PLAIN
        | {
            "foldbench.bench.analysis.statistics",
            "foldbench.bench.analysis.speedups",
            "foldbench.bench.analysis.advice.rule",
            "foldbench.bench.timing.scenarios",
        },
        set(),
    ),
    "foldbench.bench.torchrun": (GROUND, set()),
    "foldbench.bench.machine.interference": (GROUND, set()),
    "foldbench.bench.timing.scenarios": (
        PLAIN | {"foldbench.bench.machine.interference", "foldbench.bench.records.scenarios"},
        set(),
    ),
    "foldbench.bench.timing.loadgen": (
        GROUND
        | {
            "foldbench.bench.backends",
            "foldbench.bench.machine.interference",
            "foldbench.bench.timing.scenarios",
            "foldbench.bench.timing.loop",
        },
        set(),
    ),
    "foldbench.bench.machine.cpu": (GROUND, set()),
    "foldbench.bench.machine.gpu": (GROUND, set()),
    "foldbench.bench.machine.libraries": (GROUND, set()),
    "foldbench.bench.host_files.marks": (
        GROUND | {"foldbench.bench.machine.cpu", "foldbench.bench.machine.environment"},
        set(),
    ),
    "foldbench.bench.host_files.custom_operators": (
        GROUND | {"foldbench.bench.machine.cpu", "foldbench.bench.store.files"},
        set(),
    ),
    "foldbench.bench.measure.targets": (GROUND | RECORDS, set()),
    "foldbench.bench.machine.environment": (
        GROUND | {"foldbench.bench.machine.cpu", "foldbench.bench.machine.gpu"},
        {"psutil"},
    ),
    "foldbench.bench.machine.clocks": (
        GROUND
        | {
            "foldbench.bench.machine.cpu",
            "foldbench.bench.machine.gpu",
            "foldbench.bench.records.run",
        },
        set(),
    ),
    "foldbench.bench.timing.loop": (
        GROUND
        | {
            "foldbench.bench.backends",
            "foldbench.bench.machine.interference",
            "foldbench.bench.machine.clocks",
            "foldbench.bench.records.run",
        }
        | {"foldbench.bench.records.machine"},
        set(),
    ),
    "foldbench.bench.timing.tuning": (
        PLAIN
        | {
            "foldbench.bench.backends",
            "foldbench.bench.analysis.statistics",
            "foldbench.bench.timing.loop",
        },
        set(),
    ),
    "foldbench.bench.analysis.speedups": (PLAIN | {"foldbench.bench.analysis.statistics"}, set()),
    "foldbench.bench.analysis.comparable": (PLAIN | {"foldbench.bench.analysis.speedups"}, set()),
    "foldbench.bench.analysis.difference": (
        PLAIN
        | {
            "foldbench.bench.analysis.statistics",
            "foldbench.bench.analysis.speedups",
            "foldbench.bench.analysis.comparable",
        },
        set(),
    ),
    "foldbench.bench.analysis.error_overlap": (
        PLAIN | {"foldbench.bench.analysis.statistics", "foldbench.bench.analysis.speedups"},
        set(),
    ),
    "foldbench.bench.analysis.regressions": (
        PLAIN | {"foldbench.bench.analysis.difference"},
        set(),
    ),
    "foldbench.bench.measure.schedule": (
        PLAIN | {"foldbench.bench.analysis.statistics", "foldbench.bench.analysis.speedups"},
        set(),
    ),
    "foldbench.bench.measure.budget": (
        PLAIN
        | {
            "foldbench.bench.analysis.statistics",
            "foldbench.bench.measure.schedule",
            "foldbench.bench.timing.loop",
        },
        set(),
    ),
    "foldbench.bench.images.preprocessing": (PLAIN, set()),
    "foldbench.bench.datasets": (
        PLAIN | {"foldbench.bench.datasets", "foldbench.bench.machine.environment"},
        {"torchvision", "sklearn"},
    ),
    "foldbench.bench.backends": (
        PLAIN
        | {
            "foldbench.bench.backends",
            "foldbench.bench.host_files.marks",
            "foldbench.bench.host_files.custom_operators",
        },
        {"torch", "onnxruntime", "openvino"},
    ),
    "models": (
        PLAIN
        | {
            "models",
            "foldbench.bench.registry",
            "foldbench.bench.datasets",
            "foldbench.bench.torchrun",
        },
        {"torch", "torchvision", "timm"},
    ),
    "exporters": (
        PLAIN
        | {"exporters", "foldbench.bench.registry", "foldbench.bench.analysis.logits"}
        | {"foldbench.bench.host_files.marks", "foldbench.bench.host_files.custom_operators"},
        {"torch", "onnx", "onnxruntime", "onnxscript", "onnx_ir", "scipy"},
    ),
    "reports": (
        PLAIN
        | {
            "reports",
            "foldbench.bench.analysis.statistics",
            "foldbench.bench.analysis.advice.rules",
            "foldbench.bench.analysis.speedups",
        }
        | {
            "foldbench.bench.analysis.comparable",
            "foldbench.bench.analysis.difference",
            "foldbench.bench.analysis.regressions",
            "foldbench.bench.analysis.error_overlap",
        }
        | {
            "foldbench.bench.timing.scenarios",
            "foldbench.bench.records.scenarios",
            "foldbench.bench.analysis.advice.scenarios",
            "foldbench.bench.stages.probe",
        },
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
        assert imported != "foldbench.bench.cli.main" or name == "foldbench.bench.__main__", (
            "nothing imports bench.cli.main"
        )
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
        "import sys, foldbench.bench.backends.ort, foldbench.bench.workers.server\n"
        "import foldbench.bench.timing.tuning, foldbench.bench.timing.loadgen\n"
        "import foldbench.bench.machine.clocks\n"
        "from foldbench.bench.host_files.marks import host_facts\n"
        "foldbench.bench.machine.clocks.open_reader('cpu')(), host_facts('1')\n"
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
