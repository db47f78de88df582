"""Passes over the ONNX graph: one file each, found by name.

A plug-in has a function ``apply(model: onnx.ModelProto) -> tuple[onnx.ModelProto, PassReport]``. It
leaves its input as it was, changes nothing when it is applied again, and keeps the outputs within
the ``ERROR_BOUND`` that it states (largest relative change of a logit; 0 means bit for bit).
"""

from typing import Protocol

from onnx import ModelProto

from bench.records import PassReport


class Pass(Protocol):
    """What a pass's module offers."""

    ERROR_BOUND: float

    def apply(self, model: ModelProto) -> tuple[ModelProto, PassReport]:
        """Return a rewritten copy of `model` and what was done."""
