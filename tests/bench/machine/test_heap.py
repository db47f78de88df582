"""What is freed stays with a process that was told to keep it."""

import subprocess
import sys

import pytest

from foldbench.bench.machine.heap import can_keep_freed_memory

BLOCK = 1 << 20
CODE = f"""
import resource, sys
from foldbench.bench.machine.heap import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    held = [bytes([1]) * {BLOCK} for _ in range(4)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not can_keep_freed_memory(), reason="needs glibc")
def test_a_process_that_keeps_its_memory_gets_pages_once() -> None:
    faults = {
        told: int(subprocess.check_output([sys.executable, "-c", CODE, told]))
        for told in ("keep", "return")
    }
    once = 4 * BLOCK // 4096
    assert faults["keep"] <= 2 * once
    assert faults["return"] > 5 * once
