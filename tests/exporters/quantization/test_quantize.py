"""Lower precision: which images it sees, which nodes it takes, and whether it keeps its budget."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from builders import INT8
from foldbench.bench.errors import ConfigError, DataError, ExportError
from foldbench.bench.host_files.marks import PRECISION
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Artifact
from foldbench.bench.stages.export import export
from foldbench.bench.stages.quantize import choose_calibration_set, spread_by_class
from foldbench.bench.stages.settings import settings_of
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.exporters.export import ExportOptions, to_onnx
from foldbench.exporters.quantization.calibration import (
    CalibrationSet,
    LabelledImages,
    measure_ranges,
)
from foldbench.exporters.quantization.choice import QuantizationChoice, QuantizationSearch
from foldbench.exporters.quantization.graph import find_candidates, infer_shapes, quantize_nodes
from foldbench.exporters.quantization.quantize import QuantizeOptions, Quantizer
from foldbench.exporters.quantization.score import ClosenessScorer

OPTIONS = ExportOptions(fold_bn=True, opset=20, passes=())


SIZE = 8
"""Height and width of the images, pixels."""


class Sharp(nn.Module):
    """Three convolutions; `width` is how far one channel of the second lies above all others.

    That channel is then multiplied by 0, so that it matters to nothing but the second one's range.
    Each output follows from one input, so that int8 is off by rounding alone: processors without
    VNNI add two products of a uint8 and an int8 in an int16, which larger sums exceed.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(8, 10)
        mask = torch.ones(1, 8, 1, 1)
        mask[:, 0] = 0
        self.register_buffer("mask", mask)
        with torch.no_grad():
            for layer in (self.first, self.second, self.third, self.fc):
                layer.weight.zero_()
            for i in range(8):
                self.first.weight[i, i % 3, 1, 1] = 1 if i < 4 else -1
                self.second.weight[i, i, 1, 1] = 1
                self.third.weight[i, i % 7 + 1, 1, 1] = 1
            for i in range(10):
                self.fc.weight[i, i % 8] = 1 if i < 8 else -1
            assert self.second.bias is not None
            self.second.bias[0] += width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.second(torch.relu(self.first(x)))) * self.mask
        return self.fc(self.pool(torch.tanh(self.third(y))).mean((2, 3)))


def exported(network: nn.Module) -> onnx.ModelProto:
    return to_onnx(network.eval(), np.zeros((2, 3, SIZE, SIZE), np.float32), OPTIONS)


def scaled(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / 127.5 - 1


def pixels(count: int = 400) -> np.ndarray:
    """Images of one colour each, with noise: networks tell them apart."""
    random = np.random.default_rng(0)
    colours = random.integers(40, 216, (count, 3, 1, 1))
    return (colours + random.integers(-40, 40, (count, 3, SIZE, SIZE))).astype(np.uint8)


def material_for(network: nn.Module) -> CalibrationSet:
    """Images that the network itself has labelled, those that it is surest of.

    So float32 is right about all of them, and small errors change nothing.
    """
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(scaled(pixels()))).numpy()
    best = np.sort(logits, 1)
    sure = np.sort(np.argsort(best[:, -2] - best[:, -1])[:200])
    given, labels = pixels()[sure], logits.argmax(1)[sure]
    rest = LabelledImages(given[50:], labels[50:], scaled)
    calibration = LabelledImages(given[:50], labels[:50], scaled)
    return CalibrationSet(calibration=calibration, validation=rest, untrained=0)


def choose(
    network: nn.Module, max_drop_points: float, model: onnx.ModelProto | None = None
) -> QuantizationChoice:
    """Search the nodes of `network`, which was exported as `model` or is now."""
    model, calibration_set = infer_shapes(model or exported(network)), material_for(network)
    scorer = ClosenessScorer(model, calibration_set.validation, 1)
    return QuantizationSearch(
        model, calibration_set.calibration, scorer, max_drop_points, NullListener()
    ).choose()


def sharp(width: float) -> Sharp:
    """Return the network, its logits shifted and scaled so that every class occurs."""
    torch.manual_seed(0)
    network = Sharp(width).eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(scaled(pixels())))
        network.fc.weight /= logits.std(0)[:, None]
        network.fc.bias -= logits.mean(0)
        network.fc.bias /= logits.std(0)
    return network


