"""The Python interface in a program of the user's: the page about it, run as one script."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from foldbench.bench.api.comparison import Comparison
from foldbench.bench.errors import MissingPackageError
from foldbench.bench.records import Run

ROOT = Path(__file__).parents[3]
STATE = """
import os, signal, sys, threading, warnings
def state():
    return {
        "threads": (torch.get_num_threads(), threading.active_count()),
        "torch": (torch.is_grad_enabled(), torch.get_default_dtype(), torch.initial_seed()),
        "random": (torch.get_rng_state().sum().item(), np.random.get_state()[1].sum()),
        "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "hooks": (sys.excepthook, list(sys.meta_path), torch.nn.Module.__call__),
        "training": net.training,
    }
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, warm_server: Callable[[], str]) -> Path:
    """The folder in which the examples of the page were run, as one script without a guard."""
    folder = tmp_path_factory.mktemp("program")
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    first, *others = re.findall(r"```python\n(.*?)```", text, re.S)
    code = "\n".join((first, STATE, "before = state()", *others))
    check = (
        "\nafter = state()\nassert before == after, [k for k in before if before[k] != after[k]]"
    )
    script = folder / "script.py"
    warm = f"import sys; sys.path.append({str(ROOT / 'tests')!r})\nimport warm_starts\n"
    warm += f"warm_starts.use(lambda: {warm_server()!r}); del sys.path[-1]\n"
    script.write_text(
        f"open('runs', 'a').write('x')\n{warm}{code}{check}\nprint('end of the script')\n"
    )
    (folder / "models.py").write_text("raise SystemExit('models.py of the user')")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("end of the script\n")
    return folder


@pytest.fixture(scope="module")
def comparison(program: Path) -> Comparison:
    """What that program saved."""
    text = (program / "comparison" / "results.json").read_text(encoding="utf-8")
    return Comparison((Run.model_validate_json(text),), ("a note",))


def test_the_examples_run_once_and_leave_the_program_as_it_was(program: Path) -> None:
    assert (program / "runs").read_text() == "x"
    assert (program / "net.onnx").is_file()
    assert (program / "faster.onnx").is_file()
    names = {path.name for path in (program / "comparison").iterdir()}
    assert names == {"results.json", "report.md", "report.html"}


def test_there_is_a_row_for_each_contender(comparison: Comparison, program: Path) -> None:
    rows = comparison.rows()
    names = {row["contender"] for row in rows}
    assert names >= {"torch/unfolded/cpu", "torch/folded/cpu", "ort/folded/cpu"}
    assert {(row["status"], row["images"], row["batch_size"]) for row in rows} == {("ok", 20, 1)}
    images = np.random.default_rng(0).normal(size=(20, 3, 16, 16)).astype(np.float32)
    session = ort.InferenceSession(program / "net.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"input": images})
    assert {row["correct"] for row in rows} == {int((logits.argmax(1) == np.arange(20) % 5).sum())}
    assert set(rows[0]) == set(Comparison.columns())


def test_the_record_says_that_the_network_was_in_memory(comparison: Comparison) -> None:
    (record,) = comparison.records
    assert record.checkpoint.source is not None
    assert (record.checkpoint.source.form, record.checkpoint.source.name) == ("memory", "Net")
    assert "/foldbench-" not in json.dumps(record.data.model_dump(mode="json"))


def test_the_best_row_is_a_timed_one(comparison: Comparison) -> None:
    best = comparison.best()
    assert best is not None
    assert best["median_s"] > 0  # type: ignore[operator]
    assert comparison.best(batch_size=7) is None


def test_a_row_with_other_answers_is_not_the_best(comparison: Comparison) -> None:
    (record,) = comparison.records
    best = comparison.best()
    assert best is not None
    changed = []
    for m in record.measurements:
        agreement = m.accuracy and m.accuracy.agreement
        if m.contender == best["contender"] and m.accuracy and agreement:
            off = agreement.model_copy(update={"max_rel_difference": 0.03})
            m = m.model_copy(update={"accuracy": m.accuracy.model_copy(update={"agreement": off})})
        changed.append(m)
    record = record.model_copy(update={"measurements": tuple(changed)})
    now = Comparison((record,)).best()
    assert now is not None
    assert now["contender"] != best["contender"]


def test_a_notebook_shows_tables_and_a_terminal_text(comparison: Comparison) -> None:
    shown = comparison._repr_html_()
    assert shown.count("<table>") >= 3
    assert "ort/folded/cpu" in shown
    assert "ort/folded/cpu" in comparison.summary()
    assert f" {len(comparison.rows())} contenders" in repr(comparison)


def test_a_data_frame_needs_pandas(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match="pip install pandas"):
        comparison.to_frame()


def test_what_is_saved_of_several_networks_has_a_folder_for_each(
    comparison: Comparison, tmp_path: Path
) -> None:
    (record,) = comparison.records
    other = record.model_copy(update={"name": "other"})
    Comparison((record, other)).save(tmp_path / "both")
    names = {path.name for path in (tmp_path / "both").iterdir()}
    assert names == {record.name, "other", "report.md", "report.html"}


def test_the_example_of_the_page_on_folding_holds() -> None:
    text = (ROOT / "docs" / "folding.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(compile(code, "folding.md", "exec"), {"__name__": "example"})
