"""Arguments that no command can use: one line that says why, before anything is measured."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foldbench.bench.cli import cli
from foldbench.bench.store.directory import Paths, RunDirectory

NETWORK = ("net.py:Net", "--input", "3x8x8", "--classes", "2")
CASES: dict[str, tuple[tuple[str, ...], int, str]] = {
    "a list with a gap": (("gate", "a.onnx", "b.onnx", "--batch-sizes", "1,,2"), 2, "1,,2"),
    "a list that ends in a comma": (("compare", "RUN", "--backends", "ort,"), 2, "ort,"),
    "too many threads": (
        ("compare", "RUN", "--set", "compare.threads=99999"), 1, "compare.threads: found 99999",
    ),
    "a comparison where none is meant": (("bundle", "RUN@7"), 1, "RUN@7"),
    "a summary that is not there": (("report", "RUN", "nosuch.json"), 1, "nosuch.json"),
    "a summary too deep to read": (("report", "deep.json"), 1, "deep.json is no summary"),
    "a backend that is not there": (("explain", "RUN", "nosuch"), 1, "unknown backend 'nosuch'"),
    "a version that is not there": (("explain", "RUN", "ort@1.2.3"), 1, "ort@1.2.3"),
    "a value for a section": (
        ("config", "show", "digits", "--set", "compare=3", "--set", "compare.rounds=2"), 1,
        "compare: found 3",
    ),
    "a name of two lines": (("add", "a\nb", *NETWORK), 2, "NAME"),
    "a name that steers": (("add", "a\x1b[31m", *NETWORK), 2, "NAME"),
    "a hidden name": (("add", ".hidden", *NETWORK), 2, "NAME"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_one_line(
    name: str, exported_run: RunDirectory, paths: Paths, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("deep.json").write_text("[" * 100_000)
    given, code, words = CASES[name]
    arguments = [text.replace("RUN", str(exported_run.path)) for text in given]
    folders = [] if given[0] in ("gate", "config") else ["--runs", str(paths.runs)]
    result: Result = CliRunner().invoke(cli, [*arguments, *folders], prog_name="bench")
    assert result.exit_code == code, result.output
    (error,) = (line for line in result.output.splitlines() if line.startswith("Error: "))
    assert words.replace("RUN", str(exported_run.path)) in error
    assert "foldbench did not foresee" not in error
    assert not paths.runs.exists()
