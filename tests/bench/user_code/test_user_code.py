"""The user's code: their own models/ and configs/, from any directory, with errors of one line."""

import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from foldbench.bench.errors import ConfigError
from foldbench.bench.user_code import import_attribute, load_user_code, parse_reference
from foldbench.bench.user_code.finder import UserFinder, is_reserved
from foldbench.bench.user_code.installed import FOLDBENCH

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _modules_of_one_test() -> Iterator[None]:
    modules, finders = dict(sys.modules), list(sys.meta_path)
    yield
    sys.meta_path[:] = finders
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes files of source, by relative path, and returns the folder."""

    def write(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/').replace('_init', '__init__')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def refusal(text: str, base: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_user_code(text, base)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net.py:Net", ("file", "net.py", "Net")),
        ("a/b c/net.py:Nets.tiny", ("file", "a/b c/net.py", "Nets.tiny")),
        ("C:\\code\\net.py:Net", ("file", "C:\\code\\net.py", "Net")),
        ("package.module:make_net", ("module", "package.module", "make_net")),
    ],
)
def test_a_reference_is_a_file_or_a_module_and_a_name(
    text: str, expected: tuple[str, str, str]
) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize("text", ["net.py", "net.py:", "net.py:a-b", "net", ":Net", "a b:c", ""])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="allowed: FILE.py:NAME"):
        parse_reference(text)


def test_a_file_without_a_name_is_told_what_it_defines(write: Write) -> None:
    folder = write(net="import nothing\nclass Net: pass\ndef make(): pass\ndef _own(): pass")
    assert "defines Net, make" in refusal(f"{folder}/net.py")


@pytest.mark.parametrize("here", [True, False])
def test_a_script_gets_its_own_folders_from_any_directory(
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    here: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = write(
        net="from models.blocks import WIDTH\nfrom configs import NAME\nimport tests.mine\n"
        "class Net:\n    width, name, test = WIDTH, NAME, tests.mine.OK",
        models___init="",
        models__blocks="WIDTH = 7",
        configs="NAME = 'theirs'",
        tests__mine="OK = True",
    )
    monkeypatch.chdir(folder if here else tmp_path_factory.mktemp("elsewhere"))
    before = list(sys.path)
    code = load_user_code("net.py:Net" if here else f"{folder}/net.py:Net")
    assert (code.attribute.width, code.attribute.name, code.attribute.test) == (7, "theirs", True)
    names = [Path(file).relative_to(folder).as_posix() for file in code.files]
    assert names == [
        "configs.py",
        "models/__init__.py",
        "models/blocks.py",
        "net.py",
        "tests/mine.py",
    ]
    assert sys.path == before


def test_folders_of_our_repository_are_not_taken_for_the_users(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDBENCH.parent))
    folder = write(net="from models.blocks import WIDTH", models__blocks="WIDTH = 7")
    assert import_attribute(f"{folder}/net.py:WIDTH") == 7


def test_a_file_in_a_package_imports_relatively_and_from_its_projects_root(write: Write) -> None:
    folder = write(
        setup="",
        src__nets___init="",
        src__nets__parts___init="",
        src__nets__parts__net="from ..blocks import A\nfrom utils import B\n"
        "from src.nets import blocks\nimport beside\nVALUES = A, B, blocks.A, beside.C",
        src__nets__parts__beside="C = 3",
        src__nets__blocks="A = 1",
        utils="B = 2",
    )
    code = load_user_code("net.py:VALUES", folder / "src/nets/parts")
    assert code.attribute == (1, 2, 1, 3)
    assert sys.modules["nets.parts.net"].VALUES == (1, 2, 1, 3)


def test_imports_of_a_folder_above_resolve_where_nothing_marks_the_project(write: Write) -> None:
    folder = write(a__nets__net="from utils.x import A", a__utils__x="A = 1")
    assert import_attribute("net.py:A", folder / "a/nets") == 1


def test_two_networks_in_one_process_each_have_their_own_models_folder(write: Write) -> None:
    net = "from models import NAME\ndef name():\n    return NAME"
    folder = write(
        a__net=net, a__models___init="NAME = 'a'", b__net=net, b__models___init="NAME = 'b'"
    )
    first, second = (import_attribute("net.py:name", folder / name) for name in "ab")
    assert (first(), second()) == ("a", "b")


def test_an_import_within_a_call_still_finds_the_users_module(write: Write) -> None:
    folder = write(net="def f():\n    import late\n    return late.A", late="A = 5")
    assert import_attribute("net.py:f", folder)() == 5


def test_what_foldbench_needs_itself_is_never_the_users(write: Write) -> None:
    folder = write(
        net="import numpy, profile\nVALUES = numpy.__file__, profile.__file__",
        numpy="raise SystemExit",
        profile="raise SystemExit",
    )
    values = import_attribute("net.py:VALUES", folder)
    assert not [value for value in values if value.startswith(str(folder))]


def test_every_package_that_is_required_is_never_the_users() -> None:
    text = (FOLDBENCH.parent / "setup.py").read_text(encoding="utf-8")
    required = text.partition("install_requires=[")[2].partition('"test": [')[0]
    names = {name.lower() for name in re.findall(r'"([\w-]+)>=', required)}
    assert len(names) > 20
    besides = ("functorch", "torchgen", "pylab", "example")
    for package, owners in packages_distributions().items():
        if names & {owner.lower() for owner in owners} and package.isidentifier():
            assert is_reserved(package) or package in besides, owners


def test_classes_of_a_script_can_be_pickled_and_be_dataclasses(write: Write) -> None:
    folder = write(
        net="from __future__ import annotations\nfrom dataclasses import dataclass, KW_ONLY\n"
        "@dataclass\nclass Options:\n    a: int\n    _: KW_ONLY\n    b: int = 2"
    )
    options = import_attribute("net.py:Options", folder)
    assert pickle.loads(pickle.dumps(options(1))) == options(1, b=2)


def test_a_module_is_named_by_its_dotted_name_below_the_base(write: Write) -> None:
    folder = write(pack__net="class Net: pass")
    code = load_user_code("pack.net:Net", folder)
    assert code.attribute.__module__ == "pack.net"
    assert list(code.files) == [str(folder / "pack/net.py")]


def test_a_changed_file_has_another_sha256(write: Write) -> None:
    folder = write(net="A = 1", other="A = 1")
    hashes = [*load_user_code("net.py:A", folder).files.values()]
    write(net="A = 22")  # of another size: a module compiled in the same second counts as new
    load = f"from foldbench.bench.user_code import *; print(load_user_code('{folder}/net.py:A'))"
    root = str(FOLDBENCH.parent)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); {load}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "attribute=22" in done.stdout
    assert hashes[0] not in done.stdout


def test_the_revision_says_whether_the_files_differ_from_it(write: Write) -> None:
    folder = write(net="import part", part="")

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def revision() -> str | None:
        return load_user_code("net.py:part", folder).revision

    assert revision() is None
    git("init", "-q")
    git("add", "net.py")
    git("commit", "-qm", "first")
    assert revision() == f"{git('rev-parse', 'HEAD')}-dirty", "part.py is not in it"
    git("add", "part.py")
    git("commit", "-qm", "second")
    assert revision() == git("rev-parse", "HEAD")


def test_the_code_sees_its_own_arguments_and_prints_to_stderr(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(net="import sys\nprint('hello')\nARGUMENTS = sys.argv")
    assert import_attribute("net.py:ARGUMENTS", folder) == [str(folder / "net.py")]
    assert capsys.readouterr() == ("", "hello\n")


def test_a_file_or_a_name_that_is_not_there_is_refused_with_the_nearest(write: Write) -> None:
    import torch  # noqa: F401

    folder = write(net="from torch import nn\nclass MyNet(nn.Module): pass\ndef other(): pass")
    assert "did you mean 'net.py'" in refusal("nett.py:MyNet", folder)
    assert "is no folder" in refusal("nets/net.py:MyNet", folder)
    text = refusal("net.py:MyNot", folder)
    assert "did you mean 'MyNet'" in text
    assert "networks: MyNet)" in text
    assert "nowhere.net" in refusal("nowhere.net:Net", folder)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "import missing_package.part",
            ["net.py:2", "package 'missing_package'", "pip install it"],
        ),
        ("from utils import nothing", ["net.py:2", "ImportError", "utils.py"]),
        ("def f(:", ["net.py:2", "SyntaxError"]),
        ("import broken", ["broken.py:1", "ZeroDivisionError: division by zero"]),
        ("raise ValueError('two\\nlines')", ["net.py:2", "ValueError: two lines"]),
        ("import sys; sys.exit(3)", ["net.py:2", "exit code 3", "__main__"]),
        ("raise GeneratorExit", ["net.py:2", "GeneratorExit"]),
        ("\0", ["null bytes"]),
    ],
)
def test_what_the_code_raises_is_one_line_with_its_place(
    write: Write, source: str, expected: list[str]
) -> None:
    folder = write(net=f"A = 1\n{source}", utils="", broken="1 / 0")
    text = refusal("net.py:A", folder)
    assert [part for part in expected if part not in text] == []
    assert "net" not in {name.partition("_user_")[2].partition("_")[0] for name in sys.modules}


def test_a_package_that_bears_the_name_of_one_that_foldbench_uses_is_refused(write: Write) -> None:
    folder = write(torch___init="", torch__net="A = 1")
    assert "give it another name" in refusal("net.py:A", folder / "torch")


def test_a_finder_is_installed_once(tmp_path: Path) -> None:
    before = [f for f in sys.meta_path if isinstance(f, UserFinder)]
    for _ in range(2):
        UserFinder([tmp_path]).install()
    assert len([f for f in sys.meta_path if isinstance(f, UserFinder)]) == len(before) + 1
