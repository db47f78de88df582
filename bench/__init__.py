"""foldbench: fold, export and measure PyTorch image classifiers.

``models``, ``exporters``, ``reports`` and ``configs`` are generic names for top-level packages, so
importing ``bench`` first makes sure that the ones Python would import are its own neighbours.
"""

from importlib.util import find_spec
from pathlib import Path

__version__ = "0.1.0"

_SIBLINGS = ("models", "exporters", "reports", "configs")


def _refuse_intruders() -> None:
    """Raise ImportError when another package answers to one of foldbench's top-level names."""
    home = Path(__file__).resolve().parent.parent
    for name in _SIBLINGS:
        spec = find_spec(name)
        found = spec.origin if spec else None
        if found is None or Path(found).resolve().parent.parent != home:
            raise ImportError(
                f"foldbench needs its own package {name!r} in {home}, but Python finds "
                f"{found or 'none'}: remove that one from PYTHONPATH, or install foldbench "
                "in a virtual environment of its own"
            )


_refuse_intruders()
