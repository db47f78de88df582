"""Two versions of onnxruntime, a year apart, on the same files.

    python -m benchmarks.versions --out benchmarks/results
    python -m benchmarks.versions --versions 1.15.1,1.31.1 --out FOLDER

The newest of 1 November 2025 and of 1 November 2026, by default. Three networks with random
weights, random pixels of 224x224, the CPU. Both versions take turns in the rounds of `bench
compare`, each in processes and an environment of its own. Leave the machine alone meanwhile.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from tabulate import tabulate

from benchmarks.zoo import IMAGES, NETWORKS, SIDE, thin
from foldbench.bench import units
from foldbench.bench.analysis.clean import block_medians
from foldbench.bench.analysis.estimates import median_or_none
from foldbench.bench.analysis.speedups import (
    completed,
    find_reference,
    measure_speedup,
    timing_at,
)
from foldbench.bench.cli.console import progress
from foldbench.bench.config.files import Loaded, from_dict
from foldbench.bench.errors import BenchError
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Measurement, Run
from foldbench.bench.stages.add import add
from foldbench.bench.stages.compare import compare_runs
from foldbench.bench.stages.export import export
from foldbench.bench.store.directory import Paths
from foldbench.bench.store.files import user_cache, write_text
from foldbench.bench.store.temporary import temporary_folder

MEASURED = ("resnet18", "mobilenetv3_small_100", "vit_tiny_patch16_224")
VERSIONS = ("1.23.2", "1.31.1")
SIZES = (1, 8)
INTRODUCTION = """# Two versions of ONNX Runtime

The same files in onnxruntime {old} and {new}, on the CPU: random weights, random pixels of 224x224,
float32. The speed-up is of {new} over {old}, with the 95 % interval between processes; n.s.: no
significant difference.

"""


def measure(
    name: str, versions: Sequence[str], budget_s: float, folder: Path, listener: ProgressListener
) -> Run:
    """Export one network in `folder` and compare the versions; raise BenchError if that fails."""
    old, new = (f"ort@{version}" for version in versions)
    entry = NETWORKS[name]
    config = {
        "model": {"from": entry.source, "args": entry.args, "weights": "none"},
        "data": {
            **{"name": "noise", "test_subset": IMAGES, "image_size": SIDE},
            **{"mean": [0.5] * 3, "std": [0.5] * 3},
        },
        "export": {"images": 8, "baselines": False},
        "compare": {
            "backends": [old, new],
            "devices": ["cpu"],
            "reference": f"{old}/folded",
            "batch_sizes": list(SIZES),
            "budget_s": budget_s,
            "arithmetic": False,
        },
    }
    paths = Paths(folder / "runs", user_cache())
    run = add(Loaded(name, from_dict(config, (), name)), paths, listener)
    export(run, ("export.target=cpu",), paths, listener)
    (record,) = compare_runs([run], (), paths, listener, fresh=True)
    failed = [f"{m.contender}: {m.reason}" for m in record.measurements if m.status == "failed"]
    if failed:
        raise BenchError(f"{name}: {'; '.join(failed)}")
    return thin(record)


def to_report(records: Sequence[Run], versions: Sequence[str]) -> str:
    """Return the table as Markdown, with its conditions."""
    old, new = versions
    heads = ("network", "batch", f"{old} ms", f"{new} ms", "speed-up", "control")
    rows = [_row(record, size) for record in records for size in SIZES]
    table = tabulate(rows, heads, tablefmt="github", disable_numparse=True)
    cpu, cores = (records[0].environment.get(key) for key in ("cpu", "cores_usable"))
    return (
        INTRODUCTION.format(old=old, new=new)
        + f"{table}\n\ncontrol: by how much {old} differed from itself, %. {cpu}, {cores} usable "
        "cores.\n"
    )


def _row(record: Run, size: int) -> list[str]:
    newer = next(m for m in completed(record) if find_reference(record, m) not in (None, m))
    older = find_reference(record, newer)
    speedup = measure_speedup(record, newer, size)
    cells = [record.checkpoint.config_name, str(size), _median(older, size), _median(newer, size)]
    if speedup is None or speedup.ratio is None:
        return [*cells, "too few undisturbed rounds", ""]
    ratio = speedup.ratio
    point, interval = units.estimate(ratio.point, ratio.low, ratio.high)
    called = "" if speedup.verdict in ("faster", "slower") else ", n.s."
    noise = speedup.noise_floor
    return [*cells, f"{point} ({interval}{called})", "" if noise is None else units.percent(noise)]


def _median(row: Measurement | None, size: int) -> str:
    timing = timing_at(row, size) if row else None
    return units.milliseconds(median_or_none(block_medians(timing)) if timing else None)


@click.command(help=__doc__)
@click.option("--versions", default=",".join(VERSIONS), show_default=True, help="Old,new.")
@click.option("--networks", default=",".join(MEASURED), show_default=True)
@click.option("--budget", default=60.0, show_default=True, help="Seconds of rounds a network.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of results.")
def main(versions: str, networks: str, budget: float, out: Path) -> None:
    """Measure, print and write versions.json and versions.md."""
    compared, names = versions.split(","), networks.split(",")
    unknown = [name for name in names if name not in NETWORKS]
    if len(compared) != 2 or unknown:
        raise click.UsageError(
            f"unknown: {', '.join(unknown)} (known: {', '.join(NETWORKS)})"
            if unknown
            else "give two versions: old,new"
        )
    records = []
    for name in names:
        try:
            with progress() as listener, temporary_folder() as folder:
                records.append(measure(name, compared, budget, folder, listener))
        except BenchError as error:
            raise click.ClickException(str(error)) from error
    text = to_report(records, compared)
    sys.stdout.write(text)
    stored = [record.model_dump(mode="json", exclude_defaults=True) for record in records]
    write_text(out / "versions.json", json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
    write_text(out / "versions.md", text)


if __name__ == "__main__":
    main()
