"""Bundles on other machines: what comes back, what goes wrong, and that nothing stays there."""

import ast
import json
import os
import stat
import sys
import tempfile
import time
from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner, Result

from builders import make_lost_row, make_row, make_run, make_timing, steady
from foldbench.bench.cli import cli
from foldbench.bench.errors import BenchError, RunError
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Run
from foldbench.bench.remote import there
from foldbench.bench.remote.places import PROGRAM, Elsewhere
from foldbench.bench.remote.ssh import Host
from foldbench.bench.stages.bundle import _write
from foldbench.bench.stages.remote import measure_elsewhere

MAIN = """
import os, sys, time
from pathlib import Path

def main(folder, arguments):
    host = os.path.basename(os.environ["HOME"])
    print(f"measuring on {host}", file=sys.stderr, flush=True)
    if host in ("cut-late", "slow"):
        time.sleep(60)
    if host == "damaged":
        (folder / "record.json").write_text("{}")
    if host == "lacking":
        print("Error: numpy is not installed here: python3 -m pip install numpy", file=sys.stderr)
        return 1
    name = "nothing.json" if host == "bare" else "record.json"
    Path(arguments[1]).write_bytes((folder / name).read_bytes())
    return 1
"""
"""What a bundle of these tests does in place of measuring."""


def record(name: str) -> Run:
    """What a bundle measured: two contenders at one batch size."""
    times = {"unfolded": 0.002, "folded": 0.001}
    rows = [
        make_row("torch", variant, timings=(make_timing(1, steady(seconds)),))
        for variant, seconds in times.items()
    ]
    return make_run(name=name, measurements=tuple(rows))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that writes the record it holds."""
    path = tmp_path_factory.mktemp("bundle") / "net.pyz"
    lost = make_lost_row("ort", "folded", "cpu", "skipped", "onnxruntime is not installed here")
    code = "code/foldbench/bench/carried"
    empty = ("code/foldbench", "code/foldbench/bench", code)
    parts = {f"{folder}/__init__.py": b"" for folder in empty}
    parts |= {
        f"{code}/main.py": MAIN.encode(),
        "record.json": record("net").model_dump_json().encode(),
        "nothing.json": make_run(name="net", measurements=(lost,)).model_dump_json().encode(),
        "networks/noise": os.urandom(200_000),
    }
    _write(path, parts)
    return path


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of the hosts that the fake ssh, first on PATH, reaches."""
    program = Path(__file__).parents[2] / "fake_ssh.py"
    command = tmp_path / "bin" / "ssh"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable} -SEB\n{program.read_text(encoding='utf-8')}")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_HOSTS", str(tmp_path / "hosts"))
    return tmp_path / "hosts"


def run(bundle: Path, folder: Path, *names: str, python: str = sys.executable) -> list[Elsewhere]:
    found = measure_elsewhere(bundle, [Host(n, python) for n in names], folder, NullListener())
    assert [one.place for one in found] == list(names)
    return list(found)


def left_on(host: Path) -> list[str]:
    """Return what is left once the host has noticed that the connection is gone."""
    end = time.monotonic() + 20
    while os.listdir(host) and time.monotonic() < end:
        time.sleep(0.02)
    return os.listdir(host)


def test_each_host_is_a_stored_record_or_a_reason_and_keeps_nothing(
    bundle: Path, hosts: Path, tmp_path: Path
) -> None:
    names = ["me@pi", "off", "full", "bare", "lacking", "damaged", "cut-early", "cut-late"]
    good, *failed = run(bundle, tmp_path / "records", *names)
    assert good.record is not None
    assert good.record == record("net.pi")
    assert good.path == tmp_path / "records" / "net.pi.json"
    assert os.listdir(tmp_path / "records") == ["net.pi.json"]
    reasons = {one.place: one.reason or "" for one in failed}
    assert all(one.record is None and one.path is None for one in failed)
    for place, told in {
        "off": "Connection refused",
        "full": "File too large",
        "bare": "onnxruntime is not installed here",
        "lacking": "numpy is not installed here",
        "damaged": "no run record",
        "cut-early": "connection was cut",
        "cut-late": "connection was cut",
    }.items():
        assert told in reasons[place]
        assert "\n" not in reasons[place]
    assert {name: left_on(hosts / name) for name in os.listdir(hosts)} == {
        name: [] for name in (*names[2:], "me@pi")
    }