@pytest.fixture(scope="module")
def even() -> onnx.ModelProto:
    """`Sharp` without a sensitive node."""
    return exported(sharp(0.0))


def widened(model: onnx.ModelProto, width: float) -> onnx.ModelProto:
    """Return the exported `Sharp` of another width."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (bias,) = (i for i in copy.graph.initializer if i.name == "second.bias")
    numbers = numpy_helper.to_array(bias).copy()
    numbers[0] += width
    bias.CopyFrom(numpy_helper.from_array(numbers, bias.name))
    return copy


def as_artifact(run: RunDirectory, model: onnx.ModelProto) -> Artifact:
    """A record of `model` as if it were the exported run's network."""
    (artifact,) = run.artifacts()
    onnx.save(model, run.path / artifact.path)
    return artifact


def test_the_int8_file_stands_beside_the_one_in_float32_and_says_what_it_is(
    quantized_run: RunDirectory,
) -> None:
    artifact, folded = quantized_run.artifacts()
    assert (artifact.variant, folded.variant) == ("int8", "folded")
    assert artifact.path == "artifacts/digits.int8.onnx"
    assert (artifact.precision, folded.precision) == ("int8", "float32")
    assert artifact.size_bytes < folded.size_bytes / 2
    model = onnx.load(quantized_run.path / artifact.path)
    onnx.checker.check_model(model, full_check=True)
    facts = {p.key: p.value for p in model.metadata_props}
    assert (facts[PRECISION], facts["foldbench.variant"]) == ("int8", "int8")
    assert facts["foldbench.checkpoint_sha256"] == artifact.checkpoint_sha256
    types = {i.name: i.data_type for i in model.graph.initializer}
    kinds = {types.get(n.input[0]) for n in model.graph.node if n.op_type == "DequantizeLinear"}
    assert onnx.TensorProto.INT8 in kinds, "weights"
    activations = {types[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    assert activations == {onnx.TensorProto.UINT8}


def test_the_record_holds_what_was_tried_and_what_it_cost(quantized_run: RunDirectory) -> None:
    artifact, folded = quantized_run.artifacts()
    report = artifact.quantization
    assert report is not None
    assert (report.calibration_images, report.closeness.images) == (100, 300)
    assert report.untrained_images == 144, "digits hold out a tenth of 1,437 images"
    assert report.source_sha256 == folded.sha256
    divergences = {trial.method: trial.closeness.kl_nats for trial in report.trials}
    assert set(divergences) == {"minmax", "percentile", "entropy"}
    assert report.method == min(divergences, key=lambda method: divergences[method])
    assert {node.op_type for node in report.nodes} == {"Conv", "Gemm"}
    assert all(node.quantized for node in report.nodes)
    assert (report.within_budget, report.reason) == (True, None)
    assert 0 < report.closeness.kl_nats < 0.01


def test_calibration_and_judging_see_training_images_alone_and_none_of_them_twice(
    own_exported_run: RunDirectory, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foldbench.bench.images.loading import load_data
    from foldbench.bench.images.preprocessing import preprocess

    shown: dict[int, set[bytes]] = {}
    batches = LabelledImages.batches

    def noted(self: LabelledImages) -> Iterator[np.ndarray]:
        for batch in batches(self):
            shown.setdefault(len(self), set()).update(image.tobytes() for image in batch)
            yield batch

    monkeypatch.setattr(LabelledImages, "batches", noted)
    export(own_exported_run, INT8, paths, NullListener())
    checkpoint = own_exported_run.checkpoint()
    config = settings_of(own_exported_run, checkpoint, ())
    data = load_data(config.data, paths.cache, NullListener())

    def inputs(pixels: np.ndarray) -> set[bytes]:
        return {image.tobytes() for image in preprocess(pixels, checkpoint.preprocessing)}

    assert {count: len(images) for count, images in shown.items()} == {100: 100, 300: 300}
    seen = list(shown.values())
    assert seen[0] | seen[1] <= inputs(data.train.images)
    assert not (seen[0] | seen[1]) & inputs(data.test.images)
    assert not seen[0] & seen[1]


def test_the_most_sensitive_node_stays_in_float(even: onnx.ModelProto) -> None:
    found = choose(sharp(3000.0), 1.0, widened(even, 3000.0))
    kept = [node for node in found.nodes if not node.quantized]
    assert [node.op_type for node in kept] == ["Conv"]
    assert found.nodes.index(kept[0]) == 1, "the second convolution"
    alone = {node.node: node.alone for node in found.nodes}
    drops = {name: one.drop_points() for name, one in alone.items() if one is not None}
    assert drops.keys() == alone.keys()
    assert drops.pop(kept[0].node) > 50
    assert max(drops.values()) < 1
    assert len([node for node in found.nodes if node.quantized]) == 3
    floats = {i.name for i in found.model.graph.initializer if i.data_type == 1}
    assert "second.weight" in floats
    assert not {"first.weight", "third.weight", "fc.weight"} & floats


def test_without_a_sensitive_node_all_are_taken_and_none_is_tried_alone(
    even: onnx.ModelProto,
) -> None:
    found = choose(sharp(0.0), 3.0, even)
    assert [node.quantized for node in found.nodes] == [True] * 4
    assert [node.alone for node in found.nodes] == [None] * 4
    assert all(trial.closeness.drop_points() < 3 for trial in found.trials)


class Fragile(nn.Module):
    """One convolution, and it is the sensitive one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 11, 3, padding=1)
        with torch.no_grad():
            assert self.conv.bias is not None
            self.conv.bias[10] += 1e6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)[:, :10].mean((2, 3))


def test_where_no_node_keeps_the_budget_the_file_is_written_and_says_by_how_much(
    own_exported_run: RunDirectory,
) -> None:
    torch.manual_seed(0)
    network = Fragile()
    source = as_artifact(own_exported_run, exported(network))
    quantizer = Quantizer(
        own_exported_run.path, "fragile", material_for(network), 1, NullListener()
    )
    artifact = quantizer.to_int8(source, QuantizeOptions("int8", 0.5))
    report = artifact.quantization
    assert report is not None
    assert not report.within_budget
    assert report.closeness.drop_points() > 0.5
    assert report.reason is not None
    assert (report.max_drop_points, [node.quantized for node in report.nodes]) == (0.5, [True])
    assert (own_exported_run.path / artifact.path).is_file()


def test_results_of_matrix_products_are_not_rounded_to_int8(quantized_run: RunDirectory) -> None:
    model = onnx.load(quantized_run.path / "artifacts/digits.int8.onnx")
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    assert makers[model.graph.output[0].name] == "Gemm"


def test_a_pool_is_in_int8_exactly_where_int8_reads_it() -> None:
    class Pools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.max_pool2d(torch.tanh(self.one(x)), 2)
            return nn.functional.max_pool2d(torch.tanh(self.two(y)), 2).mean((2, 3))

    model = infer_shapes(exported(Pools()))
    images = material_for(Pools())
    ranges = measure_ranges(model, images.calibration, "minmax")
    names = [node.name for node in find_candidates(model)]
    quantized = quantize_nodes(model, ranges, names)
    makers = {name: node.op_type for node in quantized.graph.node for name in node.output}
    fed_by = [makers[n.input[0]] for n in quantized.graph.node if n.op_type == "MaxPool"]
    assert fed_by == ["DequantizeLinear", "Tanh"]


def test_a_file_is_made_once_from_the_same_inputs(
    quantized_run: RunDirectory, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it is made")

    monkeypatch.setattr(QuantizationSearch, "choose", refuse)
    assert export(quantized_run, INT8, paths, NullListener()) == quantized_run.artifacts()[0]
    for setting in ("max_drop_points=7", "calibration_images=90", "judged_images=290"):
        with pytest.raises(AssertionError, match="it is made"):
            export(quantized_run, [*INT8, f"export.{setting}"], paths, NullListener())


_SCRIPT = """
import sys, hashlib, numpy as np, onnx
from foldbench.bench.progress import NullListener
from foldbench.exporters.quantization.calibration import LabelledImages
from foldbench.exporters.quantization.choice import QuantizationSearch
from foldbench.exporters.quantization.graph import infer_shapes
from foldbench.exporters.quantization.score import ClosenessScorer
from foldbench.exporters.quantization.tables import write_tables
pixels = np.random.default_rng(0).integers(0, 256, (160, 3, 8, 8)).astype(np.uint8)
images = LabelledImages(pixels, np.arange(160) % 10, lambda x: x.astype(np.float32) / 255)
model = infer_shapes(onnx.load(sys.argv[1]))
scorer = ClosenessScorer(model, images, 1)
found = QuantizationSearch(model, images.first(64), scorer, 100.0, NullListener()).choose()
made, _ = write_tables(found.model)
for one in (found.model, made):
    print(hashlib.sha256(one.SerializeToString()).hexdigest())
"""


def test_the_same_inputs_give_the_same_file_in_every_process(
    even: onnx.ModelProto,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = str(tmp_path / "model.onnx")
    onnx.save(widened(even, 1.0), path)
    another = subprocess.run(
        [sys.executable, "-c", _SCRIPT, path],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    monkeypatch.setattr(sys, "argv", ["", path])
    exec(_SCRIPT, {})
    here = capsys.readouterr().out
    assert len(here.split()) == 2
    assert another.stdout == here


def test_too_few_training_images_are_an_error_that_says_what_is_needed(
    own_run: RunDirectory, paths: Paths
) -> None:
    from foldbench.bench.images.loading import load_data

    checkpoint = own_run.checkpoint()
    config = settings_of(own_run, checkpoint, ())
    data = load_data(config.data, paths.cache, NullListener())
    few = replace(data.train, images=data.train.images[:30], labels=data.train.labels[:30])
    info = data.info.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(DataError, match=" 30 images"):
        choose_calibration_set(replace(data, train=few, info=info), checkpoint, config)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("export.fold_bn=false",), "int8 .*folded"),
        (("export.target=cuda",), "int8 .* export.target is cuda"),
        (("export.target=host", "export.quantize=float16"), "float16 .* export.target is host"),
        (("export.target=host",), "int8 .* export.target is host"),
    ],
)
def test_settings_that_exclude_it_are_refused_before_anything_is_made(
    own_run: RunDirectory, paths: Paths, settings: tuple[str, ...], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        export(own_run, [*INT8, *settings], paths, NullListener())
    assert own_run.artifacts() == ()


def test_a_network_without_weights_to_quantize_is_one_line() -> None:
    class Nothing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)).repeat(1, 4)[:, :10]

    with pytest.raises(ExportError, match="nothing .* no Conv"):
        choose(Nothing(), 0.5)


def test_float16_takes_and_gives_float32_and_holds_half_the_bytes(
    own_exported_run: RunDirectory, paths: Paths
) -> None:
    artifact = export(own_exported_run, [*INT8, "export.quantize=float16"], paths, NullListener())
    report = artifact.quantization
    assert report is not None
    assert (artifact.variant, artifact.precision) == ("float16", "float16")
    assert (report.calibration_images, report.nodes, report.method) == (0, (), None)
    assert artifact.size_bytes < 0.6 * own_exported_run.artifacts()[0].size_bytes
    model = onnx.load(own_exported_run.path / artifact.path)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    halves = [numpy_helper.to_array(i).dtype == np.float16 for i in model.graph.initializer]
    assert any(halves)
    assert 0 < report.closeness.max_rel_difference < 0.01


@pytest.mark.parametrize("counts", [(40, 40, 40), (5, 60, 20), (1, 1, 90)])
def test_every_beginning_of_the_order_is_spread_over_the_classes(counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(3), counts)
    order = spread_by_class(labels, seed=0)
    assert sorted(order) == list(range(len(labels)))
    for length in range(1, len(labels) + 1):
        taken = np.bincount(labels[order[:length]], minlength=3)
        left = np.array(counts) > taken
        assert taken.max() <= taken[left].min(initial=taken.max()) + 1
    assert not np.array_equal(order, spread_by_class(labels, seed=1))
