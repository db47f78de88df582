"""What the exports do for other people's networks: classifiers of timm and torchvision.

    python -m benchmarks.zoo --budget 150 --out benchmarks/results
    python -m benchmarks.zoo --processes 1 --budget 25 --backends ort,openvino --out FOLDER
    python -m benchmarks.zoo --networks resnet18,repvgg_a0 --int8 --out benchmarks/results
    python -m benchmarks.zoo --only-report --out benchmarks/results

Random weights, random pixels of 224x224, the CPU. For each network: what torch.onnx.export gives by
itself, this project's files for any CPU and for this one, OpenVINO, torch.compile, and the
network's own deploy form where it has one, exported plainly. They take turns in the rounds of
`bench compare`, each in processes of its own. A network that was measured is not measured again: it
is a file in ``zoo/``, which `--fresh` makes anew. The second line is for a first look: one process
of each, so no intervals. Leave the machine alone meanwhile.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

from benchmarks.zoo_report import Operators, Stored, read_stored, to_report
from foldbench.bench.cli.console import progress
from foldbench.bench.config.files import Loaded, from_dict
from foldbench.bench.errors import BenchError
from foldbench.bench.host_files.custom_operators import DOMAIN
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Block, Run
from foldbench.bench.stages.add import add
from foldbench.bench.stages.compare import compare_runs
from foldbench.bench.stages.export import export, export_with, prepare_export
from foldbench.bench.stages.profiling import profile_run
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.store.files import write_text
from foldbench.bench.store.temporary import temporary_folder
from foldbench.exporters.export import plain_options

CODE = Path(__file__).with_name("zoo_networks.py")
SIDE = 224
IMAGES = 16
BACKENDS = ("ort", "openvino", "torch_compile:freeze")
INT8_IMAGES = 125
"""Of which 100 make and judge the file in int8."""


@dataclass(frozen=True)
class Entry:
    """One network: where it comes from, and its own deploy form."""

    source: str
    args: dict[str, Any]
    deploy: str | None = None
    """timm's name of a network that `timm.utils.reparameterize_model` merges."""


def _library(source: str, deploys: bool = False) -> Entry:
    return Entry(source, {}, source.partition(":")[2] if deploys else None)


def _own(arch: str, activation: str) -> Entry:
    return Entry(f"{CODE}:with_activation", {"arch": arch, "activation": activation})


NETWORKS = {
    "resnet18": _library("torchvision:resnet18"),
    "resnet50": _library("torchvision:resnet50"),
    "mobilenetv3_small_100": _library("timm:mobilenetv3_small_100"),
    "efficientnet_b0": _library("timm:efficientnet_b0"),
    "regnety_004": _library("timm:regnety_004"),
    "repvgg_a0": _library("timm:repvgg_a0", deploys=True),
    "mobileone_s0": _library("timm:mobileone_s0", deploys=True),
    "repvit_m0_9": _library("timm:repvit_m0_9", deploys=True),
    "fastvit_t8": _library("timm:fastvit_t8", deploys=True),
    "convnext_atto": _library("timm:convnext_atto"),
    "vit_tiny_patch16_224": _library("timm:vit_tiny_patch16_224"),
    "swin_tiny_patch4_window7_224": _library("timm:swin_tiny_patch4_window7_224"),
    "mixer_s32_224": _library("timm:mixer_s32_224"),
    "cspdarknet53_mish": _own("cspdarknet53", "mish"),
    "convnext_atto_hand_gelu": _own("convnext_atto", "gelu"),
    "mobilenetv2_100_hand_swish": _own("mobilenetv2_100", "swish"),
}


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    budget_s: float
    rounds: int
    processes: int
    batch_sizes: tuple[int, ...]
    backends: tuple[str, ...]
    int8: bool


def measure(
    name: str, entry: Entry, settings: Settings, folder: Path, listener: ProgressListener
) -> Stored:
    """Export, compare and profile one network in `folder`; raise BenchError where that fails."""
    paths = Paths(folder / "runs", folder / "cache")
    data = _describe_images(folder, settings.int8)
    network = _add(
        name, entry.source, entry.args, settings.backends, data, settings, paths, listener
    )
    for asked in ("export.target=cpu", "export.target=host"):
        export(network, (asked,), paths, listener)
    if settings.int8:
        export(network, ("export.quantize=int8", "export.max_drop_points=100"), paths, listener)
    runs, failed = [network], None
    if entry.deploy is not None:
        source, args = f"{CODE}:deploy", {"arch": entry.deploy}
        try:
            made = _add(f"{name}_deploy", source, args, ["ort"], data, settings, paths, listener)
            prepared = prepare_export(made, (), paths, listener)
            export_with(prepared, plain_options(prepared.options), listener)
            runs.append(made)
        except BenchError as error:
            failed = str(error)
    records = compare_runs(runs, (), paths, listener, fresh=True)
    return Stored(
        name=name,
        runs=tuple(thin(record) for record in records),
        deploy_failed=failed,
        operators=_profile(network, paths, listener),
    )


def _describe_images(folder: Path, int8: bool) -> dict[str, Any]:
    """Return the section data: random pixels; with labels, in a file, where int8 needs them."""
    common = {
        "image_size": SIDE,
        "resize": {"shorter_side": SIDE},
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    if not int8:
        return {**common, "name": "noise", "test_subset": IMAGES}
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (INT8_IMAGES, SIDE, SIDE, 3), np.uint8)
    path = folder / "images.npz"
    np.savez(path, allow_pickle=False, images=pixels, labels=np.arange(INT8_IMAGES) % 2)
    return {**common, "name": "images", "path": str(path), "calibration_share": 0.8}


