"""The HTML page of every published run, made from the summaries in reports/published.

    python -m benchmarks.published_pages site

Writes NAME.html into the folder for each NAME.json, and index.html, which lists them with their
answers.
"""

from pathlib import Path

import click

from foldbench.bench.store.files import write_text
from foldbench.reports.html.page import Page, Part, fill
from foldbench.reports.render import render, summarise
from foldbench.reports.rows.published import beside_of, read_published
from foldbench.reports.text.document import ReportSection

PUBLISHED = Path(__file__).parents[1] / "reports" / "published"


def write_pages(folder: Path) -> tuple[Path, ...]:
    """Write a page for each published summary and the list of them; return their paths."""
    written, answers = [], []
    for path in sorted(PUBLISHED.glob("*.json")):
        runs = read_published(path)
        page = folder / f"{path.stem}.html"
        write_text(page, render(runs, "html", [one for run in runs for one in beside_of(run)]))
        written.append(page)
        answers.append((page.name, " ".join(summarise(runs).split("\n")).strip()))
    section = ReportSection("Published runs", pairs=tuple(answers))
    index = folder / "index.html"
    listed = Page("Published runs", "", (Part("runs", "Published runs", section),), ())
    write_text(index, fill(listed))
    return (*written, index)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Write the pages into FOLDER."""
    for path in write_pages(folder):
        click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
