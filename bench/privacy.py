"""Nothing is reported to the makers of libraries, and no code of the current folder runs."""

import os


def protect() -> None:
    """Say so to the libraries of this process and of all that it starts, unless the user did.

    The command line calls it, each process that foldbench starts, and what opens a session of a
    runtime. A program of the user's that imports foldbench keeps its environment.
    """
    for name in (
        *("DO_NOT_TRACK", "ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"),
        *("MLFLOW_DISABLE_TELEMETRY", "PYTHONSAFEPATH"),
    ):
        os.environ.setdefault(name, "1")
