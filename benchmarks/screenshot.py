"""The first screen of a report as a picture, for the README.

    python -m benchmarks.screenshot reports/published/fast_deep_mish.json

Makes the HTML page of runs, or of a published summary, from what is stored and has a Chromium that
is installed take its picture, in few colours so that it stays small. Nothing is drawn by hand.
"""

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import click
from PIL import Image

from foldbench.bench.store.files import replacing
from foldbench.bench.store.finding import find_runs
from foldbench.reports.render import render
from foldbench.reports.rows.published import read_published

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PICTURE = Path("reports/published/report.png")
COLOURS = 256
BYTES_AT_MOST = 300_000


def find_browser() -> str:
    """Return the path of a Chromium; raise click.ClickException without one."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise click.ClickException(f"no browser found ({', '.join(BROWSERS)}): install chromium")
    return found


def photograph(page: str, width: int, height: int, scale: float) -> bytes:
    """Return the first `width` by `height` points of an HTML page as PNG in few colours."""
    with tempfile.TemporaryDirectory(prefix="foldbench-") as folder:
        path, target = Path(folder) / "report.html", Path(folder) / "report.png"
        path.write_text(page, encoding="utf-8")
        command = [
            find_browser(),
            "--headless",
            "--no-sandbox",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/profile",
            f"--window-size={width},{height}",
            f"--force-device-scale-factor={scale:g}",
            f"--screenshot={target}",
            path.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if not target.is_file():
            raise click.ClickException(f"the browser took no picture: {done.stderr[-300:]}")
        small = (
            Image.open(target)
            .convert("RGB")
            .quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        )
    stream = io.BytesIO()
    small.save(stream, "PNG", optimize=True)
    return stream.getvalue()


@click.command()
@click.argument("names", metavar="RUN...|FILE.json", nargs=-1, required=True)
@click.option("--runs", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=PICTURE)
@click.option("--width", type=int, default=1400, show_default=True)
@click.option("--height", type=int, default=800, show_default=True)
@click.option("--scale", type=float, default=1.3, show_default=True)
def main(
    names: tuple[str, ...], runs: Path, out: Path, width: int, height: int, scale: float
) -> None:
    """Take the picture of the report of each RUN together, or of a published FILE.json."""
    if all(name.endswith(".json") for name in names):
        records = [record for name in names for record in read_published(Path(name))]
    else:
        records = [run.results() for run in find_runs(runs, names)]
    png = photograph(render(records, "html"), width, height, scale)
    if len(png) > BYTES_AT_MOST:
        raise click.ClickException(
            f"the picture has {len(png):,} bytes, more than {BYTES_AT_MOST:,}: "
            "give a smaller --height or --scale"
        )
    with replacing(out) as temporary:
        temporary.write_bytes(png)
    click.echo(f"written: {out} ({len(png):,} bytes)")


if __name__ == "__main__":
    main()
