"""The heap of this process: whether glibc's malloc returns freed memory to the system.

By default it does so for large blocks. A library without an allocator of its own, such as torch on
the CPU, then gets new pages in every call, each of which the kernel must clear: a page fault.
"""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""Parameters of mallopt(3), from malloc.h."""


def can_keep_freed_memory() -> bool:
    """Return whether this process's malloc is one that can be told to: glibc's."""
    return platform.libc_ver()[0] == "glibc"


def keep_freed_memory() -> None:
    """Let this process keep what it frees, until it ends; it must run under glibc.

    One heap for all threads, nothing of it trimmed, no block mapped apart: see mallopt(3).
    """
    set_option = ctypes.CDLL(None).mallopt
    for option, value in {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0, _ARENA_MAX: 1}.items():
        set_option(option, value)
