"""``python -m foldbench`` is ``bench``."""

from foldbench.bench.cli import main

if __name__ == "__main__":
    main()
