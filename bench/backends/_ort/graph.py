"""onnxruntime replaying a CUDA graph, one for each batch size."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from foldbench.bench.backends import Closing, Floats
from foldbench.bench.errors import BackendError


@dataclass(frozen=True)
class _Graph:
    """What one batch size is recorded with: a replay reads and writes the same addresses."""

    x: Any
    y: Any
    binding: Any
    run_options: Any


class CudaGraphSession(Closing):
    """An InferenceSession whose work on the GPU is recorded once and then replayed.

    Input and output lie in the GPU's memory at addresses that stay; bind() copies into the one, and
    output() out of the other. The first call at a batch size records.
    """

    def __init__(self, session: Any, runtime: str, precision: str) -> None:
        self._session: Any = session
        self._input = session.get_inputs()[0].name
        self._output = session.get_outputs()[0]
        self._graphs: dict[tuple[int, ...], _Graph] = {}
        self._bound: _Graph | None = None
        self._done = False
        self.device = "cuda:0"
        self.runtime = runtime
        self.precision = precision
        self.threads = session.get_session_options().intra_op_num_threads

    def bind(self, x: Floats) -> None:
        """Copy (N, C, H, W) float32 to where the graph of its shape reads it."""
        if x.shape not in self._graphs:
            self._graphs[x.shape] = self._prepare(x)
        self._bound, self._done = self._graphs[x.shape], False
        self._bound.x.update_inplace(x)

    def place(self, x: Floats) -> None:
        """Do as bind(): the input lies on the device and the output stays there anyway."""
        self.bind(x)

    def step(self) -> None:
        """Replay the graph of the bound input's shape; record it first where there is none."""
        if self._bound is None:
            raise BackendError("step() before bind(): give the session an input first")
        self._session.run_with_iobinding(self._bound.binding, self._bound.run_options)
        self._done = True

    def synchronize(self) -> None:
        """Wait for the GPU."""
        if self._bound is not None:
            self._bound.binding.synchronize_outputs()

    def output(self) -> Floats:
        """Return the logits of the last step, (N, classes) float32, in host memory."""
        if self._bound is None or not self._done:
            raise BackendError("output() before step(): run the network first")
        logits: Floats = self._bound.y.numpy()
        return logits

    def _prepare(self, x: Floats) -> _Graph:
        classes = self._output.shape[-1]
        if len(self._output.shape) != 2 or not isinstance(classes, int):
            raise BackendError(
                f"a CUDA graph needs an output of known shape, not {self._output.shape}"
            )
        source = onnxruntime.OrtValue.ortvalue_from_numpy(x, "cuda", 0)
        target = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            [len(x), classes], np.float32, "cuda", 0
        )
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input, source)
        binding.bind_ortvalue_output(self._output.name, target)
        run_options = onnxruntime.RunOptions()
        # Each shape has a number of its own, from 1 on: 0 is onnxruntime's, and with a number that
        # another shape has it would replay that one's graph without a word.
        run_options.add_run_config_entry("gpu_graph_id", str(len(self._graphs) + 1))
        return _Graph(source, target, binding, run_options)

    def close(self) -> None:
        """Free what the session holds."""
        self._bound = None
        self._graphs.clear()
        self._session = None
