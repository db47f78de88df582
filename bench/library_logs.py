"""What libraries log in processes of foldbench's own: a line for each warning, no traceback."""

import logging

from foldbench.bench.errors import one_line


class _OneLine(logging.Formatter):
    """Writes the message and, where an exception is logged with it, its text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        parts = [record.getMessage()]
        if record.exc_info and record.exc_info[1] is not None:
            parts.append(one_line(record.exc_info[1]))
        return " ".join(f"{record.name}: {': '.join(parts)}".split())


def log_in_one_line() -> None:
    """Have what no handler takes printed so; for a process that runs nothing but foldbench."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_OneLine())
