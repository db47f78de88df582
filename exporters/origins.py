"""What exported files and their proofs follow from besides the network: libraries and code.

Code is known by its text. An export takes seconds, so that one too many costs little, and a change
in any helper is seen without anybody having to say so.
"""

import hashlib
from importlib.metadata import version
from pathlib import Path

import onnx
import onnxruntime
import torch

import foldbench
from foldbench.bench import compiler
from foldbench.bench.analysis import logits
from foldbench.bench.host_files import custom_operators, marks

_FOLDER = Path(__file__).parent


def library_versions() -> dict[str, str]:
    """Return the version of everything that makes a file or proves it."""
    return {
        "foldbench": foldbench.__version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "onnxscript": version("onnxscript"),
        "onnx_ir": version("onnx-ir"),
    }


def sources_sha256() -> str:
    """Return the sha256 of the exporters' source files, and of what they measure and mark with."""
    files = sorted(_FOLDER.rglob("*.py"))
    files += sorted(Path(str(compiler.__file__)).parent.glob("*.py"))
    files += [Path(str(module.__file__)) for module in (logits, marks)]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def host_origins() -> dict[str, str | None]:
    """Return what a file for this machine alone follows from.

    Where foldbench's own operators cannot be had, the passes that need them were left out.
    """
    facts = marks.host_facts(onnxruntime.__version__)
    return {**facts, "operators": custom_operators.library_sha256()}
