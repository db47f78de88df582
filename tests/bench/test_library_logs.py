import logging
import sys

import pytest

from foldbench.bench.library_logs import log_in_one_line


def test_what_a_library_logs_with_an_exception_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging, "lastResort", logging._StderrHandler(logging.WARNING))
    log_in_one_line()
    try:
        raise ValueError("no such\ntype")
    except ValueError:
        record = logging.LogRecord("lib", 30, "x", 1, "inference\nfailed", None, sys.exc_info())
    logging.lastResort.handle(record)
    assert capsys.readouterr().err == "lib: inference failed: no such type\n"
