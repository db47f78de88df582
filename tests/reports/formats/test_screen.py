"""The first screen on the terminal: what it says, and that it fits."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from foldbench.reports.render import render, summarise

LINES, WIDTH = 24, 100


def screen(*runs, **options) -> list[str]:
    return render(runs, "terminal", details=False, **options).splitlines()


def timed(build, backend: str, variant: str, sizes: dict[int, float], **changes):
    """A contender with a median for each batch size."""
    timings = tuple(build.timing(size, build.steady(s, period=3)) for size, s in sizes.items())
    return build.row(backend, variant, timings=timings, **changes)


def row_of(lines: list[str], name: str) -> list[str]:
    (line,) = (line for line in lines if line.startswith(f"{name}  "))
    return line.removeprefix(name).split()


def test_the_fastest_comes_first_and_every_batch_size_is_a_group_of_columns(build):
    lines = screen(build.run())
    rows = [line for line in lines if line.startswith(("ONNX Runtime,", "PyTorch eager  "))]
    assert [line.split("  ")[0] for line in rows] == [
        "ONNX Runtime, folded",
        "ONNX Runtime, not folded",
        "PyTorch eager",
    ]
    (over,) = (line for line in lines if line.split() == ["batch", "1", "batch", "64"])
    heads = lines[lines.index(over) + 1]
    assert heads.index("median") == over.index("batch 1")
    assert row_of(lines, "ONNX Runtime, folded") == [
        *("76.02", "0.934", "0.939", "2.14x", "2.13–2.15", "38.0", "1.68x", "1.68–1.69")
    ]
    assert row_of(lines, "PyTorch eager")[-1] == "baseline"


def test_the_answer_has_the_milliseconds_and_what_became_of_the_accuracy(build):
    speed, accuracy = summarise([build.run()]).splitlines()
    assert speed == (
        "ONNX Runtime (folded) is 2.14x as fast as PyTorch eager at batch 1 (0.934 ms instead of "
        "2.00 ms), 1.68x at 64."
    )
    assert "76.02 %" in accuracy
    assert "instead of 76.01 %" in accuracy
    assert "9,999 of 10,000 predictions identical" in accuracy
    assert "the homework reports 76.27 %" in accuracy


def test_the_homework_is_not_mentioned_where_it_says_nothing(build):
    data = build.data(classes=("a", "b"), title="digits")
    text = "\n".join(screen(build.run(checkpoint=build.checkpoint(data=data))))
    assert "homework" not in text


def test_no_ratio_is_given_where_nothing_could_be_judged(build):
    busy = [
        build.row(*way, timings=(build.timing(1, build.steady(s), dirty=range(1, 10)),))
        for way, s in ((("torch", "unfolded"), 0.002), (("ort", "folded"), 0.0001))
    ]
    lines = screen(build.run(measurements=tuple(busy)))
    text = "\n".join(lines)
    assert "No contender can be called faster or slower than PyTorch eager." in lines
    assert "speed-up  " not in text
    (doubt,) = (i for i, line in enumerate(lines) if line.startswith("! Inconclusive: "))
    assert "bench compare bn_cnn-1" in lines[doubt + 1]
    assert summarise([build.run(measurements=tuple(busy))]).startswith("Inconclusive. ")


def test_what_is_not_significant_says_so_in_place_of_a_ratio(build):
    rows = (
        timed(build, "torch", "unfolded", {1: 0.002}),
        timed(build, "ort", "folded", {1: 0.00201}),
    )
    lines = screen(build.run(measurements=rows))
    assert "n.s." in row_of(lines, "ONNX Runtime, folded")
    assert any("n.s.: no significant difference" in line for line in lines)
    assert "Nothing is significantly faster than PyTorch eager at batch 1." in lines


def test_a_speed_up_that_the_medians_contradict_is_marked_and_explained(build):
    """Both slow down by half in the last four of ten rounds, one of them a round earlier."""
    base = [0.002] * 5 + [0.003] * 5
    fast = [0.001] * 4 + [0.0015] * 6
    rows = [
        build.row(*way, timings=(build.timing(1, times),))
        for way, times in ((("torch", "unfolded"), base), (("ort", "folded"), fast))
    ]
    lines = screen(build.run(measurements=tuple(rows)))
    assert any(cell.startswith("~") for cell in row_of(lines, "ONNX Runtime, folded"))
    assert any("medians alone" in line for line in lines)


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    contenders=st.integers(1, 14),
    sizes=st.lists(st.sampled_from([1, 2, 4, 8, 16, 64]), min_size=1, max_size=6, unique=True),
    networks=st.integers(1, 3),
    failed=st.integers(0, 4),
)
def test_whatever_was_compared_fits_one_screen(build, contenders, sizes, networks, failed):
    lost = [
        build.lost_row(f"ort:micro={n}", "folded", "cpu", "failed", "no memory " * 20)
        for n in range(1, failed + 1)
    ]
    rows = [timed(build, "torch", "unfolded", dict.fromkeys(sizes, 0.002))] + [
        timed(build, f"ort:micro={n}+tuned", "int8_tables.host", dict.fromkeys(sizes, 0.001))
        for n in range(contenders)
    ]
    runs = [
        build.run(measurements=(*rows, *lost), name=f"a_network_of_a_long_name-{n}")
        for n in range(networks)
    ]
    lines = screen(*runs, took_s=100.0)
    assert len(lines) <= LINES
    commands = [i + 1 for i, line in enumerate(lines) if line.startswith("! ")]
    assert max(len(line) for i, line in enumerate(lines) if i not in commands) <= WIDTH
    shown = sum(line.startswith(("ONNX", "PyTorch", "a_network")) for line in lines)
    if shown < len(rows) * networks:
        assert any("more rows" in line and "--details" in line for line in lines)


@pytest.mark.parametrize("took_s", [None, 118.2])
def test_each_stage_ends_in_its_seconds_where_they_are_known(build, took_s):
    lines = screen(build.run(), took_s=took_s)
    ends = {line.split()[0]: line.split("  ")[-1].strip() for line in lines[1:4]}
    assert ends["train"] == "3 min"
    assert ends["export"] == "6 s"
    assert (ends["compare"] == "118 s") == (took_s is not None)


def test_there_is_no_escape_sequence_unless_it_is_asked_for(build):
    run = build.run()
    plain = render(run, "terminal", details=False)
    coloured = render(run, "terminal", details=False, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[32m" in coloured
