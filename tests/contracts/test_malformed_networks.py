"""Networks, weights and inputs that cannot be used: one line, and nothing is left behind."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from foldbench.bench.cli import cli
from foldbench.bench.errors import ExportError
from foldbench.bench.store.directory import Paths

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=4):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x):
        return self.head(self.fc(self.conv(x).mean((2, 3))))

    def head(self, y):
        return y

class Needs(Net):
    def __init__(self, width, depth):
        super().__init__()

class Flat(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(48, 4))

NUMBER = 3
def nothing(): return None
def text(): return "net"
def fails(): raise ValueError("two\\nlines")
class Infinite(Net):
    def head(self, y): return y / 0
class Raises(Net):
    def head(self, y): raise KeyError("inner")
class Maps(Net):
    def head(self, y): return y[:, :, None, None].expand(-1, -1, 2, 2)
class Nothing(Net):
    def head(self, y): return None
class Chosen(Net):
    def head(self, y): return y.argmax(1)
class Unsaved(Net):
    def __init__(self):
        super().__init__()
        self.scale = torch.randn(4)
    def head(self, y): return y * self.scale
"""


class Net(nn.Module):
    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, classes)


STATE = Net().state_dict()
Files = dict[str, Any]


def several(one: dict[str, Any]) -> dict[str, Any]:
    return {"model": one, "ema": {name: value + 1 for name, value in one.items()}}


@dataclass(frozen=True)
class Case:
    """A command, without what every command gets, and what its one line says."""

    subject: str
    words: str
    options: str = "--classes 4"
    input: str = "3x8x8"
    files: Files = field(default_factory=dict)
    code: int = 1


def with_weights(words: str, content: Any, options: str = "", **changes: Any) -> Case:
    return Case(
        "net.py:Net", words, f"--weights w.pt {options or '--classes 4'}",
        files={"w.pt": content}, **changes,
    )  # fmt: skip


CASES: dict[str, Case] = {
    "no such file": Case("nett.py:Net", "no such file"),
    "no such attribute": Case("net.py:Nett", "Net"),
    "no attribute": Case("net.py", "NAME", code=2),
    "no such module": Case("nowhere.networks:Net", "nowhere"),
    "no such library network": Case("torchvision:resnt18", "resnet18"),
    "not callable": Case("net.py:NUMBER", "int"),
    "arguments missing": Case("net.py:Needs", "width"),
    "arguments unknown": Case("net.py:Net", "witdh", "--args {witdh:3}".replace(":", ":\u00a0")),
    "returns nothing": Case("net.py:nothing", "NoneType"),
    "returns a text": Case("net.py:text", "str"),
    "raises when built": Case("net.py:fails", "two lines"),
    "raises on import": Case("bad.py:Net", "bad.py", files={"bad.py": "x = 1\n1 / 0\n"}),
    "syntax error": Case("bad.py:Net", "bad.py:2", files={"bad.py": "\nclass Net(:\n"}),
    "exits on import": Case("bad.py:Net", "ends the process",
                            files={"bad.py": "import sys\nsys.exit(3)\n"}),
    "imports what is not there": Case("bad.py:Net", "nowhere", files={"bad.py": "import nowhere"}),
    "a folder as code": Case("folder.py:Net", "folder.py", files={"folder.py": None}),
    "no Python at all": Case("bad.py:Net", "bad.py", files={"bad.py": b"\x00\xff\xfe"}),
    "infinite output": Case("net.py:Infinite", "finite"),
    "raises when run": Case("net.py:Raises", "inner"),
    "maps for logits": Case("net.py:Maps", "(1, 4, 2, 2)"),
    "no output": Case("net.py:Nothing", "NoneType"),
    "classes for logits": Case("net.py:Chosen", "int64"),
    "answers anew each time": Case("net.py:Unsaved", "scale"),
    "another size of input": Case("net.py:Flat", "48"),
    "another number of classes": Case("net.py:Net", "classes", "--classes 7 --args {num_classes:4}"
                                      .replace(":4", ":\u00a04")),
    "no input": Case("net.py:Net", "--input", input=""),
    "input of four numbers": Case("net.py:Net", "--input", input="3x8x8x8", code=2),
    "input of letters": Case("net.py:Net", "--input", input="3xAx8", code=2),
    "input of nothing": Case("net.py:Net", "input", input="3x0x8", code=2),
    "classes file missing": Case("net.py:Net", "classes.txt", "--classes classes.txt"),
    "classes twice": Case("net.py:Net", "'cat'", "--classes classes.txt",
                          files={"classes.txt": "cat\ndog\ncat\nfox\n"}),
    "weights missing": Case("net.py:Net", "w.pt", "--weights w.pt --classes 4"),
    "weights are a folder": with_weights("is a folder", None),
    "weights are empty": with_weights("is empty", b""),
    "weights are text": with_weights("neither safetensors nor", "hello"),
    "weights are a network": with_weights("torch.load(", nn.Sequential(nn.Linear(2, 2))),
    "weights of another": with_weights("another network", {"layer1.0.weight": torch.ones(3)}),
    "weights of other classes": with_weights("has 7 classes", Net(7).state_dict()),
    "weights in several ways": with_weights("--weights-key ema", several(STATE)),
    "weights under no such key": with_weights("known: model, ema", several(STATE),
                                              "--weights-key emma --classes 4"),
    "weights without such a prefix": with_weights("--strip-prefix", STATE,
                                                  "--strip-prefix net. --classes 4"),
    "mean of two channels": Case("net.py:Net", "mean", "--classes 4 --mean 0.5,0.4"),
    "no such output": Case("net.py:Net", "output", "--classes 4 --output aux"),
    "damaged graph": Case("net.onnx", "net.onnx", files={"net.onnx": b"hello"}),
    "damaged program": Case("net.pt2", "net.pt2", files={"net.pt2": b"hello"}),
    "no images there": Case("net.py:Net", "photos", "--classes 4 --data photos"),
}  # fmt: skip


