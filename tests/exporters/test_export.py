"""Export: one checked file, its provenance, who folded, and a parity gate that can fail."""

import json
import re
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from foldbench.bench.errors import ExportError
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Artifact
from foldbench.bench.stages.export import export
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.exporters import origins
from foldbench.exporters.export import (
    ExportOptions,
    count_batchnorm_nodes,
    export_checkpoint,
    hash_inputs,
    to_onnx,
)
from foldbench.exporters.parity import check_parity
from foldbench.models.building.checkpoint import load_checkpoint

IMAGES = ["export.images=64"]
OPTIONS = ExportOptions(fold_bn=True, opset=20, passes=("strip_metadata",))


class FunctionalNetwork(nn.Module):
    """A BatchNorm that foldbench leaves alone (two users) and one it folds."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.first(x))
        y = self.second(x)
        return self.fc((self.bn2(y) + y).mean((2, 3)))


@pytest.fixture
def folded(twice_exported_run: RunDirectory) -> Artifact:
    return next(a for a in twice_exported_run.artifacts() if a.variant == "folded")


@pytest.fixture
def unfolded(twice_exported_run: RunDirectory) -> Artifact:
    return next(a for a in twice_exported_run.artifacts() if a.variant == "unfolded")


def test_the_file_is_alone_checked_and_says_where_it_comes_from(
    twice_exported_run: RunDirectory, folded: Artifact
) -> None:
    path = twice_exported_run.path / folded.path
    written = sorted(p.name for p in path.parent.iterdir())
    assert written == sorted(Path(a.path).name for a in twice_exported_run.artifacts()), (
        "no side-car"
    )
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    facts = {p.key.removeprefix("foldbench."): p.value for p in model.metadata_props}
    checkpoint = twice_exported_run.checkpoint()
    assert facts["checkpoint_sha256"] == checkpoint.sha256 == folded.checkpoint_sha256
    assert json.loads(facts["classes"]) == list(checkpoint.classes)
    assert json.loads(facts["config"])["model"]["name"] == "bn_cnn"
    assert "path" not in json.loads(facts["config"])["data"]
    assert json.loads(facts["preprocessing"])["mean"] == [0.5, 0.5, 0.5]
    assert json.loads(facts["versions"])["torch"] == torch.__version__
    assert (model.producer_name, facts["variant"]) == ("foldbench", "folded")
    content = path.read_bytes()
    assert str(Path(__file__).parent.parent.parent).encode() not in content
    assert b".py" not in content


def test_the_batch_is_dynamic_and_has_a_name(
    twice_exported_run: RunDirectory, folded: Artifact
) -> None:
    model = onnx.load(twice_exported_run.path / folded.path)
    (given,), (taken,) = model.graph.input, model.graph.output
    assert given.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [d.dim_value for d in given.type.tensor_type.shape.dim[1:]] == [3, 16, 16]
    assert taken.type.tensor_type.shape.dim[0].dim_param
    assert (given.name, taken.name, folded.opset) == ("input", "logits", 20)


def test_without_folding_batchnorm_really_stays(
    twice_exported_run: RunDirectory, unfolded: Artifact
) -> None:
    assert count_batchnorm_nodes(onnx.load(twice_exported_run.path / unfolded.path)) == 3
    assert (unfolded.batchnorm_nodes, unfolded.folded_by, unfolded.fold.folded) == (3, (), ())
    assert (unfolded.fold.batchnorms_before, unfolded.fold.batchnorms_after) == (3, 3)


def test_with_folding_the_proof_is_in_the_record(folded: Artifact) -> None:
    fold = folded.fold
    assert (fold.batchnorms_before, fold.batchnorms_after, folded.batchnorm_nodes) == (3, 0, 0)
    assert folded.folded_by == ("foldbench",)
    assert [f.batchnorm for f in fold.folded] == ["bn1", "bn2", "bn3"]
    assert fold.agreement is not None
    assert (fold.agreement.images, fold.agreement.top1_equal) == (64, 64)
    assert 0 < fold.agreement.max_rel_difference < 1e-5


def test_the_exporter_is_named_when_it_folds_what_foldbench_left(
    own_run: RunDirectory, images: np.ndarray
) -> None:
    network = FunctionalNetwork().eval()
    artifact = export_checkpoint(network, own_run.checkpoint(), own_run.path, images, OPTIONS)
    assert [skip.module for skip in artifact.fold.skipped] == ["bn2"]
    assert artifact.fold.batchnorms_after == artifact.batchnorm_nodes == 1
    assert artifact.folded_by == ("foldbench",)


def test_both_variants_are_kept_side_by_side_and_made_once(
    own_twice_exported_run: RunDirectory, paths: Paths
) -> None:
    run = own_twice_exported_run
    first = run.artifacts()
    assert {a.variant for a in first} == {"unfolded", "folded"}
    assert export(run, IMAGES, paths, NullListener()) in first
    assert {a.sha256: a.export_s for a in run.artifacts()} == {a.sha256: a.export_s for a in first}
    damaged = next(a for a in first if a.variant == "folded")
    (run.path / damaged.path).write_bytes(b"damaged")
    assert export(run, IMAGES, paths, NullListener()).sha256 == damaged.sha256


def test_another_text_of_any_helper_is_another_export(
    own_run: RunDirectory, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = own_run.path / "exporters"
    shutil.copytree(origins._FOLDER, copy)
    monkeypatch.setattr(origins, "_FOLDER", copy)
    helpers = ["passes/_graphs/rewrite.py", "passes/_graphs/mish.py", "parity.py"]
    found = [hash_inputs(own_run.checkpoint(), images, OPTIONS)]
    for helper in (*helpers, "folding/algebra.py"):
        source = (copy / helper).read_text(encoding="utf-8")
        (copy / helper).write_text(f"{source}# One more line.\n", encoding="utf-8")
        found.append(hash_inputs(own_run.checkpoint(), images, OPTIONS))
    assert len(set(found)) == 5


@pytest.mark.parametrize("package", ["torch", "onnx", "onnxruntime", "onnxscript", "onnx_ir"])
def test_another_version_of_what_makes_or_proves_a_file_is_another_export(
    package: str, own_run: RunDirectory, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hash_inputs(own_run.checkpoint(), images, OPTIONS)
    changed = {**origins.library_versions(), package: "999"}
    assert changed.keys() == origins.library_versions().keys()
    monkeypatch.setattr("foldbench.exporters.export.library_versions", lambda: changed)
    assert hash_inputs(own_run.checkpoint(), images, OPTIONS) != before


def test_another_library_of_own_operators_is_another_export_for_this_machine_alone(
    own_run: RunDirectory, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for target, different in (("host", 3), ("cpu", 1)):
        options = ExportOptions(fold_bn=True, opset=20, passes=(), target=target)
        keys = set()
        for library in (None, "0" * 64, "1" * 64):
            monkeypatch.setattr(
                "foldbench.bench.host_files.custom_operators.library_sha256",
                lambda found=library: found,
            )
            keys.add(hash_inputs(own_run.checkpoint(), images, options))
        assert len(keys) == different


def test_parity_fails_for_weights_that_differ_a_little(images: np.ndarray) -> None:
    torch.manual_seed(0)
    network = FunctionalNetwork().eval()
    other = deepcopy(network)
    with torch.no_grad():
        other.fc.weight *= 1.001
    exported = to_onnx(other, images[:2], OPTIONS).SerializeToString()
    parity = check_parity(exported, network, images)
    assert not parity.passed
    assert "outputs are off by" in str(parity.reason)
    assert check_parity(exported, other, images).passed


def test_parity_fails_for_a_file_that_runs_at_the_traced_batch_size_alone(
    images: np.ndarray,
) -> None:
    network = FunctionalNetwork().eval()
    program = torch.onnx.export(
        network, (torch.from_numpy(images[:2]),), dynamo=True, external_data=False, verbose=False
    )
    parity = check_parity(program.model_proto.SerializeToString(), network, images)
    assert not parity.passed
    assert "onnxruntime" in str(parity.reason)


def test_parity_fails_for_outputs_that_are_not_finite_or_of_another_shape(
    images: np.ndarray,
) -> None:
    network = FunctionalNetwork().eval()
    for change in (lambda y: y / 0, lambda y: y[:, :3]):

        class Wrong(nn.Module):
            def forward(self, x: torch.Tensor, change=change) -> torch.Tensor:
                return change(network(x))

        exported = to_onnx(Wrong().eval(), images[:2], OPTIONS).SerializeToString()
        parity = check_parity(exported, network, images)
        assert not parity.passed
        assert re.search("output shape, .* not finite", str(parity.reason))


def test_a_file_that_onnxruntime_cannot_run_fails_parity_with_its_words(
    images: np.ndarray,
) -> None:
    parity = check_parity(b"not a network", FunctionalNetwork().eval(), images)
    assert not parity.passed
    assert "onnxruntime" in str(parity.reason)


def test_a_network_that_cannot_be_exported_is_one_line(images: np.ndarray) -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :10] if x.sum() > 0 else x.flatten(1)[:, 10:20]

    with pytest.raises(ExportError, match="torch could not export") as caught:
        to_onnx(Branching().eval(), images[:2], OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_loads_in_eval_mode_with_the_weights_that_were_trained(
    own_run: RunDirectory,
) -> None:
    module = load_checkpoint(own_run.checkpoint(), own_run.path)
    assert not any(part.training for part in module.modules())
    assert sum(p.numel() for p in module.parameters()) == own_run.checkpoint().parameter_count
