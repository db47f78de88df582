"""The Markdown page: complete, and nothing foreign in it is interpreted."""

import re

import pytest

from foldbench.reports.render import render
from foldbench.reports.text.escaping import fence, markdown, visible


def table_rows(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def cells(line):
    return re.split(r"(?<!\\)\|", line)[1:-1]


def test_every_row_of_a_table_has_as_many_cells_as_its_heading(build):
    reason = "a | b `c | d` \\| e\n| f |"
    lost = build.lost_row("ort", "folded", "cpu", "failed", reason)
    text = render(build.run(measurements=(build.row("torch", "unfolded"), lost)), "md")
    for block in text.split("\n\n"):
        counts = {len(cells(line)) for line in table_rows(block)}
        assert len(counts) <= 1, block


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        ("a|b", r"a\|b"),
        ("`rm`", r"\`rm\`"),
        ("<script>", "&lt;script&gt;"),
        ("[x](http://y)", r"\[x\](http://y)"),
        ("*bold*", r"\*bold\*"),
        ("_lean_ bn_cnn", r"\_lean\_ bn_cnn"),
        ("one\ntwo", r"one\\ntwo"),
        ("\x1b[0m", r"\\x1b\[0m"),
        ("&lt;", "&amp;lt;"),
        ("$x$", r"\$x\$"),
    ],
)
def test_markup_in_foreign_text_stays_text(foreign, shown):
    assert markdown(foreign) == shown


def test_ordinary_text_is_left_as_it_is():
    for text in ("ort/folded/cpu", "75.16–76.84", "3 → 0", "Größe 5 µs", "猫"):
        assert visible(text) == text
        assert markdown(text) == text


def test_a_command_cannot_leave_its_code_block(build):
    text = render(build.run(command=("bench", "run", "```\n# heading", "````")), "md")
    assert "\n# heading" not in text
    assert f"\n{fence('````')}console\n" in text


def test_a_name_from_outside_cannot_begin_a_heading_a_link_or_a_tag(build):
    evil = "\n# owned [click](http://x) <img src=x> `"
    run = build.run(checkpoint=build.checkpoint(data=build.data(title=evil)), name=evil)
    text = render(run, "md")
    assert "\n# owned" not in text
    assert "<img" not in text
    assert "[click](" not in text.replace(r"\[click\](", "")


def test_the_page_shows_each_epoch_beside_the_homework(build):
    text = render(build.run(), "md")
    first = next(line for line in table_rows(text) if line.startswith("|       1 | 1.6000"))
    assert [cell.strip() for cell in cells(first)[1:4]] == ["1.6000", "1.5912", "+0.0088"]


def test_epochs_past_the_homework_have_a_blank_beside_them(build):
    long = render(build.run(checkpoint=build.checkpoint(epochs=31)), "md")
    last = next(line for line in table_rows(long) if line.startswith("|      31 |"))
    assert [cell.strip() for cell in cells(last)[2:4]] == ["", ""]


def test_losses_on_another_data_set_stand_alone(build):
    digits = build.data(classes=build.digits)
    text = render(build.run(checkpoint=build.checkpoint(data=digits)), "md")
    assert "homework loss" not in text
    assert "1.5912" not in text


def test_the_page_names_every_hash_and_the_command(build):
    text = render(build.run(), "md")
    for digit in "abe":
        assert build.sha(digit) in text
    assert "\nbench compare bn_cnn-1\n" in text


def test_a_long_fact_of_the_machine_is_cut_on_the_page_and_whole_in_json(build):
    value = "brand=tesla,driver>=535 " * 50
    run = build.run(environment={"environment_variables": {"CUDA_LONG": value}})
    (row,) = (line for line in table_rows(render(run, "md")) if "CUDA_LONG" in line)
    assert cells(row)[1].rstrip().endswith("…")
    assert len(row) < 400  # with what escaping adds
    assert value in render(run, "json")