@pytest.fixture
def bench(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command in a folder of the user's; their code runs in the process of the test."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("foldbench.bench.stages.add.run_isolated", lambda call, *args: call(*args))
    monkeypatch.setenv("FOLDBENCH_RUNS", str(paths.runs))
    monkeypatch.setenv("FOLDBENCH_CACHE", str(paths.cache))
    return lambda *arguments: CliRunner().invoke(cli, list(arguments), prog_name="bench")


def write(name: str, content: Any) -> None:
    path = Path(name)
    if content is None:
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        torch.save(content, path)


@pytest.mark.parametrize("name", CASES)
def test_it_is_one_line_and_nothing_is_left(
    name: str, bench: Callable[..., Result], paths: Paths
) -> None:
    case = CASES[name]
    for file, content in {"net.py": NET, **case.files}.items():
        write(file, content)
    given = ["--input", case.input] if case.input else []
    shown = bench("add", "mine", case.subject, *case.options.split(" "), *given)
    assert shown.exit_code == case.code, shown.output
    assert isinstance(shown.exception, SystemExit)
    assert shown.stdout == ""
    errors = [line for line in shown.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert shown.stderr.splitlines()[-1] == errors[0]
    assert case.words in errors[0]
    assert "Traceback" not in shown.stderr
    assert not list(paths.runs.glob("*"))
    assert not np.any([p.name.startswith(".foldbench") for p in Path().iterdir()])


def test_no_network_is_exported_before_all_are_known(
    bench: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(*_: object) -> None:
        raise AssertionError("exported before the other network was refused")

    monkeypatch.setattr("foldbench.bench.stages.export.export", export)
    write("net.py", NET)
    given = ("--input", "3x8x8", "--weights", "none")
    shown = bench("compare", "net.py:Net", "torchvision:resnt18", *given)
    assert shown.exit_code == 1
    assert "resnet18" in shown.stderr.splitlines()[-1]


def test_the_comparison_is_told_why_a_network_cannot_be_exported(
    bench: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, str] = {}

    def export(*_: object) -> None:
        raise ExportError("no such operator")

    def compare(*given: Any) -> None:
        told.update(given[-1])
        raise ExportError("enough")

    monkeypatch.setattr("foldbench.bench.stages.export.export", export)
    monkeypatch.setattr("foldbench.bench.stages.compare.compare_runs", compare)
    write("net.py", NET)
    bench("compare", "net.py:Net", "--input", "3x8x8", "--weights", "none")
    assert told == {"Net-001": "could not be exported: no such operator"}


@pytest.mark.parametrize("code", ["import os\nos._exit(3)\n", "import sys\nsys.exit(3)\n"])
def test_code_that_ends_its_process_ends_no_command(
    code: str, tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.py").write_text(code)
    call = ["add", "mine", "bad.py:Net", "--input", "3x8x8", "--runs", str(paths.runs)]
    shown = CliRunner().invoke(cli, [*call, "--cache", str(paths.cache)], prog_name="bench")
    assert shown.exit_code == 1, shown.output
    assert "bad.py" in shown.stderr.splitlines()[-1]
    assert not list(paths.runs.glob("*"))
