"""Passes over the ONNX graph: one file each, found by name.

A plug-in has a function ``apply(model: onnx.ModelProto) -> tuple[onnx.ModelProto, PassReport]``. It
leaves its input as it was, changes nothing when it is applied again, and keeps the outputs within
the ``ERROR_BOUND`` that it states. It says for which targets it is on by default; that should be
where it was measured to help or cannot hurt. An export undoes a pass that breaks parity.
"""

from typing import Protocol

from onnx import ModelProto

from foldbench.bench.records import PassReport, Target


class Pass(Protocol):
    """What a pass's module offers."""

    ERROR_BOUND: float
    """Largest error of one rewritten place, as a share of max(1, |y|); 0 means bit for bit."""
    TARGETS: tuple[Target, ...]
    """Targets of an export for which it is on by default."""
    ONLY_FOR: Target | None
    """The only target that its result is for; None where any runtime has its operators. What is for
    ``host`` is for onnxruntime, and may be for this processor and this version of it alone."""

    def apply(self, model: ModelProto) -> tuple[ModelProto, PassReport]:
        """Return a rewritten copy of `model` and what was done."""
