"""A network that was trained elsewhere: built, filled with its weights, tried out and written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foldbench.bench.errors import CheckpointError
from foldbench.bench.records import Preprocessing, Source, WeightsOrigin
from foldbench.bench.store.files import file_sha256, is_weights_file
from foldbench.bench.user_code import UserCode, load_user_code
from foldbench.bench.user_code.source import SourceText, parse_source
from foldbench.models.building.checkpoint import save_weights
from foldbench.models.building.foreign_weights import fit_classes, fit_weights, load_state
from foldbench.models.building.network import build_model
from foldbench.models.building.outputs import describe_output, find_logits
from foldbench.models.building.probe import save_probe
from foldbench.models.building.running import run_network
from foldbench.models.building.sources import LogitsOf, network_of, stated_classes
from foldbench.models.building.trial import WEIGHTS, try_eval, try_saving
from foldbench.models.zoo.networks import class_ids_of, classes_of, fill
from foldbench.models.zoo.networks import preprocessing_of as zoo_preprocessing_of

_IMAGES = 3
_HAVE_WEIGHTS = ("program", "memory")


@dataclass(frozen=True)
class Wanted:
    """Which network, with which weights."""

    text: str
    """As `bench.config.source` reads it, paths absolute."""
    args: Mapping[str, Any]
    input_shape: tuple[int, int, int]
    weights: str | None = None
    """A file, a library's name, default, or none."""
    weights_key: str | None = None
    strip_prefix: str | None = None
    classes: int | None = None
    """None where the network or its weights say how many."""
    output: str | None = None
    download: bool = False
    seed: int = 0
    """Of weights that stay random."""


@dataclass(frozen=True)
class Made:
    """What came of it."""

    source: Source
    parameter_count: int
    classes: int
    class_names: tuple[str, ...] | None
    """As the library knows them."""
    random: bool
    """Whether the weights stayed random."""
    class_ids: tuple[str, ...] = ()
    """What else they are called, as the library knows it."""
    fixed_batch: int | None = None
    """The only batch size that it runs at; None where any does."""
    batch_dependent: bool = False
    """Whether its answer for an image depends on the other images of the batch."""
    notes: tuple[str, ...] = field(default=())
    """What is worth knowing, one sentence each."""


def library_preprocessing(text: str, weights: str | None) -> Preprocessing | None:
    """Return how images are prepared for a library's network, None for any other."""
    source = parse_source(text)
    if source.form not in ("torchvision", "timm"):
        return None
    return zoo_preprocessing_of(network_of(source), weights or "default")


def make(wanted: Wanted, folder: Path) -> Made:
    """Build the network, fill it and try it out; write its weights and its probe into `folder`.

    Random numbers are left as they were. Raises BenchError for a network or weights that cannot be
    used.
    """
    source = parse_source(wanted.text)
    with torch.random.fork_rng([]):
        torch.manual_seed(wanted.seed)
        classes = _count_classes(source, wanted)
        network = build_model(wanted.text, wanted.args, classes, wanted.input_shape, wanted.output)
        origin, notes = fill_network(network, wanted)
        network.eval()
        images = torch.rand(_IMAGES, *wanted.input_shape) * 2 - 1
        network, output, chosen = _with_logits(network, images, wanted)
        found = try_eval(network, images, wanted.classes, source.name)
        save_weights(network, folder / WEIGHTS)
        try_saving(network, images, (wanted.text, wanted.args, classes, wanted.input_shape, output))
        save_probe(network, images[:2], folder)
    names = None
    if source.form in ("torchvision", "timm"):
        known = classes_of(network_of(source), network)
        names = known if len(known) == found.classes else None
    return Made(
        source=describe_source(wanted.text, origin, output),
        parameter_count=sum(p.numel() for p in network.parameters()),
        classes=found.classes,
        class_names=names,
        random=origin is None and source.form not in _HAVE_WEIGHTS,
        class_ids=class_ids_of(names) if names else (),
        batch_dependent=found.batch_dependent,
        notes=(*notes, *chosen, *found.notes),
    )


def describe_source(
    text: str, weights: WeightsOrigin | None = None, output: str | None = None
) -> Source:
    """Return the record of where a network that has been built comes from."""
    source = parse_source(text)
    code = load_user_code(text) if source.form == "code" else _file_alone(source)
    return Source(
        form=source.form,
        name=source.name,
        files=code.files,
        revision=code.revision,
        weights=weights,
        output=output,
    )


def _file_alone(source: SourceText) -> UserCode:
    files = {source.location: file_sha256(Path(source.location))} if source.is_file else {}
    return UserCode(attribute=None, files=files, revision=None)


def _count_classes(source: SourceText, wanted: Wanted) -> int | None:
    """Return the number of classes to build a network with; None where it says so itself."""
    if wanted.classes is not None or source.form not in ("torchvision", "timm"):
        return wanted.classes
    if wanted.weights is None or not is_weights_file(wanted.weights):
        return None

    def build(classes: int) -> nn.Module:
        return build_model(wanted.text, wanted.args, classes, wanted.input_shape)

    path = Path(wanted.weights).expanduser()
    known = len(
        classes_of(
            network_of(source), build_model(wanted.text, wanted.args, None, wanted.input_shape)
        )
    )
    return fit_classes(build, path, wanted.weights_key, wanted.strip_prefix, default=known)


def fill_network(
    network: nn.Module, wanted: Wanted
) -> tuple[WeightsOrigin | None, tuple[str, ...]]:
    """Load the weights; return where they are from, and what is worth knowing."""
    source = parse_source(wanted.text)
    inner = network.network if isinstance(network, LogitsOf) else network
    library = source.form in ("torchvision", "timm")
    weights = wanted.weights or ("default" if library else "none")
    if weights == "none":
        if source.form in _HAVE_WEIGHTS:
            return None, ()
        return None, (
            f"{source.name} has random weights: its latency means something, its answers do not "
            "(--weights gives it trained ones)",
        )
    if library and not is_weights_file(weights):
        filled = fill(inner, network_of(source), weights, wanted.download)
        return WeightsOrigin(title=filled.title, sha256=filled.sha256), ()
    path = Path(weights).expanduser()
    if source.form == "program":
        raise CheckpointError(f"{source.location}: holds its own weights: leave out {path}")
    fitted = fit_weights(inner, path, wanted.weights_key, wanted.strip_prefix)
    load_state(inner, fitted.state, strict=False)
    origin = WeightsOrigin(
        title=path.name,
        sha256=fitted.sha256,
        key=fitted.key,
        stripped=fitted.stripped,
        widened_from=fitted.widened_from,
    )
    return origin, fitted.notes


def _with_logits(
    network: nn.Module, images: Tensor, wanted: Wanted
) -> tuple[nn.Module, str | None, tuple[str, ...]]:
    """Return the network with its logits as the one output, which one that is, and a note."""
    if wanted.output is not None:
        return network, wanted.output, ()
    with torch.no_grad():
        output = run_network(network, images, parse_source(wanted.text).name)
    classes = wanted.classes or stated_classes(wanted.text, wanted.args)
    found = find_logits(output, len(images), classes)
    if not found:
        return network, None, ()
    note = (
        f"{parse_source(wanted.text).name} returns {describe_output(output)}: its logits are "
        f"taken to be output {found} (--output chooses another)"
    )
    return LogitsOf(network, found).eval(), found, (note,)
