"""foldbench: fold, export and measure PyTorch image classifiers.

`compare`, `export`, `fold` and `optimize` are the Python interface (docs/python.md); `bench` is the
command.

The one name that an installation claims. In the repository, `bench`, `configs`, `exporters`,
`models` and `reports` are top-level folders; links beside this file make them
`foldbench.bench` and so on, for Python, mypy and editors alike. The wheel holds the folders
themselves.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foldbench.bench.api.comparing import compare as compare
    from foldbench.bench.api.comparison import Comparison as Comparison
    from foldbench.bench.api.exporting import Exported as Exported
    from foldbench.bench.api.exporting import export as export
    from foldbench.bench.api.folding import fold as fold
    from foldbench.bench.api.optimizing import optimize as optimize
    from foldbench.bench.errors import BenchError as BenchError

__version__ = "0.2.0"

_HERE = Path(__file__).resolve().parent
if not (_HERE / "bench").is_dir():  # a checkout that could not make links, as on Windows
    __path__.append(str(_HERE.parent))

_PUBLIC = {
    "BenchError": "foldbench.bench.errors",
    "Comparison": "foldbench.bench.api.comparison",
    "Exported": "foldbench.bench.api.exporting",
    "compare": "foldbench.bench.api.comparing",
    "export": "foldbench.bench.api.exporting",
    "fold": "foldbench.bench.api.folding",
    "optimize": "foldbench.bench.api.optimizing",
}
"""Where each public name is; it is imported when it is asked for, so that this import is quick."""


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'foldbench' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
