"""Networks of one's own become runs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from graphs import stuck
from torch import nn

from foldbench.bench.config.own_network import source_config
from foldbench.bench.errors import BenchError, CheckpointError, ConfigError
from foldbench.bench.progress import NullListener
from foldbench.bench.stages.add import add
from foldbench.bench.stages.train import train
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.models.building.checkpoint import load_checkpoint

CODE = """
from torch import nn
from helpers.blocks import scale

class Net(nn.Module):
    def __init__(self, num_classes=4, width=3):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return scale(self.head(self.bn(self.conv(x)).mean((2, 3))))

def two_heads():
    class Both(Net):
        def forward(self, x):
            y = super().forward(x)
            return y, y.argmax(1)
    return Both()

def features_first(num_classes=4):
    class Both(Net):
        def forward(self, x):
            y = super().forward(x)
            return y[:, :3], y
    return Both()

def among_others(num_classes=4):
    class Among(Net):
        def forward(self, x):
            return super().forward(x - x.mean(0, keepdim=True))
    return Among()

def crash():
    import os
    os._exit(7)
"""


class Told(NullListener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A file beside a package that it imports, and weights for its network."""
    folder = tmp_path / "project"
    (folder / "helpers").mkdir(parents=True)
    (folder / "helpers" / "__init__.py").touch()
    (folder / "helpers" / "blocks.py").write_text("def scale(x):\n    return 2 * x\n")
    (folder / "net.py").write_text(CODE)
    torch.manual_seed(3)
    state = {
        "conv.weight": torch.randn(3, 3, 3, 3),
        "conv.bias": torch.randn(3),
        "bn.weight": torch.rand(3) + 0.5,
        "bn.bias": torch.randn(3),
        "bn.running_mean": torch.randn(3),
        "bn.running_var": torch.rand(3) + 0.5,
        "bn.num_batches_tracked": torch.tensor(5),
        "head.weight": torch.randn(4, 3),
        "head.bias": torch.randn(4),
    }
    torch.save({"ema": {f"module.{k}": v for k, v in state.items()}}, folder / "w.pt")
    return folder / "net.py"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the user's code in the process of the test."""
    for stage in ("add", "train"):
        monkeypatch.setattr(
            f"foldbench.bench.stages.{stage}.run_isolated", lambda call, *given: call(*given)
        )


def add_network(text: str, paths: Paths, *settings: str, told: Told | None = None) -> RunDirectory:
    overrides = ("data.image_size=8", *settings)
    return add(source_config(text, overrides), paths, told or Told())


@pytest.mark.usefixtures("here")
def test_weights_and_code_are_what_the_record_says(code: Path, paths: Paths) -> None:
    told = Told()
    weights = f"model.weights={code.parent / 'w.pt'}"
    run = add_network(f"{code}:Net", paths, weights, told=told)
    checkpoint = run.checkpoint()
    source = checkpoint.source
    assert source is not None
    assert source.weights is not None
    assert (source.weights.key, source.weights.stripped) == ("ema", ("module.",))
    assert {Path(path).name for path in source.files} == {"net.py", "blocks.py", "__init__.py"}
    assert not checkpoint.random_weights
    assert len(checkpoint.classes) == 4
    assert run.describe() == "added"
    module = load_checkpoint(checkpoint, run.path)
    kept = torch.load(code.parent / "w.pt", weights_only=True)["ema"]
    assert torch.equal(module.head.weight, kept["module.head.weight"])
    assert any("ema" in note for note in told.notes)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("network", "expected"), [("Net", False), ("among_others", True)])
def test_the_record_says_whether_other_images_of_the_batch_change_an_answer(
    code: Path, paths: Paths, network: str, expected: bool
) -> None:
    run = add_network(f"{code}:{network}", paths)
    assert run.checkpoint().batch_dependent is expected


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("dtype", "assumed"), [("uint8", True), ("float32", False)])
def test_a_scale_is_assumed_for_pixels_and_not_for_what_is_preprocessed(
    code: Path, paths: Paths, tmp_path: Path, dtype: str, assumed: bool
) -> None:
    shape = (4, 8, 8, 3) if dtype == "uint8" else (4, 3, 8, 8)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(4))
    told = Told()
    add_network(f"{code}:Net", paths, f"data.path={tmp_path / 'a.npz'}", told=told)
    assert any("std" in note for note in told.notes) is assumed


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("said", "sizes"), [((), [2]), (("compare.batch_sizes=[4]",), [4])])
def test_a_file_with_one_batch_size_is_measured_at_it_unless_another_is_said(
    paths: Paths, tmp_path: Path, said: tuple[str, ...], sizes: list[int]
) -> None:
    onnx.save(stuck(2), tmp_path / "net.onnx")
    run = add_network(str(tmp_path / "net.onnx"), paths, "model.output=z", *said)
    assert run.checkpoint().config["compare"]["batch_sizes"] == sizes


@pytest.mark.usefixtures("here")
def test_the_same_network_finds_its_run_again_and_other_weights_do_not(
    code: Path, paths: Paths
) -> None:
    first = add_network(f"{code}:Net", paths)
    assert first.checkpoint().random_weights
    assert add_network(f"{code}:Net", paths).path == first.path
    trained = add_network(f"{code}:Net", paths, f"model.weights={code.parent / 'w.pt'}")
    wider = add_network(f"{code}:Net", paths, "model.args={width: 5}")
    assert len({first.path, trained.path, wider.path}) == 3


