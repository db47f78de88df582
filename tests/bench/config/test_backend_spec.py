"""How a contender's backend is written, and what becomes of what it does not have."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.bench.config.backend_spec import Spec, load_backend, parse_spec
from foldbench.bench.errors import BackendError, BenchError
from foldbench.bench.measure.contenders import ContenderSpec, contenders_of, with_runtimes
from foldbench.bench.progress import NullListener

WORD = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)


@given(
    st.dictionaries(WORD, st.one_of(st.just(""), WORD), max_size=4),
    st.one_of(st.none(), st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}(rc1)?", fullmatch=True)),
)
def test_what_is_written_is_read_back(options: dict[str, str], version: str | None) -> None:
    spec = Spec("ort", options, version)
    assert parse_spec(str(spec)) == spec


def test_a_hyphen_in_the_name_of_a_backend_is_an_underscore(monkeypatch) -> None:
    monkeypatch.setattr("foldbench.bench.registry.Registry.names", lambda self: ("a_b",))
    assert parse_spec("a-b:x").backend == "a_b"


@pytest.mark.parametrize("text", ["ort:", "ort:+", "ort:a+a", "ort:a=", "ort:=b", "ort:a++b"])
def test_an_option_that_is_none_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(BenchError, match="each option once"):
        parse_spec(text)


def test_an_unknown_backend_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(BenchError, match="'ort'"):
        parse_spec("ort2:x")


def test_a_contender_that_makes_no_sense_on_a_device_is_skipped_with_the_reason() -> None:
    subject: Any = SimpleNamespace(folder=Path("run"), artifacts=())
    (row,) = contenders_of(subject, "ort:tf32", "cpu")
    assert row.status == "skipped"
    assert str(row.reason).startswith("ort:tf32 is for cuda ")
    (row,) = contenders_of(subject, "ort:search=best", "cuda")
    assert row.status == "failed"
    assert str(row.reason).startswith("ort:search=best: ")
    assert str(row.reason).endswith(" exhaustive, heuristic, default")


def test_an_unknown_option_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BenchError, match="'mikro'.*'micro'"):
        load_backend(parse_spec("ort:mikro=4"))


@pytest.mark.parametrize("text", ["ort@", "ort@new", "ort@1..2", "ort@1.2/3", "ort@../x:micro=4"])
def test_a_version_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BenchError, match="is no version"):
        parse_spec(text)


def test_another_version_than_the_installed_one_is_never_run_in_its_place() -> None:
    with pytest.raises(BenchError, match="ort@0.1"):
        load_backend(parse_spec("ort@0.1"))


def test_a_backend_without_versions_is_skipped_with_the_reason() -> None:
    subject: Any = SimpleNamespace(folder=Path("run"), artifacts=())
    for text, device in (("torch@2.1", "cpu"), ("openvino@2025.2", "cuda")):
        (row,) = contenders_of(subject, text, device)
        assert (row.status, "no versions" in str(row.reason)) == ("skipped", True)


def test_a_version_that_cannot_be_had_is_a_row_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(distribution: str, version: str, cache: Path, offline: bool) -> Path:
        if version == "9.9":
            raise BackendError("there is no such version")
        return cache / version

    monkeypatch.setattr("foldbench.bench.measure.contenders.prepare_runtime", prepare)
    rows = [ContenderSpec(text, "folded", "cpu") for text in ("ort", "ort@9.9", "ort@1.23.2")]
    plain, lost, found = with_runtimes(rows, tmp_path, False, NullListener())
    assert (plain.python, plain.status) == (None, "ok")
    assert (lost.status, lost.reason) == ("failed", "there is no such version")
    assert (found.name, found.python) == ("ort@1.23.2/folded/cpu", tmp_path / "1.23.2")
