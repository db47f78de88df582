"""CPUs and memory from made-up system files: what is there is read, what is not stays unknown."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.bench.machine.cpu import (
    as_ranges,
    cgroup_cores,
    cgroup_memory_bytes,
    describe_cpu,
    describe_memory,
    has_bfloat16,
    read_cpu_mhz,
    read_throttle_count,
)

CPU = "sys/devices/system/cpu"


def build(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    return root


def cpuinfo(flags: str, mhz: tuple[str, ...] = ("2400.000",)) -> str:
    return "\n".join(
        f"processor\t: {n}\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9654\n"
        f"stepping\t: 1\ncpu MHz\t\t: {value}\nflags\t\t: {flags}\n"
        for n, value in enumerate(mhz)
    )


def workstation(root: Path) -> Path:
    """Two cores with two threads each; the clock is managed, boost is on."""
    files = {
        "proc/cpuinfo": cpuinfo("fpu avx2 avx512f aperfmperf"),
        f"{CPU}/smt/active": "1",
        f"{CPU}/cpufreq/boost": "1",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
        "sys/devices/system/node/node0/cpulist": "0-3",
        "sys/devices/system/node/node1/cpulist": "",
    }
    for n in range(4):
        core = f"{n % 2},{n % 2 + 2}"
        files |= {
            f"{CPU}/cpu{n}/topology/physical_package_id": "0",
            f"{CPU}/cpu{n}/cache/index2/level": "2",
            f"{CPU}/cpu{n}/cache/index2/size": "1024K",
            f"{CPU}/cpu{n}/cache/index2/shared_cpu_list": core,
            f"{CPU}/cpu{n}/cache/index3/level": "3",
            f"{CPU}/cpu{n}/cache/index3/size": "32768K",
            f"{CPU}/cpu{n}/cache/index3/shared_cpu_list": "0-3",
            f"{CPU}/cpu{n}/cpufreq/scaling_governor": "performance" if n < 3 else "powersave",
            f"{CPU}/cpu{n}/cpufreq/scaling_driver": "amd-pstate-epp",
            f"{CPU}/cpu{n}/cpufreq/scaling_cur_freq": str(3_400_000 + 100_000 * n),
            f"{CPU}/cpu{n}/cpufreq/scaling_min_freq": "400000",
            f"{CPU}/cpu{n}/cpufreq/scaling_max_freq": "3700000",
            f"{CPU}/cpu{n}/thermal_throttle/core_throttle_count": str(n),
            f"{CPU}/cpu{n}/thermal_throttle/package_throttle_count": "10",
        }
    return build(root, files)


def test_a_workstation_is_described_from_its_files(tmp_path: Path) -> None:
    found = describe_cpu(workstation(tmp_path), cpus=(0, 1, 2))
    assert found == {
        "cpu": "AMD EPYC 9654",
        "cpu_id": "cpu family 25, model 17, stepping 1",
        "cpu_features": ["avx2", "avx512f"],
        "virtual_machine": False,
        "affinity": "0-2",
        "cgroup_cores": None,
        "clocksource": "tsc",
        "numa_nodes": 2,
        "smt": True,
        "sockets": 1,
        "l2_bytes": 1024 * 1024,
        "l2_count": 2,
        "l3_bytes": 32 * 2**20,
        "l3_count": 1,
        "governor": "performance",
        "clock_driver": "amd-pstate-epp",
        "energy_preference": None,
        "cpu_mhz_min": 400.0,
        "cpu_mhz_max": 3700.0,
        "boost": True,
        "cpu_mhz_now": 3600.0,
    }


@pytest.mark.parametrize(
    ("flags", "expected"), [("fpu avx512_bf16", True), ("fpu avx512f", False), (None, None)]
)
def test_bfloat16_is_computed_by_instructions_of_its_own(
    tmp_path: Path, flags: str | None, expected: bool | None
) -> None:
    files = {} if flags is None else {"proc/cpuinfo": cpuinfo(flags)}
    assert has_bfloat16(build(tmp_path, files)) is expected


def test_unequal_governors_of_the_usable_cpus_are_both_named(tmp_path: Path) -> None:
    found = describe_cpu(workstation(tmp_path), cpus=(2, 3))
    assert found["governor"] == "performance and powersave"
    assert found["cpu_mhz_now"] == 3700.0


def test_without_any_file_nothing_is_guessed(tmp_path: Path) -> None:
    cpu, memory = describe_cpu(tmp_path, cpus=(0,)), describe_memory(tmp_path)
    assert {name for name, value in (cpu | memory).items() if value is not None} == {"affinity"}


def test_files_that_make_no_sense_are_as_good_as_none(tmp_path: Path) -> None:
    root = build(
        tmp_path,
        {
            "proc/cpuinfo": "no colon here",
            "proc/self/cgroup": "nonsense\n7:cpu",
            f"{CPU}/smt/active": "perhaps",
            f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "<unknown>",
            f"{CPU}/cpu0/cache/index2/level": "2",
            f"{CPU}/cpu0/cache/index2/size": "big",
            "sys/kernel/mm/transparent_hugepage/enabled": "always",
        },
    )
    found = describe_cpu(root, cpus=(0,)) | describe_memory(root)
    assert {name for name, value in found.items() if value is not None} == {"affinity"}


@pytest.mark.parametrize(("value", "boost"), [("0", True), ("1", False)])
def test_intels_switch_says_the_opposite(tmp_path: Path, value: str, boost: bool) -> None:
    root = build(tmp_path, {f"{CPU}/intel_pstate/no_turbo": value})
    assert describe_cpu(root, cpus=(0,))["boost"] is boost


def test_boost_that_one_cpu_lacks_is_off(tmp_path: Path) -> None:
    root = build(tmp_path, {f"{CPU}/cpu{n}/cpufreq/boost": str(n) for n in (0, 1)})
    assert describe_cpu(root, cpus=(0, 1))["boost"] is False
    assert describe_cpu(root, cpus=(1,))["boost"] is True


def test_a_virtual_machine_is_told_and_its_nominal_clock_is_not_taken_for_the_real_one(
    tmp_path: Path,
) -> None:
    root = build(tmp_path, {"proc/cpuinfo": cpuinfo("fpu hypervisor avx2")})
    found = describe_cpu(root, cpus=(0,))
    assert found["virtual_machine"] is True
    assert found["cpu_mhz_now"] is None


def test_a_clock_that_the_kernel_measures_is_read_of_the_fastest_usable_cpu(tmp_path: Path) -> None:
    root = build(tmp_path, {"proc/cpuinfo": cpuinfo("aperfmperf", ("1000.5", "2000.5", "3000.5"))})
    assert read_cpu_mhz(root, (0, 1)) == 2000.5


def test_heat_is_counted_over_the_usable_cpus(tmp_path: Path) -> None:
    root = workstation(tmp_path)
    assert read_throttle_count(root, (1, 3)) == (1 + 10) + (3 + 10)
    assert read_throttle_count(tmp_path / "elsewhere", (0,)) is None


def test_memory_is_described_from_its_files(tmp_path: Path) -> None:
    root = build(
        tmp_path,
        {
            "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
        },
    )
    assert describe_memory(root) == {
        "cgroup_memory_bytes": None,
        "transparent_huge_pages": "madvise",
    }


CGROUPS = {
    "version 2, as a container sees it": (
        {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}
        | {"sys/fs/cgroup/memory.max": "1073741824"},
        (1.5, 2**30),
    ),
    "version 2, the outer group allows less": (
        {
            "proc/self/cgroup": "0::/slice/job",
            "sys/fs/cgroup/slice/cpu.max": "100000 100000",
            "sys/fs/cgroup/slice/job/cpu.max": "max 100000",
            "sys/fs/cgroup/slice/job/memory.max": "max",
            "sys/fs/cgroup/slice/memory.max": "4096",
        },
        (1.0, 4096),
    ),
    "version 1": (
        {
            "proc/self/cgroup": "4:memory:/job\n1:cpu,cpuacct:/job\n0::/",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "250000",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "8192",
        },
        (2.5, 8192),
    ),
    "a group outside of what is seen": (
        {"proc/self/cgroup": "0::/../../other", "sys/fs/cgroup/cpu.max": "50000 100000"},
        (0.5, None),
    ),
    "no limit": (
        {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}
        | {"sys/fs/cgroup/memory.max": "max"},
        (None, None),
    ),
}


@pytest.mark.parametrize(("files", "limits"), CGROUPS.values(), ids=CGROUPS)
def test_the_tightest_limit_of_the_control_groups_counts(
    tmp_path: Path, files: dict[str, str], limits: tuple[float | None, int | None]
) -> None:
    root = build(tmp_path, files)
    assert (cgroup_cores(root), cgroup_memory_bytes(root)) == limits


@given(st.sets(st.integers(0, 64)))
def test_ranges_hold_exactly_the_numbers(numbers: set[int]) -> None:
    text = as_ranges(sorted(numbers))
    spans = [part.split("-") for part in text.split(",") if part]
    assert {n for span in spans for n in range(int(span[0]), int(span[-1]) + 1)} == numbers
    ends = [(int(span[0]), int(span[-1])) for span in spans]
    assert all(b[0] > a[1] + 1 for a, b in pairwise(ends))
