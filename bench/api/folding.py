"""Fold a module of the user's program, there and then."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from foldbench.bench.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from foldbench.bench.records import FoldReport


def fold(
    module: "nn.Module",
    example: "Tensor | Any | None" = None,
    *,
    input_shape: Sequence[int] | None = None,
) -> "tuple[nn.Module, FoldReport]":
    """Return a copy of `module` in eval mode with all that is linear folded, and what was done.

    That is BatchNorm and other scales and shifts by channel, parallel branches that are summed,
    layers right after one another where that saves operations, and weights that are computed in
    every call. A BatchNorm that is in train mode while `module` itself is in eval mode is left as
    it is.
    `example` is one input batch (N, C, H, W) in the dtype and on the device of the module, of any
    N; `input_shape` (C, H, W) stands for a batch of random numbers. `module` is not changed. The
    result is a `torch.fx.GraphModule`, or a plain copy where nothing could be folded; the report
    says why.

    Raises ConfigError for what is no module, ExportError when it does not run on the example.

    >>> import torch, foldbench
    >>> module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
    >>> folded, report = foldbench.fold(module, input_shape=(3, 32, 32))
    >>> report.batchnorms_before, report.batchnorms_after
    (1, 0)
    >>> x = torch.rand(2, 3, 32, 32)
    >>> torch.allclose(folded(x), module.eval()(x), atol=1e-5)
    True
    """
    import torch

    from foldbench.bench.api.arrays import to_shape
    from foldbench.exporters.folding.fold import fold_linear
    from foldbench.exporters.folding.tracing import eval_copy

    if not isinstance(module, torch.nn.Module):
        raise ConfigError(f"found {type(module).__name__}; allowed: a torch.nn.Module")
    if (example is None) == (input_shape is None):
        raise DataError("give either example, a batch (N, C, H, W), or input_shape (C, H, W)")
    first = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(0))
    if input_shape is not None:
        generator = torch.Generator().manual_seed(0)
        example = torch.rand(2, *to_shape(input_shape), generator=generator)
    example = torch.as_tensor(example).to(first.device, first.dtype)
    with _left_alone(), torch.random.fork_rng(), torch.no_grad():
        return fold_linear(eval_copy(module) if module.training else module, example)


@contextmanager
def _left_alone() -> Iterator[None]:
    """Undo what parts of torch do when they are first used.

    sympy, which they import, adds a filter of warnings; their progress bar, which is not shown,
    would start a thread.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        tqdm = None
    interval = getattr(tqdm, "monitor_interval", 0)
    with warnings.catch_warnings():
        try:
            if tqdm is not None:
                tqdm.monitor_interval = 0
            yield
        finally:
            if tqdm is not None:
                tqdm.monitor_interval = interval