@pytest.mark.usefixtures("here")
def test_code_that_computes_otherwise_by_now_is_refused_and_a_comment_is_not(
    code: Path, paths: Paths
) -> None:
    run = add_network(f"{code}:Net", paths)
    blocks = code.parent / "helpers" / "blocks.py"
    answers_again(run, blocks, "def scale(x):  # as ever\n    return 2 * x\n")
    with pytest.raises(CheckpointError, match="Net"):
        answers_again(run, blocks, "def scale(x):\n    return 2.1 * x\n")


def answers_again(run: RunDirectory, file: Path, content: str) -> None:
    """Load the run's network in a process of its own, after a change of its code."""
    from foldbench.bench.workers.isolated import run_isolated

    file.write_text(content)
    run_isolated(load_checkpoint_quietly, run.checkpoint(), run.path)


def load_checkpoint_quietly(checkpoint: object, folder: Path) -> None:
    load_checkpoint(checkpoint, folder)  # type: ignore[arg-type]


@pytest.mark.usefixtures("here")
def test_the_first_of_several_outputs_is_taken_and_another_can_be_chosen(
    code: Path, paths: Paths
) -> None:
    told = Told()
    run = add_network(f"{code}:two_heads", paths, told=told)
    source = run.checkpoint().source
    assert source is not None
    assert source.output == "0"
    assert any("tuple of 2" in note for note in told.notes)
    module = load_checkpoint(run.checkpoint(), run.path)
    assert module(torch.rand(2, 3, 8, 8)).shape == (2, 4)
    with pytest.raises(ConfigError, match="5"):
        add_network(f"{code}:two_heads", paths, "model.output='5'")
    by_shape = add_network(f"{code}:features_first", paths).checkpoint()
    assert by_shape.source is not None
    assert (by_shape.source.output, len(by_shape.classes)) == ("1", 4)


def test_code_that_ends_its_process_is_an_error_and_leaves_nothing(
    code: Path, paths: Paths
) -> None:
    with pytest.raises(ConfigError, match="exit code 7"):
        add_network(f"{code}:crash", paths)
    assert not paths.runs.exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("model.args={depth: 3}",), "depth"),
        (("model.args={width: none}",), "width"),
        (("model.weights=/nowhere/w.pt",), "/nowhere/w.pt"),
        (("model.classes=7", "model.args={num_classes: 4}"), "7"),
    ],
)
def test_what_does_not_fit_the_network_is_named(
    settings: tuple[str, ...], named: str, code: Path, paths: Paths
) -> None:
    with pytest.raises(BenchError, match=named):
        add_network(f"{code}:Net", paths, *settings)
    assert not paths.runs.exists()


@pytest.mark.usefixtures("here")
def test_a_library_s_network_has_the_number_of_classes_of_its_weights(
    tmp_path: Path, paths: Paths
) -> None:
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    weights = tmp_path / "mine.pt"
    torch.save(squeezenet1_1(num_classes=5).state_dict(), weights)
    given = ("data.image_size=32", f"model.weights={weights}")
    run = add(source_config("torchvision:squeezenet1_1", given), paths, Told())
    checkpoint = run.checkpoint()
    assert len(checkpoint.classes) == 5
    assert checkpoint.preprocessing.mean == (0.485, 0.456, 0.406)


@pytest.mark.usefixtures("here")
def test_an_exported_program_is_added_with_its_own_weights(tmp_path: Path, paths: Paths) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    batch = {0: torch.export.Dim("batch")}
    images = torch.rand(2, 3, 8, 8)
    program = torch.export.export(network, (images,), dynamic_shapes=(batch,))
    torch.export.save(program, tmp_path / "program.pt2")
    run = add_network(str(tmp_path / "program.pt2"), paths)
    module = load_checkpoint(run.checkpoint(), run.path)
    assert torch.allclose(module(images), network(images), atol=1e-6)
    assert not run.checkpoint().random_weights


@pytest.mark.usefixtures("here")
def test_a_file_that_is_no_program_is_refused(tmp_path: Path, paths: Paths) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "program.pt2")
    with pytest.raises(CheckpointError, match=r"program\.pt2"):
        add_network(str(tmp_path / "program.pt2"), paths)
    with pytest.raises(CheckpointError, match=r"missing\.pt2"):
        add_network(str(tmp_path / "missing.pt2"), paths)


@pytest.mark.usefixtures("here")
def test_a_network_of_one_s_own_trains_from_its_weights(code: Path, paths: Paths) -> None:
    settings = (
        *("data.name=digits", "data.image_size=8", "data.subset=100", "train.epochs=1"),
        *("train.device=cpu", "train.batch_size=50", "model.args={num_classes: 10}"),
    )
    run = train(source_config(f"{code}:Net", settings), paths, Told())
    checkpoint = run.checkpoint()
    assert checkpoint.source is not None
    assert checkpoint.source.name == "Net"
    assert len(checkpoint.history) == 1
    load_checkpoint(checkpoint, run.path)
    fitting = tuple(s for s in settings if not s.startswith("model.args"))
    with pytest.raises(CheckpointError, match="head"):
        train(
            source_config(f"{code}:Net", (*fitting, f"model.weights={code.parent / 'w.pt'}")),
            paths,
            Told(),
        )
