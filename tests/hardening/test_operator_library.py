"""The compiled operators are loaded only if they are what this user compiled."""

import ctypes
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from builders import needs_c_compiler
from foldbench.bench.cli import cli
from foldbench.bench.errors import BackendError
from foldbench.bench.host_files import custom_operators

pytestmark = [needs_c_compiler, pytest.mark.skipif(os.name == "nt", reason="needs POSIX modes")]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FOLDBENCH_CACHE", str(tmp_path))
    return tmp_path / "kernels"


def test_folder_and_library_are_this_users_alone(kernels: Path) -> None:
    kernels.mkdir(mode=0o777)
    kernels.chmod(0o777)
    path = custom_operators.library()
    assert path.stat().st_mode & 0o077 == kernels.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, "half", "other"])
def test_a_library_with_other_bytes_is_compiled_again(kernels: Path, content: bytes | str) -> None:
    path = custom_operators.library()
    whole = path.read_bytes()
    damaged = {"half": whole[: len(whole) // 2], "other": whole + b"x"}.get(content, content)
    path.write_bytes(damaged)
    made = custom_operators.library()
    assert made.read_bytes() != damaged
    assert ctypes.CDLL(str(made)).RegisterCustomOps


def test_a_library_that_others_may_write_is_not_loaded_but_compiled_again(
    kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom_operators.library().chmod(0o666)
    with monkeypatch.context() as patch:
        patch.setenv("CC", "no-such-compiler")
        with pytest.raises(BackendError, match="need a C compiler"):
            custom_operators.library()
    assert custom_operators.library().stat().st_mode & 0o022 == 0


def test_a_library_under_the_old_name_is_not_loaded(kernels: Path) -> None:
    kernels.mkdir()
    planted = (
        kernels
        / f"foldbench-{custom_operators.identity(custom_operators.write_source([]))[:16]}.so"
    )
    planted.write_bytes(b"planted")
    assert custom_operators.library() != planted


def test_a_folder_that_is_a_link_is_refused(kernels: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    kernels.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BackendError, match="a link"):
        custom_operators.library()


def test_what_cannot_be_loaded_is_not_kept(
    kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "compiler"  # writes its -o argument, which is no library
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho no > "$2"\n')
    compiler.chmod(0o700)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(BackendError, match="cannot be loaded"):
        custom_operators.library()
    assert not list(kernels.iterdir())


def test_a_cache_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FOLDBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(BackendError, match="cannot be kept in"):
        custom_operators.library()


def test_the_option_and_the_variable_name_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDBENCH_CACHE", str(tmp_path / "variable"))
    chosen = str(tmp_path / "option")
    arguments = ["list", "--runs", str(tmp_path), "--cache", chosen]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert custom_operators.library().parent == tmp_path / "option" / "kernels"