def _add(
    name: str,
    source: str,
    args: dict[str, Any],
    backends: Sequence[str],
    data: dict[str, Any],
    settings: Settings,
    paths: Paths,
    listener: ProgressListener,
) -> RunDirectory:
    config = {
        "model": {"from": source, "args": args, "weights": "none"},
        "data": data,
        "export": {"images": 8},
        "compare": {
            "backends": list(backends),
            "devices": ["cpu"],
            "reference": "ort/plain",
            "batch_sizes": list(settings.batch_sizes),
            "budget_s": settings.budget_s,
            "rounds": settings.rounds,
            "processes": settings.processes,
            "calls": 2,
            "block_s": 0.1,
            "arithmetic": False,
            "self_checks": False,
        },
    }
    return add(Loaded(name, from_dict(config, (), name)), paths, listener)


def _profile(run: RunDirectory, paths: Paths, listener: ProgressListener) -> tuple[Operators, ...]:
    """Return the time of each type of operator in onnxruntime, one image at a time."""
    asked = ("compare.backends=[ort]", "compare.batch_sizes=[1]")
    found = profile_run(run, asked, paths, listener)
    ours = {a.variant: _custom_operators(run.path / a.path) for a in run.artifacts()}
    profiles = []
    for one in found.profiles:
        seconds: dict[str, float] = {}
        for operator in one.operators:
            mark = "*" if operator.operator in ours[one.variant] else ""
            key = f"{operator.operator}{mark}"
            seconds[key] = seconds.get(key, 0.0) + operator.time_s
        profiles.append(Operators(one.variant, one.status, one.reason, seconds))
    return tuple(profiles)


def _custom_operators(path: Path) -> set[str]:
    model = onnx.load(path, load_external_data=False)
    return {node.op_type for node in model.graph.node if node.domain == DOMAIN}


def thin(record: Run) -> Run:
    """Return the record with each block as its median, without paths of this machine."""
    rows = []
    for row in record.measurements:
        timings = [
            t.model_copy(update={"blocks": tuple(map(_median, t.blocks))}) for t in row.timings
        ]
        rows.append(row.model_copy(update={"timings": tuple(timings), "libraries": None}))
    checkpoint = record.checkpoint
    nowhere = {"path": None, "classes": ()}
    data, added = (one.model_copy(update=nowhere) for one in (record.data, checkpoint.data))
    unused = {"classes": (), "class_ids": (), "config": {}, "environment": {}, "source": None}
    small = checkpoint.model_copy(update={**unused, "data": added})
    changed = {"measurements": tuple(rows), "checkpoint": small, "data": data, "config": {}}
    return record.model_copy(update={**changed, "labels": None, "command": ()})


def _median(block: Block) -> Block:
    return replace(block, samples_s=(round(float(np.median(block.samples_s)), 8),), clocks=None)


@click.command()
@click.option("--networks", help="Names with commas; all by default.")
@click.option("--budget", default=150.0, show_default=True, help="Seconds of rounds a network.")
@click.option("--rounds", default=12, show_default=True, help="Clean rounds wanted.")
@click.option("--processes", default=3, show_default=True, help="Processes of each contender.")
@click.option("--batch-sizes", default="1,8", show_default=True)
@click.option("--backends", default=",".join(BACKENDS), show_default=True)
@click.option("--int8", is_flag=True, help="Also a file in int8; takes a minute or two a network.")
@click.option("--fresh", is_flag=True, help="Measure again what was measured before.")
@click.option("--only-report", is_flag=True, help="Measure nothing.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of results.")
def main(
    networks: str | None,
    budget: float,
    rounds: int,
    processes: int,
    batch_sizes: str,
    backends: str,
    int8: bool,
    fresh: bool,
    only_report: bool,
    out: Path,
) -> None:
    """Measure classifiers of timm and torchvision; write a file each, and zoo.md."""
    names = networks.split(",") if networks else list(NETWORKS)
    unknown = [name for name in names if name not in NETWORKS]
    if unknown:
        raise click.UsageError(f"unknown: {', '.join(unknown)} (known: {', '.join(NETWORKS)})")
    sizes = tuple(int(size) for size in batch_sizes.split(","))
    settings = Settings(budget, rounds, processes, sizes, tuple(backends.split(",")), int8)
    folder = out / "zoo"
    for name in [] if only_report else names:
        path = folder / f"{name}.json"
        if path.is_file() and not fresh:
            click.echo(f"{name}: measured before ({path})", err=True)
            continue
        began = time.monotonic()
        try:
            with progress() as listener, temporary_folder() as temporary:
                stored = measure(name, NETWORKS[name], settings, temporary, listener)
        except BenchError as error:
            click.echo(f"{name}: {error}", err=True)
            stored = Stored(name=name, failed=str(error))
        folder.mkdir(parents=True, exist_ok=True)
        # where this repository lies on the machine is of no interest to others
        write_text(path, stored.to_json().replace(f"{CODE.parents[1]}/", ""))
        click.echo(f"{name}: {time.monotonic() - began:.0f} s", err=True)
    found = [
        read_stored(folder / f"{name}.json")
        for name in NETWORKS
        if (folder / f"{name}.json").is_file()
    ]
    text = to_report(found)
    sys.stdout.write(text)
    write_text(out / "zoo.md", text)


if __name__ == "__main__":
    main()
