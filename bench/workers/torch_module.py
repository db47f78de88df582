"""The trained module of a contender that runs in torch: the one part of a worker that is heavy."""

import torch

from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.workers.protocol import Job
from foldbench.exporters.folding.fold import fold_linear
from foldbench.models.building.checkpoint import load_checkpoint


def build_module(job: Job) -> torch.nn.Module:
    """Return the trained torch module of the job, in eval mode, folded where it asks for that."""
    checkpoint = RunDirectory(job.folder).checkpoint()
    module = load_checkpoint(checkpoint, job.folder)
    if job.variant == "unfolded":
        return module
    example = torch.zeros(2, *checkpoint.preprocessing.input_shape)
    return fold_linear(module, example)[0]
