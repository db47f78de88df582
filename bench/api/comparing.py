"""Compare networks from a Python program, as `bench compare` does."""

from collections.abc import Mapping, Sequence
from typing import Any

from foldbench.bench.api.comparison import Comparison
from foldbench.bench.api.elsewhere import Task, compare_elsewhere
from foldbench.bench.api.images import describe_images
from foldbench.bench.api.networks import Network, named
from foldbench.bench.api.notes import Notes
from foldbench.bench.progress import ProgressListener
from foldbench.bench.store.temporary import temporary_folder
from foldbench.bench.workers.isolated import run_isolated


def compare(
    network: "Network | Sequence[Network] | Mapping[str, Network]",
    images: Any,
    labels: Any = None,
    *,
    backends: Sequence[str] = ("torch", "ort"),
    batch_sizes: Sequence[int] = (1,),
    devices: Sequence[str] = ("auto",),
    budget_s: float = 60.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    model: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    listener: ProgressListener | None = None,
) -> Comparison:
    """Measure accuracy and latency of one network or several, in every backend, in the same rounds.

    `network` is a `torch.nn.Module`, also one whose class is defined in a script or a notebook, or
    what names a network: ``net.py:MyNet``, ``torchvision:resnet18``, ``model.onnx``, ``net.pt2``;
    several as a list, or by names of your own. `images` are (N, C, H, W): float32 as the network
    takes them, or uint8 pixels, which become ``(pixels / 255 - mean) / std`` with `mean` and `std`
    of each channel; arrays of numpy's or tensors. `labels` (N,) are whole numbers from 0 on;
    without them agreement is measured in place of accuracy. `budget_s` are the most seconds that
    the rounds of a device and a network may take. `model` and `settings` are keys of the
    configuration (`bench config show` lists them): those below ``model``, such as
    ``{"weights": "net.pt"}``, and any by its path, such as ``{"compare.rounds": 8}``. `listener`
    hears progress and notes.

    Everything runs in processes of its own, and what fails there in one backend is a row with its
    reason. Raises BenchError, with one line, for a network that cannot be compared at all.
    """
    with named(_several(network)) as networks, temporary_folder() as folder:
        data, model_section = describe_images(folder, images, labels, None, mean, std, class_names)
        config = {
            "model": {**model_section, **(model or {})},
            "data": data,
            "compare": {
                "backends": list(backends),
                "batch_sizes": list(batch_sizes),
                "devices": list(devices),
                "budget_s": budget_s,
            },
        }
        notes = Notes(listener)
        task = Task(networks, config, settings or {})
        records = run_isolated(compare_elsewhere, task, folder, listener=notes)
    return Comparison(records, tuple(notes.texts))


def _several(network: Any) -> Any:
    if isinstance(network, Mapping):
        return network
    return list(network) if isinstance(network, list | tuple) else [network]