def test_a_host_without_that_python_is_told_so(bundle: Path, hosts: Path, tmp_path: Path) -> None:
    (found,) = run(bundle, tmp_path, "pi", python="~/venv/bin/python")
    assert "~/venv/bin/python is not there" in str(found.reason)


def test_the_command_prints_figures_and_a_row_each_and_fails_where_one_did(
    bundle: Path, hosts: Path, tmp_path: Path
) -> None:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["remote", str(bundle), "-o", str(tmp_path), *arguments])

    done = call("--ssh", "pi", "--ssh", "off", "--python", sys.executable)
    assert done.exit_code == 1
    for told in ("as fast as PyTorch eager", "AMD EPYC", "net.pi.json", "Connection refused"):
        assert told in done.stdout
    done = call("--ssh", "off", "--json")
    (row,) = json.loads(done.stdout)
    assert (row["where"], row["record"], row["machine"]) == ("off", None, None)
    for wrong in ((), ("--ray", "x:1", "--python", "a"), ("--ssh", "pi", "--nodes", "fast")):
        assert call(*wrong).exit_code == 2


def test_a_failure_leaves_the_record_of_before(bundle: Path, hosts: Path, tmp_path: Path) -> None:
    before = tmp_path / "net.off.json"
    before.write_text("{}")
    (found,) = run(bundle, tmp_path, "off")
    assert found.record is None
    assert before.read_text() == "{}"


def test_what_is_stopped_ends_and_keeps_nothing(bundle: Path, hosts: Path, tmp_path: Path) -> None:
    measuring = Event()

    class Impatient(NullListener):
        def note(self, text: str) -> None:
            if text == "slow: measuring on slow":
                measuring.set()
            elif text.startswith("off: "):
                assert measuring.wait(60)
                raise KeyboardInterrupt

    places = [Host("slow", sys.executable), Host("off", sys.executable)]
    with pytest.raises(KeyboardInterrupt):
        measure_elsewhere(bundle, places, tmp_path / "records", Impatient())
    assert left_on(hosts / "slow") == []
    assert not (tmp_path / "records").exists()


def test_a_host_measures_one_bundle_at_a_time_and_removes_what_a_killed_one_left(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", "here")
    (tmp_path / "foldbench-remote-old" / "networks").mkdir(parents=True)

    def write(path: str) -> None:
        Path(path).write_bytes(bundle.read_bytes())

    with there._alone():
        busy = there.measure("net.pyz", write, print)
    assert "another bundle" in busy["reason"]
    said: list[str] = []
    answer = there.measure("net.pyz", write, said.append)
    assert json.loads(answer["record"])["name"] == "net"
    assert said == ["measuring on here"]
    assert os.listdir(tmp_path) == []


def test_what_is_sent_there_is_read_by_an_old_python_and_imports_no_package() -> None:
    tree = ast.parse(PROGRAM.read_text(encoding="utf-8"), feature_version=(3, 6))
    nodes = list(ast.walk(tree))
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


@pytest.mark.parametrize("name", ["-oProxyCommand=sh", "me@-x", "", "a b", "a;b", "a\nb", "$x"])
def test_what_is_no_host_never_reaches_ssh(name: str) -> None:
    with pytest.raises(BenchError, match="is no host"):
        Host(name, "python3")


@pytest.mark.parametrize("python", ["-c", "python3 -m x", "a;b", "$(x)", ""])
def test_what_is_no_command_never_reaches_a_shell(python: str) -> None:
    with pytest.raises(BenchError, match="is no command"):
        Host("pi", python)


@pytest.mark.parametrize("name", ["pi", "me@pi.local", "ssh://me@pi:2222", "[::1]", "10.0.0.7"])
def test_hosts_are_taken_as_ssh_takes_them(name: str) -> None:
    assert Host(name, "~/venv/bin/python3.12").name == name


def test_a_damaged_bundle_or_a_host_named_twice_is_refused_at_once(
    bundle: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "net.pyz"
    damaged.write_bytes(bundle.read_bytes()[:-100])
    with pytest.raises(RunError, match="damaged"):
        run(damaged, tmp_path, "pi")
    with pytest.raises(RunError, match="twice"):
        run(bundle, tmp_path, "pi", "me@pi")
