"""Options that several commands share, and those that stand for fields of the configuration."""

import json
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from foldbench.bench.cli.help import (
    COMMON,
    CONTENDERS,
    IMAGES,
    LOWER_PRECISION,
    NETWORK,
    OUTPUT,
    section,
)
from foldbench.bench.cli.values import (
    AbsolutePath,
    BatchSizes,
    Classes,
    CommaList,
    Counts,
    FiniteNumber,
    InputShape,
    NamedPath,
    Weights,
)

Command = Callable[..., None]


def config_option(key: str, *names: str, **attributes: Any) -> Callable[[Command], Command]:
    """Add an option that stands for the field `key` of the configuration, or a ``section.``.

    Its value is YAML text, or what JSON can hold. `with_overrides` hands it to the command. The
    text "[default: by config]" in its help becomes the key.
    """
    text = attributes.pop("help", "").replace("[default: by config]", f"[config: {key}]")
    return click.option(*names, key.replace(".", "__"), default=None, help=text, **attributes)


def given_fields() -> dict[str, Any]:
    """Return what the current command's options say about the configuration, by key path."""
    return {
        name.replace("__", ".").rstrip("."): value
        for name, value in click.get_current_context().params.items()
        if "__" in name and value is not None
    }


def _depth(field: tuple[str, Any]) -> int:
    """Return how deep a field lies: what is said of a whole section comes first."""
    return field[0].count(".")


def with_overrides(command: Command) -> Command:
    """Hand the command `overrides`: what --set and every `config_option` say, as ``key=value``."""

    @wraps(command)
    def wrapped(overrides: tuple[str, ...] = (), **options: Any) -> None:
        named = [
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in sorted(given_fields().items(), key=_depth)
        ]
        others = {name: value for name, value in options.items() if "__" not in name}
        command(overrides=(*overrides, *named), **others)

    return wrapped


def _folder_options(cache_is_used: bool) -> Callable[[Command], Command]:
    """Add --runs, --cache and --json; hand the command `paths` and `as_json`."""
    runs_option = click.option(
        "--runs",
        type=NamedPath(file_okay=False, path_type=Path),
        default=Path("runs"),
        show_default=True,
        envvar="FOLDBENCH_RUNS",
        help="Folder of the runs.",
    )
    cache_option = click.option(
        "--cache",
        type=NamedPath(file_okay=False, path_type=Path),
        envvar="FOLDBENCH_CACHE",
        hidden=not cache_is_used,
        help="Folder of decoded images.  [default: the user's cache folder]",
    )

    def decorate(command: Command) -> Command:
        @json_option
        @section(COMMON, runs_option, cache_option)
        @wraps(command)
        def wrapped(runs: Path, cache: Path | None, **options: Any) -> None:
            from foldbench.bench.store.directory import Paths
            from foldbench.bench.store.files import user_cache

            if cache is not None:  # what does not get `paths`, in a worker too, looks there
                os.environ["FOLDBENCH_CACHE"] = os.path.abspath(cache)
            command(paths=Paths(runs, cache or user_cache()), **options)

        return wrapped

    return decorate


json_option = section(
    OUTPUT, click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
)
shared_options = _folder_options(cache_is_used=True)
"""Adds --runs, --cache and --json; hands the command `paths` and `as_json`."""
stored_options = _folder_options(cache_is_used=False)
"""The same for a command that reads records alone: --cache is taken, and not shown."""

set_option = section(
    COMMON,
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a field of the configuration, such as train.epochs=2. Repeatable.",
    ),
)
_DATA_PATH = config_option(
    "data.path",
    "--data",
    type=AbsolutePath(),
    help="Where the images are: a folder or an archive; a .csv, .npz, .npy or loader.py:function.",
)
_SKIP_BAD = config_option(
    "data.skip_bad",
    "--skip-bad",
    is_flag=True,
    flag_value=True,
    help="Skip and count image files that cannot be read.",
)


data_option = section(IMAGES, _DATA_PATH, _SKIP_BAD)
"""Adds --data and --skip-bad."""


def calibration_options(command: Command) -> Command:
    """Add --calibration-data and --calibration-share."""
    path = config_option(
        "data.calibration_path",
        "--calibration-data",
        type=AbsolutePath(),
        help="Images to make a lower precision with, where --data has no training images.",
    )
    share = config_option(
        "data.calibration_share",
        "--calibration-share",
        type=FiniteNumber(min=0, max=0.9, min_open=True),
        metavar="SHARE",
        help="Share of the test images to make it with in their place; they are not tested on.",
    )
    return section(LOWER_PRECISION, path, share)(command)


