"""What calls cost as they are made: every section has a sentence, a picture and a table."""

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pytest

from builders import make_row, make_run, steady
from foldbench.bench.records import (
    AsCalled,
    BatchPeak,
    Block,
    Capacity,
    ColdStart,
    ColdStarts,
    ContenderCapacity,
    LoadTest,
    MemoryPoint,
    MemoryUse,
    PausedBlock,
    PauseSeries,
    Run,
    StageBlock,
    StageSeries,
    StreamBlock,
    StreamSeries,
    SweepSeries,
)
from foldbench.bench.samples.calling import STAGES, Switch
from foldbench.reports.figures.calling.curves import Axes, Curve, curve_panel
from foldbench.reports.figures.calling.stacks import Stack, StackPart, stack_panel
from foldbench.reports.figures.marks import SeriesStyle
from foldbench.reports.render import render
from foldbench.reports.rows.published import beside_of, read_published
from foldbench.reports.sections.compose import build

MIB = 2**20
STYLE = SeriesStyle(0, 0)
SECTIONS = ("pauses", "cold starts", "memory", "streams", "sweep", "capacity", "stages")


def paused(call_s: float, pause_s: float, switch: Switch) -> PauseSeries:
    slow = {"": 1 + 2 * min(pause_s, 1) ** 0.5, "cold caches": 1.3}.get(switch, 1.05)
    blocks = tuple(
        PausedBlock(round=n, samples_s=(slow * seconds,) * 3)
        for n, seconds in enumerate(steady(call_s))
    )
    return PauseSeries(pause_s=pause_s, switch=switch, blocks=blocks)


def load(call_s: float, streams: int, threads: int) -> StreamSeries:
    at_once = min(streams, 2)
    blocks = tuple(
        StreamBlock(round=n, samples_s=(seconds * streams / at_once,) * 8, wall_s=seconds * 8)
        for n, seconds in enumerate(steady(call_s / at_once))
    )
    return StreamSeries(streams=streams, threads=threads, sharing="sessions", blocks=blocks)


def way(parts: tuple[float, ...], inside: bool) -> StageSeries:
    blocks = tuple(
        StageBlock(round=n, samples_s=(sum(parts),), parts_s=tuple((s,) for s in parts))
        for n in range(10)
    )
    return StageSeries(inside=inside, files=8, bytes_mean=1e5, blocks=blocks)


def called(call_s: float) -> AsCalled:
    """Return everything that can be measured of a contender whose calls take so long."""
    start = ColdStart(
        process_s=0.4, import_s=0.9, open_s=0.2, first_call_s=0.05, second_call_s=call_s
    )
    sizes = [(8, 10 * MIB), (16, 20 * MIB)]
    steps = (("start", 20), ("import", 120), ("opening", 150), ("warm-up", 155))
    parts = (1e-4, 3e-3, 2e-3, 1e-4, call_s, 1e-5)
    return AsCalled(
        pauses=tuple(
            paused(call_s, pause_s, switch)
            for switch in ("", "kept warm", "cold caches")
            for pause_s in (0.0, 0.01, 1.0)
        ),
        cold_starts=(ColdStarts(page_cache="warm", starts=(start,) * 6),),
        memory=MemoryUse(
            points=tuple(
                MemoryPoint(after=name, rss_bytes=size * MIB, pss_bytes=None)
                for name, size in steps
            ),
            peaks=tuple(BatchPeak(batch_size=n, peak_bytes=155 * MIB + more) for n, more in sizes),
            calls_each=100,
            held_bytes=(155 * MIB,) * 21,
        ),
        streams=tuple(load(call_s, n, 1) for n in (1, 2, 4)),
        sweep=tuple(
            SweepSeries(
                batch_size=size,
                blocks=tuple(
                    Block(round=n, samples_s=(seconds * max(1, size / 4),))
                    for n, seconds in enumerate(steady(call_s))
                ),
            )
            for size in (1, 2, 4, 8)
        ),
        stages=(way(parts, inside=False), way((1e-4, 3e-3, call_s), inside=True)),
    )


def called_run() -> Run:
    """Return a run of two contenders with all of it."""
    return make_run(
        measurements=(
            make_row("torch", "unfolded", as_called=called(4e-3)),
            make_row("ort", "folded", as_called=called(1e-3)),
        )
    )


def capacity_of(run: Run) -> Capacity:
    """Return a capacity of which 100 images a second are held."""
    tests = tuple(
        LoadTest(
            rate_per_s=rate,
            seed=0,
            latencies_s=tuple(steady(latency_s, 1000)),
            calls=1000,
            duration_s=1000 / rate,
        )
        for rate, latency_s in ((50.0, 4e-3), (100.0, 9e-3), (104.0, 0.1))
    )
    row = ContenderCapacity(
        contender="ort/folded/cpu", status="ok", holds_per_s=100.0, fails_per_s=104.0, tests=tests
    )
    return Capacity(
        name=run.name,
        created="2025-03-01T12:00:00Z",
        within_s=0.02,
        at=0.99,
        most=1,
        wait_s=0.0,
        arrivals="Poisson",
        threads=2,
        contenders=(row,),
    )


