"""The system's cache of what was read from disks."""

import os
from pathlib import Path

_DROP = Path("/proc/sys/vm/drop_caches")


def drop_page_cache(path: Path = _DROP) -> str | None:
    """Put what was read from disks out of memory; return why that is not possible, None when done.

    It is the whole machine's cache: everything that runs reads from the disk again.
    """
    try:
        os.sync()
        path.write_text("1\n", encoding="ascii")
    except OSError as error:
        return (
            f"the page cache cannot be dropped ({error.strerror or error}): starts are with a warm "
            "one; as root on Linux it can"
        )
    except AttributeError:
        return "the page cache cannot be dropped on this system: starts are with a warm one"
    return None
