"""Options that several commands share."""

import json
import os
from collections.abc import Callable, Sequence
from functools import wraps
from math import isfinite
from pathlib import Path
from typing import Any

import click


class Seconds(click.ParamType):
    """A duration: a number of seconds, or one with the unit s, m or h."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds that the text stands for."""
        text = str(value).strip()
        factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
        try:
            seconds = float(text[:-1]) * factor if factor else float(text)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= 86400:
            self.fail(f"{value!r} is no duration: give seconds, or a number with s, m or h")
        return seconds


class NamedPath(click.Path):
    """A path; click's own type takes an empty one, as of an unset variable, for the current folder.

    Names that are not UTF-8 are refused: records and reports are.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path that the text stands for."""
        text = os.fsdecode(value)
        if not text.strip():
            self.fail("is empty: give a path (. is the current folder)", param, ctx)
        if not text.isprintable() and any("\udc80" <= c <= "\udcff" for c in text):
            self.fail(f"{text!r} is not UTF-8: rename it, or link to it", param, ctx)
        return super().convert(value, param, ctx)


class FiniteNumber(click.FloatRange):
    """A number in a range; click's own type lets ``nan`` into every range."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number that the text stands for."""
        number = float(super().convert(value, param, ctx))
        if not isfinite(number):
            self.fail(f"{value!r}: give a finite number", param, ctx)
        return number


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --runs, --cache and --json; hand the command `paths` and `as_json`."""

    @click.option(
        "--runs",
        type=NamedPath(file_okay=False, path_type=Path),
        default=Path("runs"),
        show_default=True,
        envvar="FOLDBENCH_RUNS",
        help="Folder of the runs.",
    )
    @click.option(
        "--cache",
        type=NamedPath(file_okay=False, path_type=Path),
        envvar="FOLDBENCH_CACHE",
        help="Folder of decoded images.  [default: the user's cache folder]",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
    @wraps(command)
    def wrapped(runs: Path, cache: Path | None, **options: Any) -> None:
        from foldbench.bench.stages.train import Paths
        from foldbench.bench.store.files import user_cache

        if cache is not None:  # what does not get `paths`, in a worker too, looks there
            os.environ["FOLDBENCH_CACHE"] = os.path.abspath(cache)
        command(paths=Paths(runs, cache or user_cache()), **options)

    return wrapped


set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a field of the configuration, such as train.epochs=2. Repeatable.",
)
data_option = click.option(
    "--data",
    type=NamedPath(path_type=Path),
    help="Where the images are: a folder or a tar archive.",
)
tracker_option = click.option(
    "--tracker",
    type=click.Choice(["mlflow"]),
    help="Also log each run there: to MLFLOW_TRACKING_URI, or to mlflow.db in the runs' folder.",
)
run_argument = click.argument("names", metavar="[RUN]...", nargs=-1)


def network_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --weights and --download, for networks of torchvision and timm."""
    weights = click.option(
        "--weights",
        metavar="NAME|FILE",
        help="default, a name of torchvision's, or a .safetensors file.  [default: default]",
    )
    download = click.option(
        "--download", is_flag=True, help="Let the library fetch weights that are not here."
    )
    return weights(download(command))


def export_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --passes, --target and what lowers the precision; `export_overrides` takes them."""
    passes = click.option(
        "--passes",
        metavar="default|none|NAME[,NAME]...",
        help="Rewriting passes over the graph (bench list).  [default: by config]",
    )
    target = click.option(
        "--target",
        type=click.Choice(["cpu", "cuda", "tensorrt", "host"]),
        help="What the file is to run on; host: this machine's CPU alone.  [default: by config]",
    )
    quantize = click.option(
        "--quantize",
        type=click.Choice(["none", "int8", "int8_tables", "float16"]),
        help="A second file in lower precision.  [default: by config]",
    )
    max_drop = click.option(
        "--max-drop",
        type=FiniteNumber(0, 100),
        metavar="POINTS",
        help="Accuracy that it may cost, percentage points.  [default: by config]",
    )
    calibration_images = click.option(
        "--calibration-images",
        type=click.IntRange(min=1),
        metavar="N",
        help="Training images to find ranges with.  [default: by config]",
    )
    return passes(target(quantize(max_drop(calibration_images(command)))))


def export_overrides(fold_bn: bool | None, **asked: Any) -> tuple[str, ...]:
    """Return the options of an export that were given, as overrides of the configuration."""
    given = {
        "export.fold_bn": None if fold_bn is None else str(fold_bn).lower(),
        "export.passes": yaml_list(asked["passes"]),
        "export.target": asked["target"],
        "export.quantize": asked["quantize"],
        "export.max_drop_points": asked["max_drop"],
        "export.calibration_images": asked["calibration_images"],
    }
    return tuple(f"{key}={value}" for key, value in given.items() if value is not None)


def with_data(overrides: Sequence[str], data: Path | None) -> tuple[str, ...]:
    """Return `overrides` with the path of the data, made absolute so that it stays true."""
    if data is None:
        return tuple(overrides)
    return (*overrides, f"data.path={json.dumps(os.path.abspath(os.path.expanduser(data)))}")


def with_weights(
    overrides: Sequence[str], data: Path | None, weights: str | None, download: bool
) -> tuple[str, ...]:
    """Return `overrides` with the path of the data and with the pretrained weights that are given.

    A weights file's path is made absolute so that it stays true.
    """
    given = list(with_data(overrides, data))
    if weights is not None:
        is_file = weights.endswith(".safetensors") or os.sep in weights
        named = os.path.abspath(os.path.expanduser(weights)) if is_file else weights
        given.append(f"transfer.weights={json.dumps(named)}")
    if download:
        given.append("transfer.download=true")
    return tuple(given)


def yaml_list(text: str | None) -> str | None:
    """Return ``a,b`` as the YAML list ``[a,b]``, None where nothing was given."""
    return None if text is None else f"[{text}]"