@pytest.fixture(scope="module")
def page() -> str:
    run = called_run()
    return render(run, "html", [capacity_of(run)])


def test_every_section_has_a_sentence_and_its_picture_and_folds_its_table(page: str) -> None:
    run = called_run()
    sections = {s.key: s for s in build([run], [capacity_of(run)]).sections if s.lead}
    assert tuple(sections) == SECTIONS
    for section in sections.values():
        start = page.index(f"<h2>{section.title}</h2>")
        part = page[start : page.index("</section>", start)]
        assert part.index('class="lead"') < part.index("<svg") < part.index("<details>")


def test_a_published_summary_has_the_same_sections(tmp_path: Path) -> None:
    run = called_run()
    path = tmp_path / "run.json"
    path.write_text(render(run, "json", [capacity_of(run)]))
    (found,) = read_published(path)
    of_run, of_file = (
        [section for section in build([one], beside).sections if section.key in SECTIONS]
        for one, beside in ((run, [capacity_of(run)]), (found, beside_of(found)))
    )
    assert len(of_run) >= len(SECTIONS)
    assert of_file == of_run


def test_a_picture_says_in_words_what_it_shows(page: str) -> None:
    drawings = re.findall(r'<svg[^>]* class="plot".*?</svg>|<svg class="plot".*?</svg>', page)
    described = {}
    for text in drawings:
        root = ElementTree.fromstring(text)
        described[root[0].text] = root[1].text
    assert (
        "PyTorch eager: none 4.00 ms, 10 ms 4.80 ms, 1 s 12.0 ms"
        in described["Latency after a pause"]
    )
    assert "1 s 3.00 ms" in described["Latency after a pause"]
    assert "PyTorch eager, by switch" in described
    assert "process 400 ms, import 900 ms" in described["Time to the first answer"]
    assert "batch 16 +10.0 MiB" in described["Memory of a process"]
    assert "4 at once" in described["Latency against calls a second"]
    assert "batch 8" in described["Images a second by batch size"]
    assert described["From file to class"].count("decode 3.00") == 4
    assert "preprocessing inside" in described["From file to class"]
    assert "p99" in described["ONNX Runtime, folded"]


def test_a_run_without_such_sections_has_none_of_the_pictures() -> None:
    text = render(make_run(), "html")
    assert not re.search(r'id="figure-(pauses|cold-starts|memory|streams|sweep|capacity)', text)


def places_of(panel: str) -> list[tuple[float, float]]:
    found = re.findall(r"translate\(([\d.]+) ([\d.]+)\)", panel)
    return [(float(x), float(y)) for x, y in found]


def test_named_places_are_evenly_spaced_and_larger_values_are_higher_up() -> None:
    curve = Curve("a", STYLE, ((0, 1.0), (1, 10.0), (2, 100.0)))
    panel = str(curve_panel("x", "h", [curve], Axes("x", "y", ("a", "b", "c"))))
    (x0, y0), (x1, y1), (x2, y2) = places_of(panel)
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y2 < y0


def test_names_of_curves_that_end_together_stand_apart() -> None:
    curves = [Curve(name, STYLE, ((0, 1.0), (1, 2.0)), name) for name in ("one", "two", "three")]
    panel = str(curve_panel("x", "h", curves, Axes("x", "y", ("a", "b"))))
    found = re.findall(r'y="([\d.]+)" class="label halo"', panel)
    heights = sorted(map(float, found))
    assert len(heights) == 3
    assert min(b - a for a, b in pairwise(heights)) >= 13


def test_parts_of_a_bar_fill_it_one_behind_the_other() -> None:
    parts = (StackPart("a", 1.0, "1"), StackPart("b", 3.0, "3", is_strong=True))
    small = Stack("small", STYLE, (StackPart("a", 2.0, "2"),), "2")
    root = ElementTree.fromstring(
        str(stack_panel("x", "h", [Stack("large", STYLE, parts, "4"), small]))
    )
    bars = [
        (float(rect.get("x", "0")), float(rect.get("width", "0"))) for rect in root.iter("rect")
    ]
    assert bars == [(0, 109), (109, 327), (0, 218)]
    assert "b 3" in [text.text for text in root.iter("text")]


def test_stages_are_in_their_order(page: str) -> None:
    start = page.index('id="figure-stages"')
    assert ", ".join(STAGES) in page[start:]