_WEIGHTS: dict[str, Any] = {
    "metavar": "NAME|FILE",
    "help": "default, a name of torchvision's, or a file.  [default: default]",
}
_DOWNLOAD_HELP = "Let the library fetch weights that are not here."


def network_options(command: Command) -> Command:
    """Add --weights and --download, for networks of torchvision and timm."""
    download = click.option("--download", is_flag=True, help=_DOWNLOAD_HELP)
    return section(NETWORK, click.option("--weights", **_WEIGHTS), download)(command)


def transfer_options(command: Command) -> Command:
    """Add --weights and --download as fields of the configuration."""
    weights = config_option("transfer.weights", "--weights", type=Weights(), **_WEIGHTS)
    download = config_option(
        "transfer.download", "--download", is_flag=True, flag_value=True, help=_DOWNLOAD_HELP
    )
    return section(NETWORK, weights, download)(command)


def subject_options(command: Command) -> Command:
    """Add what can be said of a network of one's own: its weights, arguments, classes and input."""
    options = (
        config_option(
            "model.weights",
            "--weights",
            type=Weights(),
            metavar="FILE|NAME",
            help="Trained weights: a file, a name of torchvision's, default or none.",
        ),
        *_DESCRIBING,
        config_option(
            "model.download", "--download", is_flag=True, flag_value=True, help=_DOWNLOAD_HELP
        ),
    )
    return section(NETWORK, *options)(command)


_OF_INPUT = (
    config_option(
        "data.",
        "--input",
        type=InputShape(),
        metavar="CxHxW",
        help="Shape of its input, such as 3x224x224.",
    ),
    config_option(
        "data.mean",
        "--mean",
        type=CommaList(),
        metavar="X[,X]...",
        help="Mean of each channel, for pixels from 0 to 1.",
    ),
    config_option(
        "data.std",
        "--std",
        type=CommaList(),
        metavar="X[,X]...",
        help="Standard deviation of each channel.",
    ),
    config_option(
        "model.output",
        "--output",
        metavar="NAME|N",
        help="Which of several outputs holds the logits.",
    ),
)
_DESCRIBING = (
    config_option("model.args", "--args", metavar="YAML", help="Its arguments: '{width: 64}'."),
    config_option(
        "model.classes",
        "--classes",
        type=Classes(),
        metavar="N|FILE",
        help="How many classes, or a file with a name on each line.",
    ),
    *_OF_INPUT,
    config_option(
        "model.weights_key",
        "--weights-key",
        metavar="KEY",
        help="Where the file has the weights, such as ema.",
    ),
    config_option(
        "model.strip_prefix",
        "--strip-prefix",
        metavar="TEXT",
        help="Prefix of their names to remove, such as model. (with the dot)",
    ),
)


describing_options = section(NETWORK, *_DESCRIBING)
"""Adds the options of a network of one's own, without those for its weights."""


input_options = section(NETWORK, *_OF_INPUT)
"""Adds --input, --mean, --std and --output: what an .onnx file may leave open."""


_WHERE = (
    config_option(
        "compare.backends",
        "--backends",
        type=CommaList(),
        metavar="NAME[,NAME]...",
        help="Runtimes, such as torch,ort (bench list).  [default: by config]",
    ),
    config_option(
        "compare.devices",
        "--devices",
        type=CommaList(),
        metavar="auto|cpu|cuda[,...]",
        help="auto is the CPU, and CUDA where there is an NVIDIA GPU.  [default: by config]",
    ),
)


contender_options = section(
    CONTENDERS,
    *_WHERE,
    config_option(
        "compare.",
        "--batch-sizes",
        type=BatchSizes(),
        metavar="N[,N]...|auto",
        help="Images in one call, such as 1,64; auto: doubled while images/s rise.  "
        "[config: compare.batch_sizes]",
    ),
)
"""Adds --backends, --devices and --batch-sizes."""


profiled_options = section(
    CONTENDERS,
    *_WHERE,
    config_option(
        "compare.batch_sizes",
        "--batch-sizes",
        type=Counts(),
        metavar="N[,N]...",
        help="Images in one call, such as 1,64.  [default: by config]",
    ),
)
"""Adds the same where no batch size is looked for."""


def form_option(*forms: str) -> Callable[[Command], Command]:
    """Add --format, one of `forms`, the first by default; hand the command `form`."""
    option = click.option(
        "--format", "form", type=click.Choice(forms), default=forms[0], show_default=True
    )
    return section(OUTPUT, option)
