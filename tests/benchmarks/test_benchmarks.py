"""The benchmarks of the harness itself run, and store every figure that they print."""

import io
import json
import shutil
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks import harness_overhead, preprocess_in_graph, screenshot
from benchmarks.preprocess_in_graph import TimedBlock
from foldbench.bench.samples.timing import Block
from foldbench.bench.timing.loop import TimedCalls


def test_the_overhead_is_the_difference_of_the_two_loops_on_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness_overhead, "STEPS_S", (0.0, 2e-3))
    monkeypatch.setattr(harness_overhead.gc, "freeze", lambda: None)
    done = CliRunner().invoke(harness_overhead.main, ["--pairs", "2", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    stored = json.loads((tmp_path / "harness_overhead.json").read_text(encoding="utf-8"))
    assert [step["step_s"] for step in stored["steps"]] == [0.0, 2e-3]
    for step in stored["steps"]:
        assert len(step["pairs"]) == 2
        for pair in step["pairs"]:
            assert min(pair["ours_s"], pair["bare_s"]) >= step["step_s"]
            assert pair["between_s"] > 0
    text = (tmp_path / "harness_overhead.md").read_text(encoding="utf-8")
    assert text in done.output
    clean = sum(pair["clean"] for pair in stored["steps"][1]["pairs"])
    assert f"{clean} of 2" in text


def test_the_picture_in_the_readme_is_small_enough_for_a_page() -> None:
    root = Path(screenshot.__file__).parent.parent
    picture = root / screenshot.PICTURE
    assert str(screenshot.PICTURE) in (root / "README.md").read_text(encoding="utf-8")
    assert 10_000 < picture.stat().st_size <= screenshot.BYTES_AT_MOST


def test_a_page_is_photographed_in_few_colours() -> None:
    if not any(map(shutil.which, screenshot.BROWSERS)):
        pytest.skip("no Chromium is installed")
    page = "<body style='margin:0;background:#0072b2'><p>words</p></body>"
    picture = Image.open(io.BytesIO(screenshot.photograph(page, 320, 200, 1)))
    assert picture.size == (320, 200)
    assert picture.mode == "P"
    assert picture.convert("RGB").getpixel((310, 190)) == (0, 0x72, 0xB2)


def test_without_a_browser_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screenshot, "BROWSERS", ("no-such-browser",))
    with pytest.raises(click.ClickException, match="install chromium"):
        screenshot.find_browser()


def test_preprocessing_inside_is_compared_in_rounds_in_which_both_ways_were_left_alone() -> None:
    blocks = [
        TimedBlock(way, number, (seconds * (5 if number == 3 else 1),) * 4, clean=number != 3)
        for number in range(1, 11)
        for way, seconds in (("outside", 3e-3), ("inside", 2e-3))
    ]
    found = preprocess_in_graph.summarise(blocks)
    assert (found["rounds"], found["clean_rounds"]) == (10, 9)
    assert found["median_s"] == {"outside": 3e-3, "inside": 2e-3}
    assert found["ratio"]["point"] == pytest.approx(1.5)
    text = preprocess_in_graph.to_markdown(found, "net", (640, 480))
    assert "1.500 (1.500 to 1.500), 9 of 10 rounds clean" in text
    none = preprocess_in_graph.summarise([b for b in blocks if not b.clean])
    assert "not enough clean rounds" in preprocess_in_graph.to_markdown(none, "net", (1, 1))


def test_rounds_go_on_until_enough_are_clean() -> None:
    asked: list[str] = []

    def ask(way: str) -> TimedCalls:
        asked.append(way)
        delay = 0.9 if len(asked) <= 4 else 0.0
        block = Block(samples_s=(1e-3,), run_delay_ratio=delay)
        return TimedCalls(3, block, 0, np.zeros((1, 2), np.float32))

    blocks = preprocess_in_graph.measure(ask, rounds=3, budget_s=60)
    assert len(blocks) == len(asked) == 10
    assert sorted(asked[:2]) == ["inside", "outside"]
    assert sum(block.clean for block in blocks) == 6
