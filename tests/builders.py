"""What several test modules build: settings, records with known times, small networks, graphs.

Imported as ``builders``: pytest's import mode importlib makes no package of the tests, and the
folder is in its pythonpath for this module and for ``fake_nvml``.
"""

import gc
import json
import shutil
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from threading import Lock

import numpy as np
import onnx
import pytest
import torch
from onnx.parser import parse_model
from torch import nn
from torch.nn import functional as F

from foldbench.bench import records
from foldbench.bench.compiler.nvrtc import nvrtc_version
from foldbench.bench.config.schema import Config
from foldbench.bench.config.training import TrainSection
from foldbench.bench.errors import BackendError
from foldbench.bench.images.image_set import Split
from foldbench.bench.machine.cpu import describe_cpu
from foldbench.bench.measure.comparison import Entry, compare_together
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Epoch, Preprocessing
from foldbench.bench.store.files import json_sha256
from foldbench.bench.timing.loop import BlockOptions
from foldbench.bench.workers.protocol import Job, Opened
from foldbench.bench.workers.server import WorkerServer
from foldbench.models.training.loop import train_model
from foldbench.models.training.resume import Resume

QUICK = (
    "model.name=bn_cnn",
    "data.image_size=16",
    "train.epochs=1",
    "train.device=cpu",
    "train.batch_size=256",
    "train.schedule={name: constant}",
    "export.images=64",
    "export.baselines=false",
    "compare.devices=[cpu]",
    "compare.batch_sizes=[1, 3]",
    "compare.rounds=2",
    "compare.calls=3",
    "compare.processes=1",
    "compare.block_s=0",
    "compare.settle_s=0",
    "compare.warm_up_s=0",
    "compare.budget_s=2",
    "compare.self_checks=false",
    "compare.loadgen.duration_s=0.1",
    "compare.arithmetic=false",
)
"""The digits config, cut down to seconds and to the CPU, whatever the machine has."""

INT8 = (
    "export.images=64",
    "export.baselines=false",
    "export.quantize=int8",
    "export.max_drop_points=50",
    "export.calibration_images=100",
    "export.judged_images=300",
)
"""Quantization, cut down to seconds, with a budget that it keeps; of the file that QUICK makes."""


def has_nvrtc() -> bool:
    try:
        return nvrtc_version() >= (11, 0)
    except BackendError:
        return False


needs_c_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler"
)
needs_nvrtc = pytest.mark.skipif(not has_nvrtc(), reason="needs NVRTC (nvidia-cuda-nvrtc)")
HAS_VNNI = bool({"avx512_vnni", "avx_vnni"} & set(describe_cpu()["cpu_features"] or ()))
"""Products of uint8 with int8 that do not saturate."""

HOMEWORK = json.loads(
    (files("foldbench.reports.rows") / "homework.json").read_text(encoding="utf-8")
)
CIFAR10 = tuple(HOMEWORK["data"]["classes"])
DIGITS = tuple("0123456789")
NO_PROVIDER = "asked for cuda; the session holds CPUExecutionProvider"
ENVIRONMENT = json.loads("""{
    "cpu": "AMD EPYC 7R13", "cores_usable": 2, "memory_bytes": 8589934592, "machine": "x86_64",
    "os": "Linux 6.8", "python": "3.11.9", "torch": "2.14.1", "onnxruntime": "1.31.1",
    "load_1min": 0.12, "foldbench": "0.1.0", "git_revision": "0123456789ab+",
    "environment_variables": {"OMP_NUM_THREADS": "2"}
}""")
PARAMETERS = {"mish_cnn": 60810, "bn_cnn": 61130, "deep_mish": 3514698}
LEARNING_RATE = {"mish_cnn": 0.005, "bn_cnn": 0.005, "deep_mish": 0.0005}


def sha(digit: str) -> str:
    return digit * 64


def make_config(model: str = "bn_cnn", data: str = "cifar10", **train) -> dict:
    recipe = {"protocol": "homework", "learning_rate": LEARNING_RATE.get(model, 0.001)}
    value = {
        "model": {"name": model},
        "data": {"name": data},
        "train": {**recipe, **train},
        "evaluate": {"protocol": "homework"},
        "compare": {"processes": 1},
    }
    return Config.model_validate_json(json.dumps(value)).model_dump(mode="json")


