"""The HTML page: whole, self-contained, the same content as the other forms, and safe to open."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from foldbench.reports.figures.figure import EmbeddedImage
from foldbench.reports.render import render
from foldbench.reports.sections.compose import build as build_document

VOID = {"meta", "input", "img"}
HOSTILE = (
    '"><script>alert(1)</script><img src=x onerror=alert(2)> \'"&lt; \u202eסוף 🦆 </script><!--'
)


@dataclass
class Page(HTMLParser):
    """A parsed page: its elements, what stands in them, and whether all of them are closed."""

    text: str = ""
    open_tags: list[str] = field(default_factory=list)
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    scripts: list[tuple[dict[str, str], str]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def __post_init__(self):
        super().__init__(convert_charrefs=True)
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open_tags.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag

    def handle_data(self, data):
        if self.open_tags and self.open_tags[-1] == "script":
            attributes, before = self.scripts.pop()
            self.scripts.append((attributes, before + data))
        elif self.open_tags and self.open_tags[-1] != "style":
            self.words.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]

    def seen(self):
        return " ".join("".join(self.words).split())


def parsed(*runs):
    page = Page(render(list(runs), "html"))
    assert page.open_tags == []
    return page


def hostile(build):
    data = build.data(title=HOSTILE, classes=(HOSTILE, "b"), test_count=2)
    accuracy = build.accuracy(1, 2).model_copy(update={"top1": (0, 0)})
    return build.run(
        name=HOSTILE,
        checkpoint=build.checkpoint(HOSTILE, data=data),
        labels=(0, 1),
        environment={"cpu": HOSTILE, HOSTILE: HOSTILE, "cores_usable": 2},
        command=("bench", HOSTILE),
        measurements=(
            build.row("torch", "unfolded", runtime=HOSTILE, accuracy=accuracy),
            build.row("ort", "folded", contender=HOSTILE, accuracy=accuracy),
            build.lost_row("ort", "folded", "cuda", "failed", HOSTILE),
        ),
    )


def test_the_parts_of_a_page_stand_in_their_order(build):
    text = render(build.run(), "html")
    headings = re.findall(r"<h2.*?>(.*?)</h2>", text)
    assert headings[:3] == ["Results", "Accuracy against latency", "Latency and speed-up"]
    assert headings[-2:] == ["Measurement quality", "Raw data"]
    folded = headings[headings.index("Contenders") :]
    assert "Agreement with PyTorch eager" in folded
    assert "To repeat" not in folded
    assert len(headings) == len(set(headings))


def test_the_first_thing_is_what_was_compared_where_and_the_answer(build):
    run = build.run()
    seen = parsed(run).seen()
    document = build_document([run])
    first = ("2.14x as fast as PyTorch eager", "Reliable", "n.s.: no significant")
    order = [seen.index(text) for text in (document.title, "AMD EPYC 7R13", *first)]
    assert order == sorted(order)


def test_the_page_holds_every_cell_note_and_sentence_of_the_document(build):
    runs = [build.run(m) for m in ("mish_cnn", "bn_cnn")]
    seen = parsed(*runs).seen()
    document = build_document(runs)
    for section in document.sections:
        for text in (
            *(cell for row in (section.table.rows if section.table else ()) for cell in row),
            *section.notes,
            *section.commands,
            *(text for pair in section.pairs for text in pair),
            section.caption,
        ):
            assert " ".join(text.split()) in seen, (section.title, text)


def test_the_joined_table_shows_what_the_single_tables_do(build):
    run = build.run()
    document = build_document([run])
    tables = [s.table for s in document.sections if s.key in ("accuracy", "agreement", "latency")]
    cells = {cell for table in tables for row in table.rows for cell in row}
    cells |= {part for cell in cells for part in cell.split("/")}  # 9,999/10,000
    text = render(run, "html")
    body = text[text.index('id="results-table"') :].split("<tbody>")[1].split("</tbody>")[0]
    found = re.findall(r'<td data-label="([^"]*)"[^>]*>(.*?)</td>', body)
    assert len(found) == 4 * (3 + 2 * 4)
    for label, cell in found:
        number, _, detail = re.sub(r"<svg.*?</svg>", "", cell).partition("<small>")
        if label:
            assert number.removesuffix("×") in cells | {"baseline", "n.s."}, number
            assert detail.removesuffix("</small>") in cells | {""}, detail
    names = re.findall(r'<th scope="row" class="text" title="(.*?)">', body)
    assert names == ["ort/folded/cpu", "ort/unfolded/cpu", "torch/folded/cpu", "torch/unfolded/cpu"]


def test_where_nothing_could_be_judged_the_page_says_so_and_gives_no_ratio(build):
    busy = [
        build.row(*way, timings=(build.timing(1, build.steady(s), dirty=range(1, 10)),))
        for way, s in ((("torch", "unfolded"), 0.002), (("ort", "folded"), 0.0001))
    ]
    text = render(build.run(measurements=tuple(busy)), "html")
    assert '<p class="quality inconclusive">' in text
    body = text[text.index('id="results-table"') :].split("</table>")[0]
    assert "speed-up" not in body
    assert "×" not in body


def test_nothing_is_loaded_from_elsewhere(build):
    page = parsed(build.run(), build.run("deep_mish"))
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert not {name for name in attributes if name.startswith("on")}
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
    style = page.text[page.text.index("<style>") : page.text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_a_picture_from_elsewhere_is_held_by_the_page_itself(build):
    picture = EmbeddedImage(f"Filters of {HOSTILE}", 'Eight "small" pictures', b"\x89PNG")
    page = Page(render(build.run(), "html", pictures=[picture]))
    (shown,) = page.all("img")
    assert shown["src"] == "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    assert shown["alt"] == 'Eight "small" pictures'


def test_only_the_pages_own_script_may_run(build):
    page = parsed(hostile(build))
    (own,) = (text for attributes, text in page.scripts if attributes.get("type") is None)
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_names_from_outside_stay_text(build):
    page = parsed(hostile(build))
    assert page.all("img") == []
    assert not any("alert" in text for attributes, text in page.scripts if "type" not in attributes)
    shown = HOSTILE.replace("\u202e", r"\u202e")
    assert shown in page.seen()
    assert "\u202e" not in page.text
    assert "🦆" in page.text
    names = {"title", "h1", "td", "th", "pre", "dd", "li", "text", "desc"}
    assert names <= {tag for tag, _ in page.elements}


def test_every_link_and_every_label_has_its_target_and_no_id_is_there_twice(build):
    page = parsed(build.run(), build.run("deep_mish"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [a["href"].removeprefix("#") for a in page.all("a")]
    labels = [name for svg in page.all("svg") for name in svg.get("aria-labelledby", "").split()]
    assert len(links) > 10
    assert set(links + labels) <= set(ids)


def test_every_picture_has_words_for_it_and_every_table_has_headings(build):
    page = parsed(build.run())
    pictures = [svg for svg in page.all("svg") if svg.get("aria-hidden") != "true"]
    assert len(pictures) >= 5
    assert all(svg["role"] == "img" and svg["aria-labelledby"] for svg in pictures)
    assert {th.get("scope") for th in page.all("th")} == {"col", "row"}
    assert len(page.all("caption")) == len(page.all("table"))
    assert page.all("html") == [{"lang": "en"}]


def test_the_embedded_data_holds_every_call(build):
    run = build.run()
    page = parsed(run)
    blocks = {a["id"]: text for a, text in page.scripts if a.get("type") == "application/json"}
    assert all("<" not in text for text in blocks.values())
    samples = json.loads(blocks["raw-samples-0"])
    kept = {
        (row["contender"], row["batch_size"]): [s for b in row["blocks"] for s in b["samples_ns"]]
        for row in samples["rows"]
    }
    for m in run.measurements:
        for timing in m.timings:
            measured = [round(s * 1e9) for s in timing.samples_s()]
            assert kept[m.contender, timing.batch_size] == measured
    assert json.loads(blocks["raw-statistics"])["runs"][0]["run"] == run.name
    assert 'href="#raw-samples-0-data"' in page.text


def test_notes_are_reached_from_the_rows_they_are_about(build):
    text = render(build.run(), "html")
    assert 'href="#note-1"' in text
    assert 'id="note-1"' in text


def test_runs_of_two_machines_are_named_and_drawn_apart(build):
    there = {"cpu": "Apple M9", "cores_usable": 8}
    runs = [build.run(), build.run("deep_mish", environment=there)]
    page = parsed(*runs)
    assert len([table for table in page.all("table") if "results" in table["class"]]) == 2
    for machine in ("AMD EPYC 7R13, 2 usable cores, x86_64", "Apple M9, 8 usable cores"):
        assert f"Batch 1 on {machine}" in page.seen()


def test_a_run_in_which_nothing_ran_still_has_a_page(build):
    lost = build.lost_row("torch", "unfolded", "cpu", "failed", "out of memory")
    seen = parsed(build.run(measurements=(lost,), artifacts=())).seen()
    assert "out of memory" in seen
    assert "Nothing was timed." in seen


def test_a_run_in_which_nothing_was_timed_says_why(build):
    row = build.row("ort", "folded", timings=(), reason="its file runs at batch size 2 alone")
    seen = parsed(build.run(measurements=(row,))).seen()
    assert "Nothing was timed: its file runs at batch size 2 alone" in seen


COLOURS = re.compile(r"--([a-z0-9]+): (#[0-9a-f]{3,6})")


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    """WCAG 2.2, contrast ratio."""
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "print"])
def test_colours_can_be_told_from_the_page(theme):
    style = (files("foldbench.reports.html") / "templates" / "page.css").read_text(encoding="utf-8")
    blocks = [
        block for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL) if "--c0" in block
    ]
    colours = dict(COLOURS.findall(blocks[theme]))
    assert {f"c{i}" for i in range(7)} <= set(colours)
    for name in ("ink", "soft", "link", "good", "bad"):
        for behind in ("paper", "raised"):
            assert contrast(colours[name], colours[behind]) >= 4.5, (name, behind)
    for i in range(7):
        assert contrast(colours[f"c{i}"], colours["paper"]) >= 3, f"c{i}"
