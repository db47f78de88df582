"""foldbench: fold, export and measure PyTorch image classifiers.

The one name that an installation claims. In the repository, `bench`, `configs`, `exporters`,
`models` and `reports` are top-level folders; links beside this file make them
`foldbench.bench` and so on, for Python, mypy and editors alike. The wheel holds the folders
themselves.
"""

import os
from pathlib import Path

# For this process and all that it starts, unless the user says otherwise: no library reports what
# is done with it, and no Python imports from the folder that it happens to be started in.
for _name in (
    *("DO_NOT_TRACK", "ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"),
    *("MLFLOW_DISABLE_TELEMETRY", "PYTHONSAFEPATH"),
):
    os.environ.setdefault(_name, "1")

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
if not (_HERE / "bench").is_dir():  # a checkout that could not make links, as on Windows
    __path__.append(str(_HERE.parent))
