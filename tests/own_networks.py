"""Ten classifiers of public design in files of their own, and weights as people have them.

The files in ``networks/`` need torch alone and are used from outside the repository, by path.
"""

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

FOLDER = Path(__file__).with_name("networks")
Write = Callable[[nn.Module, Path], Any]


@dataclass(frozen=True)
class OwnNetwork:
    """A network in a file, and how its weights are written."""

    file: str
    attribute: str
    write: Write
    """Writes the network's weights to a path."""
    weights: str
    """What that file is called."""
    classes: int = 4
    shape: tuple[int, int, int] = (3, 16, 16)
    options: tuple[str, ...] = ()
    """Of the command line, besides the classes, the input and the weights."""
    arguments: tuple[tuple[str, Any], ...] = ()
    """Of the attribute."""

    @property
    def is_graph(self) -> bool:
        """Whether it is given as an .onnx file."""
        return self.weights.endswith(".onnx")

    def place(self, folder: Path) -> tuple[str, ...]:
        """Copy the code to `folder`, write weights beside it; return what the commands take.

        That is the network, and the options for its weights, its classes and its input.
        """
        shutil.copy(FOLDER / self.file, folder)
        self.write(self.filled(), folder / self.weights)
        if self.is_graph:
            (folder / self.file).unlink()
            return (self.weights,)
        shape = "x".join(map(str, self.shape))
        return (
            f"{self.file}:{self.attribute}", "--weights", self.weights,
            "--classes", str(self.classes), "--input", shape, *self.options,
        )  # fmt: skip

    def filled(self) -> nn.Module:
        """Return the network with random weights and statistics that matter, in eval mode."""
        torch.manual_seed(0)
        network: nn.Module = getattr(load_file(self.file), self.attribute)(**dict(self.arguments))
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.running_mean, std=0.1)
                nn.init.uniform_(part.running_var, 0.5, 2)
                nn.init.uniform_(part.weight, 0.5, 2)
                nn.init.normal_(part.bias, std=0.1)
        return self._spread(network.eval())

    def images(self, count: int) -> torch.Tensor:
        """Return network inputs (N, C, H, W) float32, as different as photos are."""
        generator = torch.Generator().manual_seed(0)
        tints = torch.randn(count, self.shape[0], 1, 1, generator=generator)
        return torch.randn(count, *self.shape, generator=generator) + 3 * tints

    def answer(self, images: torch.Tensor) -> torch.Tensor:
        """Return the classes that the network itself gives, (N,) int64."""
        return logits_of(self.filled(), images).argmax(1)

    def _spread(self, network: nn.Module) -> nn.Module:
        """Have each class be as likely as the others, where the last layer has a bias."""
        bias = list(network.parameters())[-1]
        if bias.shape == (self.classes,):
            bias.data -= logits_of(network, self.images(32)).mean(0)
        return network


@torch.no_grad()
def logits_of(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the logits, the first of several outputs."""
    output = network(images)
    logits: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return logits


def load_file(name: str) -> ModuleType:
    """Return the module in one of the files."""
    spec = importlib.util.spec_from_file_location(f"own_{Path(name).stem}", FOLDER / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _saved(wrap: Callable[[dict[str, Any]], Any]) -> Write:
    return lambda network, path: torch.save(wrap(dict(network.state_dict())), path)


def _prefixed(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in state.items()}


def _narrow(state: dict[str, Any]) -> dict[str, Any]:
    return {n: v.bfloat16() if v.is_floating_point() else v for n, v in state.items()}


def _beside_an_optimizer(network: nn.Module, path: Path) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0)
    sum(parameter.sum() for parameter in network.parameters()).backward()
    optimizer.step()
    content = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 7}
    torch.save(content, path)


def _averaged(network: nn.Module, path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(network)
    raw = {name: value + 1 for name, value in network.state_dict().items()}
    torch.save({"model": raw, "ema": averaged.state_dict()}, path)


def _without_counters(network: nn.Module, path: Path) -> None:
    state = {n: v for n, v in network.state_dict().items() if "num_batches" not in n}
    save_file(state, path)


OWN_NETWORKS: dict[str, OwnNetwork] = {
    "repvgg": OwnNetwork(
        "repvgg.py", "RepVGG", _saved(lambda s: {"state_dict": _prefixed(s, "module.")}), "w.pth"
    ),
    "repvgg deployed": OwnNetwork(
        "repvgg.py",
        "RepVGG",
        lambda network, path: torch.save(network.switch_to_deploy().state_dict(), path),
        "w.pt",
        options=("--args", "{deploy: true}"),
    ),
    "se-resnet": OwnNetwork("se_resnet.py", "se_resnet", _without_counters, "w.safetensors"),
    "ghostnet": OwnNetwork(
        "ghost_net.py", "GhostNet", _saved(_narrow), "w.bin", arguments=(("n_classes", 4),)
    ),
    "vit": OwnNetwork("vit.py", "ViT", _beside_an_optimizer, "w.pt"),
    "convmixer": OwnNetwork(
        "conv_mixer.py", "ConvMixer", _saved(lambda s: _prefixed(s, "_orig_mod.")), "w.pt"
    ),
    "capsules": OwnNetwork("capsules.py", "Capsules", _saved(lambda s: {"net": s}), "w.pt"),
    "lenet": OwnNetwork(
        "lenet.py", "LeNet", _averaged, "w.pt", classes=10, shape=(1, 28, 28),
        options=("--weights-key", "ema"),
    ),
    "own mish": OwnNetwork(
        "own_mish.py", "MishNet", _saved(lambda s: {"params": _prefixed(s, "net.")}), "w.pt"
    ),
    "lightning": OwnNetwork(
        "lightning_style.py", "AllCNN",
        lambda network, path: torch.save(_trained_around(network), path), "last.ckpt",
    ),
    "fixed batch": OwnNetwork(
        "fixed_batch.py", "Residual",
        lambda network, path: load_file("fixed_batch.py").write_onnx(network, path), "net.onnx",
    ),
}  # fmt: skip
"""By name; RepVGG in both of its forms."""


def _trained_around(network: nn.Module) -> dict[str, Any]:
    training = load_file("lightning_style.py").Training(num_classes=4)
    training.model.load_state_dict(network.state_dict())
    found: dict[str, Any] = training.checkpoint()
    return found
