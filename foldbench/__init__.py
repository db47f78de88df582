"""foldbench: fold, export and measure PyTorch image classifiers.

The one name that an installation claims. In the repository, `bench`, `configs`, `exporters`,
`models` and `reports` are top-level folders; links beside this file make them
`foldbench.bench` and so on, for Python, mypy and editors alike. The wheel holds the folders
themselves.
"""

from pathlib import Path

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
if not (_HERE / "bench").is_dir():  # a checkout that could not make links, as on Windows
    __path__.append(str(_HERE.parent))
