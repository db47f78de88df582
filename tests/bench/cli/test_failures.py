"""Exit codes of commands whose rows are skipped or failed."""

import click
import pytest

from builders import make_lost_row, make_row
from foldbench.bench.cli.failures import fail_on_rows

SKIPPED = make_lost_row("ort", "folded", "cpu", "skipped", "no wheel")
FAILED = make_lost_row("ort", "plain", "cpu", "failed", "crashed")
OK = make_row("torch", "unfolded")


@pytest.mark.parametrize("rows", [[SKIPPED], [SKIPPED, SKIPPED], [FAILED, OK]])
def test_a_failed_row_is_a_failure_and_so_is_nothing_that_ran(rows: list) -> None:
    with pytest.raises(click.ClickException, match="ort"):
        fail_on_rows(iter(rows))


@pytest.mark.parametrize("rows", [[], [OK], [OK, SKIPPED]])
def test_a_row_may_be_skipped_beside_one_that_ran(rows: list) -> None:
    fail_on_rows(iter(rows))
