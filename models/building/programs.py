"""Networks that torch.export.save wrote, also ones that were exported for one batch size."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from foldbench.bench.errors import CheckpointError, one_line

_OTHER_BATCH = 3
_ROUNDING = 1e-3
"""Difference between batch sizes that is rounding, as a share of the largest number."""
_VIEWS = {"aten::view", "aten::reshape", "aten::_unsafe_view"}
_REPEATS = {"aten::expand", "aten::repeat"}
_FILLS = {
    f"aten::{new}{kind}" for new in ("", "new_") for kind in ("zeros", "ones", "full", "empty")
}
"""New tensors; a recurrent layer begins with one of (layers, batch, features)."""


class ExportedProgram(nn.Module):
    """A network that torch.export.save wrote, (N, C, H, W) float32 -> what it returns.

    What it computes is fixed: train() and eval() change nothing.
    """

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        self.train(False)

    def train(self, mode: bool = True) -> "ExportedProgram":
        """Return the network itself, which has one mode; its flags say eval."""
        for part in self.modules():
            part.training = False
        return self

    def forward(self, x: Tensor) -> Any:
        """Run the program."""
        return self.program(x)


def load_program(path: Path, input_shape: tuple[int, int, int]) -> ExportedProgram:
    """Return the network in a file of torch.export.save, which takes batches of any size.

    Raises CheckpointError for another file, for one with a pickle inside, and for a program of one
    batch size that computes something else at others.
    """
    _refuse_pickles(path)
    try:
        program = torch.export.load(path)
        batch = _fixed_batch(program)
        module = program.module(check_guards=batch is None)
    except Exception as error:  # torch raises anything for a damaged file
        raise CheckpointError(
            f"{path}: cannot be loaded as what torch.export.save writes: {one_line(error, 200)}: "
            "save it again with this version of torch"
        ) from error
    if batch is not None:
        _open_batch(path, module, program.module(), batch, input_shape)
    return ExportedProgram(module)


def input_shape_of(path: Path) -> tuple[int, int, int] | None:
    """Return the (C, H, W) that a program was exported for; None where it does not say one."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith("models/model.json"))
            found = json.loads(archive.read(name))["graph_module"]
        specs = found["signature"]["input_specs"]
        (given,) = (spec["user_input"]["arg"] for spec in specs if "user_input" in spec)
        sizes = found["graph"]["tensor_values"][given["as_tensor"]["name"]]["sizes"]
        _, channels, height, width = (size.get("as_int") for size in sizes)
    except (zipfile.BadZipFile, OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # loading it says what is wrong
    return (channels, height, width) if channels and height and width else None


def _refuse_pickles(path: Path) -> None:
    """Raise CheckpointError for a program with parts that only a pickle can hold."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file: correct the path")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            tables = [json.loads(archive.read(n)) for n in names if n.endswith("_config.json")]
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: is no whole file of torch.export.save ({one_line(error, 100)}): save it again"
        ) from error
    pickled = [n for n in names if Path(n).name.startswith(("custom_obj_", "opaque_obj_"))]
    for table in tables:
        entries = table.get("config", {}) if isinstance(table, dict) else {}
        pickled += [name for name, entry in entries.items() if entry.get("use_pickle")]
    if pickled:
        raise CheckpointError(
            f"{path}: holds {pickled[0]} as a pickle, which can run code and is not read here: "
            "keep plain tensors in the network and save it again"
        )


def _fixed_batch(program: torch.export.ExportedProgram) -> int | None:
    """Return the only batch size that a program of one input takes; None where it takes any."""
    given = program.graph_signature.user_inputs
    values = [n.meta.get("val") for n in program.graph.nodes if n.name in given]
    if len(values) != 1 or not isinstance(values[0], Tensor) or not values[0].ndim:
        return None
    size = values[0].shape[0]
    return size if isinstance(size, int) else None


def _open_batch(
    path: Path,
    module: fx.GraphModule,
    fixed: nn.Module,
    batch: int,
    input_shape: tuple[int, int, int],
) -> None:
    """Let `module` take batches of any size; raise CheckpointError where that cannot be.

    It is held against `fixed`, the same program, which takes `batch` images at a time.
    """
    _let_sizes_vary(module.graph, batch)
    module.recompile()
    module.validate_inputs = False  # type: ignore[assignment]
    random = torch.Generator().manual_seed(0)
    images = torch.rand(batch * _OTHER_BATCH, *input_shape, generator=random) * 2 - 1
    with torch.no_grad():
        try:
            answers = [list(_tensors(fixed(part))) for part in images.split(batch)]
        except Exception as error:  # whatever its guards raise
            raise CheckpointError(
                f"{path}: does not run on images of shape {input_shape} ({one_line(error, 160)}): "
                "give the shape that it was exported for (--input CxHxW)"
            ) from error
        try:
            for size in (1, len(images)):
                found = _tensors(module(images[:size]))
                for parts, other in zip(zip(*answers, strict=True), found, strict=True):
                    expected = torch.cat(parts)[:size]
                    torch.testing.assert_close(
                        other, expected, rtol=0, atol=_ROUNDING * float(expected.abs().max())
                    )
        except Exception as error:  # operators of the program, or the comparison
            raise CheckpointError(
                f"{path}: was exported for batches of {batch} and computes something else at other "
                f"sizes ({one_line(error, 160)}): export it with "
                "dynamic_shapes=({0: torch.export.Dim('batch')},)"
            ) from error


def _tensors(output: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor))


def _let_sizes_vary(graph: fx.Graph, batch: int) -> None:
    """Replace the batch size in lists of sizes by that of the input."""
    (given,) = graph.find_nodes(op="placeholder")
    with graph.inserting_after(given):
        size = graph.call_function(torch.ops.aten.sym_size.int, (given, 0))
    reached = {given}
    for node in graph.nodes:
        is_reached = not reached.isdisjoint(node.all_input_nodes)
        if is_reached:
            reached.add(node)
        schema = getattr(node.target, "_schema", None)
        name = schema.name if schema is not None else ""
        if (name in _VIEWS and is_reached) or name in _REPEATS | _FILLS:
            node.args = tuple(
                _vary(arg, batch, size, name) if isinstance(arg, list | tuple) else arg
                for arg in node.args
            )


def _vary(sizes: Any, batch: int, size: fx.Node, name: str) -> list[Any]:
    """Return the sizes that `name` is given with `size` in place of `batch`.

    A view may hold a multiple of it.
    """
    varied = list(sizes)
    places = [place for place, one in enumerate(varied) if one == batch]
    if name in _FILLS and places:
        varied[places[-1]] = size
    elif places[:1] == [0] or (name in _REPEATS and places):
        varied[places[0]] = size
    elif name in _VIEWS and varied and -1 not in varied:
        varied[0] = -1
    return varied
