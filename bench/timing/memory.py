"""Memory of this process, as the kernel has it, and what it grows by from call to call.

Linux alone: elsewhere every figure is None. Sources: proc(5), `smaps_rollup`, `status` and
`clear_refs`.
"""

from collections.abc import Callable
from pathlib import Path

_SELF = Path("/proc/self")
SEGMENTS = 20
"""Readings that the calls are divided by."""


def read_status_bytes(field: str, folder: Path = _SELF) -> int | None:
    """Return a field of the status, such as VmRSS, RssAnon or VmHWM; None where unknown."""
    return _read_bytes(folder / "status", field)


def read_pss_bytes(folder: Path = _SELF) -> int | None:
    """Return the proportional set: pages that n processes share count for 1/n; None if unknown."""
    return _read_bytes(folder / "smaps_rollup", "Pss")


def _read_bytes(path: Path, field: str) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    found = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return next((int(kibibytes) * 1024 for kibibytes in found), None)


def reset_peak(folder: Path = _SELF) -> bool:
    """Have VmHWM begin anew from the present resident set; return whether the kernel did."""
    try:
        (folder / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def held_after_calls(
    call: Callable[[], object],
    calls: int,
    limit_s: float,
    clock: Callable[[], float],
    read: Callable[[], int | None] = lambda: read_status_bytes("RssAnon"),
) -> tuple[int, tuple[int, ...]]:
    """Return calls between two readings, and anonymous memory before and after each, bytes.

    SEGMENTS segments of equally many calls; fewer where `limit_s` seconds are over. No readings
    where the system does not tell.
    """
    each, started = max(1, calls // SEGMENTS), clock()
    first = read()
    held = [] if first is None else [first]
    while held and len(held) <= SEGMENTS and clock() - started < limit_s:
        for _ in range(each):
            call()
        now = read()
        if now is not None:
            held.append(now)
    return each, tuple(held)
