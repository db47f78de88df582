"""The page in a real browser: nothing overflows, nothing is fetched, sorting and filtering work.

Skipped, with the reason, where playwright or a Chromium is not installed:
``pip install 'foldbench[browser]'`` and the system's chromium package.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from foldbench.reports.commands.history import render_history
from foldbench.reports.render import render

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (360, 768, 1280)
LONG = "an_extraordinarily_long_name_of_a_network_that_a_user_chose" * 2


@pytest.fixture(scope="module")
def browser() -> Iterator:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, tmp_path: Path) -> Iterator:
    """Opens a page from a file; whatever else it asks for, or says is wrong, fails the test."""
    pages = []

    def open_page(text: str, width: int = 1280, **options):
        path = tmp_path / "report.html"
        path.write_text(text, encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 800}, **options)
        asked, faults = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text))
        page.goto(path.as_uri())
        pages.append((page, asked, faults, path.as_uri()))
        return page

    yield open_page
    for page, asked, faults, address in pages:
        page.wait_for_timeout(50)
        assert asked == [address]
        assert faults == []
        page.close()


def widest(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth")


@pytest.fixture
def several(build):
    """Three networks, one of them with a name that does not want to end."""
    data = build.data(test_count=40)
    accuracy = build.accuracy(30, 40).model_copy(update={"top1": tuple(i % 10 for i in range(40))})
    labels = tuple((i * 3) % 10 for i in range(40))
    rows = tuple(
        build.row(*name.split("/"), accuracy=accuracy) for name in ("torch/unfolded", "ort/folded")
    )
    scored = build.run(
        checkpoint=build.checkpoint("mish_cnn", data=data), labels=labels, measurements=rows
    )
    return [build.run(), build.run(checkpoint=build.checkpoint(LONG)), scored]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_the_page(visit, several, scheme):
    page = visit(render(several, "html"), color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert widest(page) <= width


OUT_OF_PLACE = """() => Array.from(document.querySelectorAll("td, th")).filter((cell) => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  const [inner, outer] = [range.getBoundingClientRect(), cell.getBoundingClientRect()];
  return inner.width && (inner.right > outer.right + 1 || inner.left < outer.left - 1);
}).map((cell) => cell.textContent)"""


def test_no_figure_stands_on_its_neighbour_and_the_results_fit(visit, build):
    networks = [build.run(checkpoint=build.checkpoint(name)) for name in ("bn_cnn", "deep_mish")]
    page = visit(render(networks, "html"))
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for width in (*WIDTHS, 1100):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(OUT_OF_PLACE) == [], width
        room = page.locator("#results .scroll").evaluate("(at) => at.clientWidth - at.scrollWidth")
        assert room >= 0, width


def test_the_history_does_not_overflow_either(visit, several):
    page = visit(render_history(several, "html"))
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert widest(page) <= width


def test_the_answer_and_the_first_results_are_on_the_first_screen(visit, build):
    page = visit(render(build.run(), "html"))
    for selector in (".answer", ".facts", "#results-table tbody tr"):
        box = page.locator(selector).first.bounding_box()
        assert box["y"] + box["height"] <= 800, selector


def test_the_answer_is_on_the_first_screen_of_a_phone(visit, build):
    page = visit(render(build.run(), "html"), 360)
    box = page.locator(".answer").bounding_box()
    assert box["y"] + box["height"] <= 800


def column(page, name):
    """The texts of a column of the results, from the top, of the rows that are shown."""
    return page.locator(
        f"#results-table tbody tr:visible td[data-label='{name}']"
    ).all_inner_texts()


def names(page):
    """The ids of the contenders whose rows are shown, from the top."""
    rows = page.locator("#results-table tbody tr:visible th").all()
    return [row.get_attribute("title") for row in rows]


def test_a_click_on_a_heading_sorts_by_number_and_another_turns_it_round(visit, build):
    page = visit(render(build.run(), "html"))
    heading = page.get_by_role("columnheader", name="median ms").first
    heading.get_by_role("button").click()
    assert column(page, "median ms")[::2] == ["0.934", "1.00", "1.60", "2.00"]
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").click()
    assert column(page, "median ms")[1::2] == ["64.0", "55.0", "40.0", "38.0"]
    assert heading.get_attribute("aria-sort") == "descending"
    page.get_by_role("columnheader", name="contender").first.get_by_role("button").click()
    assert names(page)[0] == "ort/folded/cpu"


def test_the_filter_leaves_the_rows_that_hold_every_word(visit, build):
    more = tuple(build.row(f"ort:micro={n}", "int8") for n in range(6))
    page = visit(render(build.run(measurements=(*build.measurements(), *more)), "html"))
    everything = len(names(page))
    page.get_by_label("Show rows with").fill("onnx folded")
    assert names(page) == ["ort/folded/cpu", "ort/unfolded/cpu"]
    assert page.locator("#shown").inner_text() == f"2 of {everything} rows"
    page.get_by_label("Show rows with").fill("")
    assert len(names(page)) == everything


def test_at_390_pixels_every_row_has_its_median_and_speed_up_without_scrolling(visit, build):
    page = visit(render(build.run(), "html"), 390)
    room = page.locator("#results .scroll").evaluate("(at) => at.clientWidth - at.scrollWidth")
    assert room >= 0
    assert column(page, "median ms")[0] == "0.934"
    assert column(page, "speed-up")[0].startswith("2.14×")
    assert not page.locator("td.picture").first.is_visible()


def test_the_contents_stay_beside_what_is_read(visit, build):
    page = visit(render(build.run(), "html"), 1400)
    page.evaluate("window.scrollTo(0, 2000)")
    page.wait_for_function("window.scrollY > 500")
    assert page.locator("nav").bounding_box()["y"] == 0


def test_it_prints_on_two_pages(visit, build):
    page = visit(render(build.run(), "html"))
    pdf = page.pdf(format="A4", prefer_css_page_size=True)
    assert pdf.count(b"/Type /Page\n") <= 2


def test_without_a_script_everything_is_there_to_read(visit, build):
    page = visit(render(build.run(), "html"), java_script_enabled=False)
    assert len(names(page)) == 4
    assert not page.get_by_label("Show rows with").is_visible()
    assert page.get_by_role("button").count() == 0
    page.locator("#raw-samples-0-data > summary").click()
    assert page.locator("#raw-samples-0").is_visible()


def test_a_figures_link_leads_to_its_data_and_opens_it(visit, build):
    page = visit(render(build.run(), "html"))
    page.locator("#figure-latency .raws a").click()
    page.wait_for_function("document.getElementById('raw-samples-0-data').open")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as raw-samples-0.json").click()
    assert '"samples_ns"' in Path(download.value.path()).read_text(encoding="utf-8")


def test_names_from_outside_do_nothing_and_are_shown(visit, build):
    evil = (
        '<script>document.title = "owned"</script><img src="http://x.invalid/y" onerror=alert(1)>'
    )
    run = build.run(
        name=evil,
        checkpoint=build.checkpoint(evil, data=build.data(title=f"{evil} 🦆 שלום")),
        environment={"cpu": evil},
    )
    page = visit(render(run, "html"))
    assert evil in page.locator("h1").inner_text()
    assert "owned" in page.title()  # as a part of the name, not as the title that a script set
    assert page.title() != "owned"
    assert page.locator("img").count() == 0
    assert "🦆" in page.locator("h1").inner_text()
    assert widest(page) <= 1280


def test_the_colours_follow_the_readers_theme(visit, build):
    text = render(build.run(), "html")
    shade = "getComputedStyle(document.body).backgroundColor"
    light = visit(text, color_scheme="light").evaluate(shade)
    dark = visit(text, color_scheme="dark").evaluate(shade)
    assert light == "rgb(253, 253, 251)"
    assert dark == "rgb(20, 22, 24)"


def test_neither_tools_nor_details_are_printed(visit, build):
    page = visit(render(build.run(), "html"))
    page.emulate_media(media="print")
    assert not page.locator(".tools").is_visible()
    assert not page.locator("#raw").is_visible()
    assert not page.locator("nav").is_visible()
    assert page.locator("#results-table thead").is_visible()


def test_the_results_of_several_runs_fit_on_a_sheet_of_paper(visit, build):
    networks = [build.run(checkpoint=build.checkpoint(name)) for name in ("bn_cnn", "deep_mish")]
    page = visit(render(networks, "html"), 688)  # A4 within the margins, in points of a screen
    page.emulate_media(media="print")
    room = "(at) => at.parentElement.clientWidth - at.scrollWidth"
    assert page.locator("#results-table").evaluate(room) >= 0
