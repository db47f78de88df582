"""Clocks and the GPU as text, and which of them keep two runs from being compared."""

from dataclasses import replace

import pytest

from foldbench.bench.analysis.comparable import contrasts
from foldbench.bench.records import Clocks
from foldbench.reports.render import render
from foldbench.reports.sections.processors import describe_clocks, describe_gpu

GPU = {
    "name": "NVIDIA H100 80GB HBM3",
    "uuid": "GPU-1",
    "memory_bytes": 80 * 2**30,
    "mhz_max": 1980,
    "power_limit_watts": 700.0,
    "ecc": True,
    "mig": False,
    "persistence": True,
}
GPU_FACTS = {
    "gpu": "NVIDIA H100 80GB HBM3",
    "driver": "580.95.05",
    "cuda_driver": "13.0",
    "gpus": [{"name": "Quadro P400", "uuid": "GPU-0"}, GPU],
}
LIBRARIES = {
    "torch": {"cuda": "13.0", "cudnn": 92400, "tf32_matmul": False, "tf32_convolution": False},
    "thread_pools": [{"library": "libgomp", "threads": 2}],
}


def run_with(build, environment=(), clocks=(), **row):
    """A run whose only row's blocks had these clocks, in turn."""
    blocks = build.timing(1, build.steady(0.002)).blocks
    seen = [clocks[n % len(clocks)] if clocks else None for n in range(len(blocks))]
    watched = tuple(replace(block, clocks=one) for block, one in zip(blocks, seen, strict=True))
    timing = build.timing(1, build.steady(0.002), blocks=watched)
    measured = build.row("torch", "unfolded", timings=(timing,), **row)
    facts = {**build.run().environment, **dict(environment)}
    return build.run(measurements=(measured,), environment=facts)


def on_gpu(build, environment=(), libraries=LIBRARIES, clocks=()):
    device = {"requested_device": "cuda", "actual_device": "cuda:0", "libraries": libraries}
    return run_with(build, {**GPU_FACTS, **dict(environment)}, clocks, **device)


def spoiling(a, b):
    return [(c.what, c.a, c.b) for c in contrasts(a, b) if c.spoils]


def test_clocks_are_given_as_they_were_set_and_as_they_were(build) -> None:
    facts = {"governor": "performance", "boost": True, "cpu_mhz_min": 400.0, "cpu_mhz_max": 3700.0}
    clocks = (
        Clocks(cpu_mhz=(3400.0, 3650.4), cpu_throttled=0),
        Clocks(cpu_mhz=(3300.0, 3500.0), cpu_throttled=2),
    )
    governor, boost, allowed, seen, heat = describe_clocks(run_with(build, facts, clocks)).split(
        ", "
    )
    assert (governor, boost, allowed) == (
        "governor performance",
        "boost on",
        "allowed 400–3,700 MHz",
    )
    assert seen.startswith("3,300–3,650 MHz ")
    assert heat.endswith(" 5 blocks")
    assert describe_clocks(run_with(build)) == ""


def test_the_gpu_is_given_with_its_limits_libraries_and_state(build) -> None:
    clocks = (
        Clocks(gpu_mhz=(1980, 1755), gpu_celsius=(50, 71), gpu_watts=(120.0, 640.4)),
        Clocks(gpu_mhz=(1965, 1980), gpu_celsius=(60, 61), gpu_watts=(100.0, 600.0)),
    )
    assert describe_gpu(on_gpu(build, clocks=clocks)).split(", ") == [
        *("NVIDIA H100 80GB HBM3", "80.0 GiB", "driver 580.95.05", "for CUDA up to 13.0"),
        *("at most 1,980 MHz", "power limit 700 W", "ECC on", "MIG off", "persistence mode on"),
        *("CUDA 13.0", "cuDNN 92400", "TF32 off"),
        *("1,755–1,980 MHz around the blocks", "up to 71 °C", "up to 640 W"),
    ]


def test_tf32_that_only_some_rows_had_is_said_to_be_partly_on(build) -> None:
    mixed = {"torch": {"tf32_matmul": False, "tf32_convolution": True}}
    assert "TF32 partly on" in describe_gpu(on_gpu(build, libraries=mixed))


def test_the_report_says_both_where_they_are_known(build) -> None:
    text = render(on_gpu(build, {"governor": "powersave", "virtual_machine": True}), "md")
    assert "- **clocks**: governor powersave" in text
    assert "- **GPU**: NVIDIA H100" in text
    assert "Linux 6.8, virtual machine" in text
    plain = render(build.run(), "md")
    assert "**clocks**" not in plain
    assert "**GPU**" not in plain


@pytest.mark.parametrize(
    ("key", "a", "b"),
    [
        ("governor", "performance", "powersave"),
        ("boost", True, False),
        ("smt", True, False),
        ("cpu_mhz_max", 3700.0, 2600.0),
    ],
)
def test_another_clock_policy_spoils_the_latency(build, key, a, b) -> None:
    runs = [run_with(build, {key: value}) for value in (a, b)]
    assert spoiling(*runs) == [(key, str(a), str(b))]


def test_moments_of_the_machine_are_no_difference(build) -> None:
    moments = ("load_1min", "cpu_mhz_now", "memory_available_bytes", "gpus_now")
    a, b = (run_with(build, dict.fromkeys(moments, value)) for value in (1, 2))
    assert contrasts(a, b) == ()


def test_another_gpu_of_the_same_kind_is_no_other_machine(build) -> None:
    other = {"gpus": [GPU_FACTS["gpus"][0], {**GPU, "uuid": "GPU-7"}]}
    assert contrasts(on_gpu(build), on_gpu(build, other)) == ()


def test_another_power_limit_spoils_the_latency_of_what_ran_on_the_gpu(build) -> None:
    other = {"gpus": [GPU_FACTS["gpus"][0], {**GPU, "power_limit_watts": 350.0}]}
    ((what, a, b),) = spoiling(on_gpu(build), on_gpu(build, other))
    assert what == "gpus"
    assert "power_limit_watts=700.0" in a
    assert "power_limit_watts=350.0" in b
    assert spoiling(run_with(build, GPU_FACTS), run_with(build, {**GPU_FACTS, **other})) == []


@pytest.mark.parametrize(
    ("key", "value"), [("cuda", "12.8"), ("cudnn", 91000), ("tf32_convolution", True)]
)
def test_other_gpu_libraries_or_switches_spoil_it_too(build, key, value) -> None:
    other = {"torch": {**LIBRARIES["torch"], key: value}}
    a, b = on_gpu(build), on_gpu(build, libraries=other)
    assert spoiling(a, b) == [(key, str(LIBRARIES["torch"][key]), str(value))]
    cpu = [run_with(build, libraries=libraries) for libraries in (LIBRARIES, other)]
    assert spoiling(*cpu) == [], "what runs on the CPU does not ask for them"
