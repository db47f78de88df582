"""Records of several machines on one page: a table, a card and the answers of each."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from foldbench.bench.records import FLOAT64, Run
from foldbench.reports.render import render
from foldbench.reports.rows.published import read_published
from foldbench.reports.sections.compose import build as build_document
from foldbench.reports.text.labels import label_runs

PI = {"cpu": "Cortex-A76", "cores_usable": 4, "machine": "aarch64", "onnxruntime": "1.29.0"}


def small(build: SimpleNamespace, **changes: object) -> Run:
    """A run of two contenders at one batch size."""
    times = {"unfolded": 0.002, "folded": 0.001}
    rows = [
        build.row("torch", variant, timings=(build.timing(1, build.steady(seconds)),))
        for variant, seconds in times.items()
    ]
    return build.run(**{"measurements": tuple(rows), **changes})


def bundled(build: SimpleNamespace, name: str, **changes: object) -> Run:
    """A record as a bundle writes it."""
    return small(build, name=name, reference=FLOAT64, **changes)


@pytest.fixture
def three(build: SimpleNamespace) -> list[Run]:
    """A run, and the records of two machines that are alike."""
    there = small(build).environment | PI
    return [small(build), *(bundled(build, name, environment=there) for name in ("a", "b"))]


def test_each_machine_has_a_table_and_a_card(three: list[Run]) -> None:
    page = render(three, "html")
    where = "Cortex-A76, 4 usable cores, aarch64"
    titles = re.findall(r"<h3>(.*?)</h3>", page)
    assert [title.partition(": ")[2] for title in titles] == [
        "AMD EPYC 7R13, 2 usable cores, x86_64",
        where,
        where,
    ]
    assert page.count('<table class="results') == 3
    cards = [s for s in build_document(three).sections if s.title.startswith("Machine of")]
    assert [section.title.split()[-1] for section in cards] == ["bn_cnn-1", "a", "b"]
    assert dict(cards[1].pairs)["machine"].startswith(where.partition(",")[0])


def test_what_differs_between_machines_is_a_row_each(three: list[Run]) -> None:
    section = next(s for s in build_document(three).sections if s.title.startswith("What differs"))
    assert section.table is not None
    rows = {row[0]: row[1:] for row in section.table.rows}
    assert set(rows) == set(PI)
    assert rows["onnxruntime"] == ("1.31.1", "1.29.0", "1.29.0")


def test_rows_of_a_machine_stand_together(three: list[Run]) -> None:
    rows = [
        line.split()[0]
        for line in render(three[1:], details=False).splitlines()
        if "ms" not in line and re.match(r"[ab]  ", line)
    ]
    assert rows == sorted(rows)
    assert set(rows) == {"a", "b"}


def test_one_machine_has_neither(build: SimpleNamespace) -> None:
    text = render([small(build), small(build, name="again")], "md")
    assert "Machine of" not in text
    assert "What differs" not in text


def test_records_of_one_name_are_told_apart_by_the_machine(build: SimpleNamespace) -> None:
    runs = [bundled(build, "net"), bundled(build, "net", environment=PI)]
    _, labelled = label_runs(runs)
    assert [label for label, _ in labelled] == [
        "net, AMD EPYC 7R13, 2 usable cores, x86_64",
        "net, Cortex-A76, 4 usable cores, aarch64",
    ]


def test_the_answers_of_a_bundle_are_a_result_of_their_own(build: SimpleNamespace) -> None:
    close = {"max_abs_difference": 3.1e-6, "max_rel_difference": 1e-6}
    right = build.row("ort", "plain", accuracy=build.accuracy(300, 512, **close))
    coarse = build.row(
        *("ort", "int8"),
        precision="int8",
        accuracy=build.accuracy(300, 512, top1_equal=509, max_abs_difference=0.5),
    )
    off = {"top1_equal": 3, "max_abs_difference": 9.0, "max_rel_difference": 0.4}
    wrong = build.row(
        *("ort", "folded"),
        status="failed",
        reason="wrong here",
        timings=(),
        accuracy=build.accuracy(2, 512, **off),
    )
    crashed = right.model_copy(
        update={"contender": "ort/given/cpu", "status": "failed", "reason": "out of memory"}
    )
    rows = (right, coarse, wrong, crashed)
    run = bundled(build, "there", measurements=rows, baseline="ort/plain")
    said = " ".join(render(run, details=False).split())
    assert (
        "Answers against float64: float32: same class on 512 of 512, largest difference 3.1e-06; "
        "int8: same class on 509 of 512, largest difference 5e-01; "
        "wrong: ONNX Runtime (folded)."
    ) in said
    section = next(s for s in build_document([run]).sections if s.key == "answers")
    assert section.table is not None
    found = {row[0]: row[1:3] for row in section.table.rows}
    assert found == {
        "ort/plain/cpu": ("right", "512/512"),
        "ort/int8/cpu": ("right", "509/512"),
        "ort/folded/cpu": ("wrong", "3/512"),
        "ort/given/cpu": ("right", "512/512"),
    }
    assert not any(s.key == "agreement" for s in build_document([run]).sections)


def test_a_published_summary_keeps_the_answers_of_bundles(three: list[Run], tmp_path: Path) -> None:
    published = tmp_path / "published.json"
    published.write_text(render(three[1:], "json"), encoding="utf-8")
    said = " ".join(render(read_published(published), details=False).split())
    assert "Answers of a, b against float64: same class on 10,000 of 10,000" in said
