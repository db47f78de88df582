"""``python -m foldbench`` is ``bench``."""

import sys
from pathlib import Path

import foldbench


def leave_current_folder() -> None:
    """Take the current folder, which ``-m`` puts first, off the path, unless foldbench is in it."""
    first, home = Path(sys.path[0]).resolve(), Path(foldbench.__file__).resolve().parents[1]
    if not sys.flags.safe_path and first != home:
        del sys.path[0]


if __name__ == "__main__":
    leave_current_folder()
    try:
        from foldbench.bench.cli import main
    except ImportError as error:
        sys.exit(f"Error: foldbench is not whole ({error}): install it again")
    main()