def make_data(**changes) -> records.DataInfo:
    return records.DataInfo(
        **{
            "name": "cifar10",
            "title": "CIFAR-10",
            "path": "/data/cifar10",
            "sha256": sha("d"),
            "train_count": 50000,
            "test_count": 10000,
            "classes": CIFAR10,
            "original": True,
            "decode_s": 12.5,
            "from_cache": False,
            **changes,
        }
    )


def make_checkpoint(model: str = "bn_cnn", epochs: int = 3, **changes) -> records.Checkpoint:
    data = changes.pop("data", make_data())
    history = tuple(
        records.Epoch(
            epoch=n,
            loss=1.6 / n,
            accuracy=0.4 + 0.05 * n,
            validation_accuracy=None,
            learning_rate=LEARNING_RATE.get(model, 0.001),
            duration_s=61.5,
            images_per_s=813.0,
        )
        for n in range(1, epochs + 1)
    )
    config = changes.get("config") or make_config(model)
    return records.Checkpoint(
        **{
            "run": f"{model}-1",
            "config_name": model,
            "config": config,
            "config_sha256": json_sha256(config),
            "model": model,
            "model_args": {},
            "parameter_count": PARAMETERS.get(model, 1000),
            "weights": "weights.safetensors",
            "sha256": sha("a"),
            "size_bytes": 248_312,
            "preprocessing": records.Preprocessing(
                input_shape=(3, 32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
            ),
            "classes": data.classes,
            "data": data,
            "seed": 0,
            "device": "cpu",
            "history": history,
            "environment": {},
            **changes,
        }
    )


def make_timing(
    batch_size: int,
    block_s,
    calls: int = 20,
    wobble: float = 0.001,
    dirty=(),
    repeats: int = 1,
    slow_calls: int = 0,
    seen=(),
    processes: int = 1,
    **changes,
) -> records.Timing:
    """One block per element of `block_s`, whose median it is; calls spread evenly around it.

    In the rounds `dirty` (counted from 0) threads waited 90 % of the time, and calls took thrice as
    long. The last `slow_calls` of each block took five times as long. `seen` are further fields of
    the blocks.
    """
    steps = [(i - (calls - 1) / 2) / calls for i in range(calls)]
    stretch = [5 if i >= calls - slow_calls else 1 for i in range(calls)]

    def block(number: int, typical_s: float) -> records.Block:
        slower = 3 if number in dirty else 1
        samples = (
            slower * more * typical_s * (1 + wobble * step)
            for step, more in zip(steps, stretch, strict=True)
        )
        watched = {
            "run_delay_ratio": 0.9 if number in dirty else 0.004,
            "cpu_ratio": 1.98,
            "pressure_ratio": 0.002,
            "steal_ratio": 0.0,
        }
        return records.Block(
            round=number,
            repeat=1 + number * repeats // len(block_s),
            process=1 + number * processes // len(block_s),
            samples_s=tuple(samples),
            **{**watched, **dict(seen)},
        )

    return records.Timing(
        **{
            "batch_size": batch_size,
            "first_call_s": 9 * block_s[0],
            "warmup_calls": 25,
            "blocks": tuple(block(number, s) for number, s in enumerate(block_s)),
            "checked_outputs": 4,
            "steady": True,
            "stopped": "rounds",
            **changes,
        }
    )


def steady(seconds: float, rounds: int = 10, period: int = 2) -> list[float]:
    """Block medians that come and go by half a percent around `seconds`, in `period` rounds."""
    return [seconds * (0.995 + 0.01 * (r % period) / (period - 1)) for r in range(rounds)]


def make_timings(one_s: float, many_s: float) -> tuple[records.Timing, records.Timing]:
    """Batches of 1 and 64 images, in step with one another and not with the reference."""
    return make_timing(1, steady(one_s, period=3)), make_timing(64, steady(many_s, period=3))


def make_accuracy(correct: int = 7601, total: int = 10000, **agreement) -> records.Accuracy:
    numbers = {
        "images": total,
        "top1_equal": total,
        "max_abs_difference": 0.0,
        "max_rel_difference": 0.0,
        **agreement,
    }
    agreed = records.Agreement(**numbers)
    return records.Accuracy(
        protocol="homework", correct=correct, total=total, top1=(), agreement=agreed
    )


def make_row(backend: str, variant: str, **changes) -> records.Measurement:
    """A contender that ran on the CPU, with an accuracy and two batch sizes."""
    device = changes.get("requested_device", "cpu")
    return records.Measurement(
        **{
            "contender": f"{backend}/{variant}/{device}",
            "backend": backend,
            "variant": variant,
            "requested_device": device,
            "actual_device": device,
            "runtime": f"{backend} 1.0",
            "status": "ok",
            "source_sha256": sha("b" if device == "cpu" else "c"),
            "size_bytes": 247_901,
            "threads": 2,
            "open_s": 0.0123,
            "import_s": 1.4,
            "first_run_s": 0.025,
            "peak_memory_bytes": 402_653_184,
            "accuracy": make_accuracy(),
            "timings": (make_timing(1, steady(0.002)), make_timing(64, steady(0.064))),
            **changes,
        }
    )


def make_self_check(role: str, one_s: float, many_s: float, **changes) -> records.Measurement:
    """The reference once more: ``again``, or with ``one_thread``."""
    name = f"torch/unfolded/cpu {'again' if role == 'again' else '1 thread'}"
    own = {"contender": name, "role": role, "accuracy": None, "size_bytes": None}
    if role == "one_thread":
        own["threads"] = 1
    return make_row(
        "torch", "unfolded", **{**own, "timings": make_timings(one_s, many_s), **changes}
    )


def make_lost_row(
    backend: str, variant: str, device: str, status: str, reason: str
) -> records.Measurement:
    return records.Measurement(
        contender=f"{backend}/{variant}/{device}",
        backend=backend,
        variant=variant,
        requested_device=device,
        status=status,
        reason=reason,
    )


def make_fold(variant: str, **changes) -> records.FoldReport:
    folded = tuple(records.Fold(layer=f"conv{n}", batchnorm=f"bn{n}") for n in (1, 2, 3))
    numbers = {
        "batchnorms_before": 3,
        "batchnorms_after": 0 if variant == "folded" else 3,
        "folded": folded if variant == "folded" else (),
        "skipped": (),
        "agreement": None,
    }
    if variant == "folded":
        numbers["agreement"] = records.Agreement(
            images=1000, top1_equal=1000, max_abs_difference=4.77e-06, max_rel_difference=3.1e-07
        )
    return records.FoldReport(**{**numbers, **changes})


def make_artifact(variant: str, **changes) -> records.Artifact:
    case = {"batch_size": 1, "torch_error": 2.5e-07, "tolerance": 1e-05, "passed": True}
    return records.Artifact(
        **{
            "checkpoint_sha256": sha("a"),
            "inputs_sha256": sha("9"),
            "variant": variant,
            "path": f"{variant}.onnx",
            "sha256": sha("b" if variant == "folded" else "e"),
            "size_bytes": 247_901,
            "opset": 20,
            "exporter": "torch.onnx.export(dynamo=True)",
            "node_count": 14 if variant == "folded" else 17,
            "batchnorm_nodes": 0 if variant == "folded" else 3,
            "folded_by": ("foldbench",) if variant == "folded" else (),
            "fold": make_fold(variant),
            "passes": (
                records.PassReport(name="strip_metadata", changed=17, detail="removed locations"),
            ),
            "parity": records.Parity(
                passed=True,
                reason=None,
                cases=(
                    records.ParityCase(inputs="images", error=3.1e-07, **case),
                    records.ParityCase(inputs="extreme", error=7.9e-07, **case),
                ),
            ),
            "export_s": 3.21,
            **changes,
        }
    )


def make_quantization(**changes) -> records.QuantizationReport:
    """One of two nodes in int8, 1 of 1,000 training images lost, which is allowed."""

    def closeness(correct_after: int) -> records.Closeness:
        return records.Closeness(
            images=1000,
            correct_before=900,
            correct_after=correct_after,
            top1_equal=990,
            kl_nats=2.5e-4,
            max_rel_difference=0.02,
        )

    node = {"op_type": "Conv", "weights": 432, "alone": closeness(900)}
    return records.QuantizationReport(
        **{
            "source_variant": "folded",
            "source_sha256": sha("b"),
            "calibration_images": 512,
            "images_sha256": sha("7"),
            "untrained_images": 0,
            "method": "percentile",
            "trials": (records.RangeTrial(method="percentile", closeness=closeness(899)),),
            "nodes": (
                records.NodeChoice(
                    node="conv_1", quantized=True, reason="within the budget", **node
                ),
                records.NodeChoice(node="conv_2", quantized=False, reason="too sensitive", **node),
            ),
            "tables": 0,
            "closeness": closeness(899),
            "max_drop_points": 0.5,
            "within_budget": True,
            "reason": None,
            **changes,
        }
    )


def make_measurements() -> tuple[records.Measurement, ...]:
    small = {"max_abs_difference": 5.72e-06, "max_rel_difference": 3.9e-07}
    return (
        make_row("torch", "unfolded", size_bytes=None),
        make_row(
            "torch",
            "folded",
            size_bytes=None,
            accuracy=make_accuracy(**small),
            timings=(
                make_timing(1, steady(0.0016, period=3)),
                make_timing(64, steady(0.055, period=3)),
            ),
        ),
        make_row(
            "ort",
            "unfolded",
            accuracy=make_accuracy(**small),
            timings=(
                make_timing(1, steady(0.001, period=3)),
                make_timing(64, steady(0.040, period=3)),
            ),
        ),
        make_row(
            "ort",
            "folded",
            accuracy=make_accuracy(7602, top1_equal=9999, **small),
            timings=(
                make_timing(1, steady(0.000934, period=3)),
                make_timing(64, steady(0.038, period=3)),
            ),
        ),
        make_lost_row(
            "ort",
            "folded",
            "cuda",
            "failed",
            "asked for cuda; the session holds CPUExecutionProvider",
        ),
        make_lost_row("torch", "unfolded", "cuda", "skipped", "torch.cuda.is_available() is False"),
        make_self_check("again", 0.002, 0.064),
        make_self_check("one_thread", 0.0034, 0.12),
    )


def make_scenario(scenario: str = "singlestream", **changes) -> records.ScenarioResult:
    """A test of 10 s that went well: 1 ms a query, or 1000 samples a second."""
    percentile = 0.9 if scenario == "singlestream" else 0.99
    settings = {
        "target_qps": 200.0,
        "target_percentile": percentile,
        "latency_bound_s": 0.01 if scenario == "server" else None,
        "samples_per_query": {"multistream": 8, "offline": 12_000}.get(scenario, 1),
        "min_duration_s": 10.0,
        "max_duration_s": 60.0,
        "min_query_count": {"singlestream": 64, "offline": 1}.get(scenario, 662),
        "loaded_samples": 10_000,
        "qsl_seed": 0,
        "sample_seed": 0,
        "schedule_seed": 0,
        **changes.pop("settings", {}),
    }
    shares = ("p50_s", "p90_s", "p95_s", "p97_s", "p99_s", "p99_9_s")
    figures = {
        "offline": {"samples_per_s": 1000.0},
        "server": {"scheduled_qps": 199.0, "completed_qps": 198.0, "over_latency_count": 3},
    }.get(scenario, {"early_stopping_s": 0.0013})
    if scenario != "offline":
        figures["latencies"] = records.Latencies(
            **{name: 0.001 * (1 + 0.1 * i) for i, name in enumerate(shares)}
        )
    return records.ScenarioResult(
        **{
            "scenario": scenario,
            "validity": "VALID",
            "reasons": (),
            "settings": records.ScenarioSettings(**settings),
            "loadgen_version": "6.0.17 @ d6147c7eb7",
            "log_sha256": sha("9"),
            "batch_sizes": {"server": (1, 2, 4), "multistream": (8,)}.get(scenario, (1,)),
            "query_count": 1 if scenario == "offline" else 2000,
            "sample_count": 12_000 if scenario == "offline" else 2000,
            "call_count": 2000,
            "checked_outputs": 40,
            "duration_s": 10.5,
            "run_delay_ratio": 0.004,
            "cpu_ratio": 1.9,
            "foreign_load_cores": 0.02,
            **figures,
            **changes,
        }
    )


def make_run(model: str = "bn_cnn", **changes) -> records.Run:
    checkpoint = changes.pop("checkpoint", None) or make_checkpoint(model)
    return records.Run(
        **{
            "name": f"{model}-1",
            "created": "2025-03-01T12:00:00Z",
            "config": make_config(model),
            "environment": ENVIRONMENT,
            "command": ("bench", "compare", f"{model}-1"),
            "checkpoint": checkpoint,
            "artifacts": (make_artifact("unfolded"), make_artifact("folded")),
            "evaluation_protocol": "homework",
            "data": checkpoint.data,
            "evaluation_sha256": sha("f"),
            "rounds": 10,
            "budget_s": 120.0,
            "foreign_load_cores": 0.03,
            "reference": "torch/unfolded/cpu",
            "measurements": make_measurements(),
            **changes,
        }
    )


QUIET = {"run_delay_ratio": 0.0, "cpu_ratio": 1.0, "pressure_ratio": 0.0, "steal_ratio": 0.0}
"""Interference of a block, in place of what really ran beside the test."""


class QuietWorker(WorkerServer):
    """A worker in the process of the test, that nothing ever disturbs."""

    _loading = Lock()  # tracing a module is for one thread at a time, and a process has one worker

    def load(self) -> tuple[float, float]:
        with self._loading:
            return super().load()

    def open(self) -> Opened:
        opened = super().open()
        gc.freeze()  # as in a process of its own: what torch consists of is never garbage
        return opened

    def time(self, batch_size: int, options: BlockOptions) -> tuple[records.Block, int]:
        block, settle_calls = super().time(batch_size, options)
        return replace(block, **QUIET, clocks=None), settle_calls


def run_in_process(patch: pytest.MonkeyPatch, worker: type[QuietWorker] = QuietWorker) -> None:
    """Have comparisons run their contenders in this process, with nothing that disturbs them.

    The networks, outputs, times and records are real; no process is started for them.
    """
    stage = "foldbench.bench.stages.compare"
    patch.setattr(f"{stage}.compare_together", partial(compare_together, start_worker=worker))
    patch.setattr(f"{stage}.measure_foreign_load", lambda: 0.0)


def compare_one(subject, contenders, evaluation, settings, threads, listener, start_worker):
    """Compare a single network."""
    entry = Entry(subject, contenders, evaluation)
    (rows,) = compare_together([entry], settings, threads, listener, start_worker)
    return rows


def make_job(images: Path, **changes) -> Job:
    """A worker's job: the first pixel of an image is its grey value, 0 to 255, of ten classes."""
    return Job(
        **{
            "backend": "ort",
            "device": "cpu",
            "threads": 1,
            "variant": "folded",
            "folder": images.parent,
            "path": images.parent / "network.onnx",
            "images": images,
            "mean": (0.0,) * 3,
            "std": (1 / 255,) * 3,
            "classes": 10,
            "batch_size": 4,
            **changes,
        }
    )


PREPROCESSING = Preprocessing(input_shape=(3, 8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)


def small_split(count: int = 40) -> Split:
    random = np.random.default_rng(0)
    labels = np.arange(count) % 2
    images = random.integers(0, 100, (count, 3, 8, 8)) + 100 * labels[:, None, None, None]
    return Split(images.astype(np.uint8), labels.astype(np.int64))


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Mish(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(144, 2),
    )


def run_training(folder: Path, model: nn.Module, **options: object) -> tuple[Epoch, ...]:
    held_out, process_group = options.pop("held_out", None), options.pop("process_group", None)
    section = TrainSection.model_validate(
        {"epochs": 3, "batch_size": 16, "learning_rate": 0.01, "device": "cpu", **options}
    )
    folder.mkdir(exist_ok=True)
    return train_model(
        model,
        small_split(),
        held_out,
        settings=section,
        preprocessing=PREPROCESSING,
        seed=0,
        resume=Resume(folder / "resume.pt", "key"),
        listener=NullListener(),
        process_group=process_group,
    )


class MishSpellings(nn.Module):
    """(N, C, H, W) -> (N, 10): Mish in every spelling, each of an input of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c, d, e = (x * factor for factor in (1, 2, 3, 4, 5))
        spelled = (
            F.mish(a)
            + b * torch.tanh(F.softplus(b))
            + F.softplus(c).tanh() * c
            + d * torch.tanh(torch.log1p(torch.exp(d)))
            + e * torch.tanh(torch.log(1 + torch.exp(e)))
        )
        return self.fc(spelled.flatten(1))


def make_graph(body: str, dtype: str = "float", opset: int = 20, more: str = "") -> onnx.ModelProto:
    """A graph of one input x (n) and one output y (n), `body` in the text form of onnx.parser."""
    return parse_model(
        f'<ir_version: 10, opset_import: ["": {opset}]> '
        f"g ({dtype}[n] x) => ({dtype}[n] y{more}) {{ {body} }}"
    )


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]
