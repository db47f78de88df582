"""Transfer learning end to end, on a tiny network with weights of its own."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import nn

from benchmarks.preprocess_in_graph import open_way
from foldbench.bench.analysis.estimates import balanced_accuracy
from foldbench.bench.analysis.probes import batchnorm_effects
from foldbench.bench.cli import cli
from foldbench.bench.config.files import load
from foldbench.bench.config.schema import Config
from foldbench.bench.errors import BenchError, ConfigError, ExportError, TrainingError
from foldbench.bench.predict import image_model
from foldbench.bench.predict.image_model import find_image_model
from foldbench.bench.progress import NullListener
from foldbench.bench.stages.export import put_preprocessing_inside
from foldbench.bench.stages.probe import probe
from foldbench.bench.stages.settings import settings_of, training_settings
from foldbench.bench.stages.train import train
from foldbench.bench.store.directory import Paths, RunDirectory, list_runs
from foldbench.bench.store.files import file_sha256
from foldbench.bench.timing.loop import call
from foldbench.models.building.checkpoint import load_checkpoint
from foldbench.models.transfer import features as frozen_features
from foldbench.models.transfer import fit as transfer
from foldbench.models.transfer.classifier import fit_linear
from foldbench.reports.commands.probe import render_probes
from foldbench.reports.render import render
from foldbench.reports.rows.homework_table import homework_rows

COLOURS = {"red_cat": (200, 40, 40), "green_cat": (40, 200, 40), "blue_dog": (40, 40, 200)}
QUICK = (
    "export.baselines=false",
    "train.epochs=3",
    "export.images=6",
    "compare.batch_sizes=[1]",
    "compare.rounds=1",
    "compare.calls=1",
    "compare.block_s=0",
    "compare.settle_s=0",
    "compare.warm_up_s=0",
    "compare.budget_s=1",
    "compare.self_checks=false",
    "compare.arithmetic=false",
    "compare.devices=[cpu]",
)


@pytest.fixture(scope="session")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with photos/, weights.safetensors and tiny.yaml."""
    folder = tmp_path_factory.mktemp("materials")
    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for name, colour in COLOURS.items():
        for n in range(15):
            noise = random.integers(-40, 40, (50, 60, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / f"{name}_{n}.png")
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet")
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(part.running_var, 0.5, 2)
    save_file(network.state_dict(), folder / "weights.safetensors")
    (folder / "tiny.yaml").write_text(
        "extends: _pets\n"
        "model: {args: {source: timm, arch: test_efficientnet}}\n"
        f"data: {{name: flat, path: {folder / 'photos'}, label_pattern: '(.+)_\\d+'}}\n"
        f"transfer: {{weights: {folder / 'weights.safetensors'}}}\n"
    )
    return folder


@pytest.fixture(scope="session")
def tiny_paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    folder = tmp_path_factory.mktemp("tiny")
    return Paths(folder / "runs", folder / "cache")


@pytest.fixture(scope="session")
def run(materials: Path, tiny_paths: Paths) -> RunDirectory:
    """A finished transfer by logistic regression; change nothing in it."""
    return train(load(str(materials / "tiny.yaml"), QUICK), tiny_paths, NullListener())


@pytest.fixture
def bench(tiny_paths: Paths, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FOLDBENCH_RUNS", str(tiny_paths.runs))
    monkeypatch.setenv("FOLDBENCH_CACHE", str(tiny_paths.cache))

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), prog_name="bench")

    return call


def test_the_checkpoint_says_what_was_transferred(run: RunDirectory, materials: Path) -> None:
    checkpoint = run.checkpoint()
    record = checkpoint.transfer
    assert record is not None
    assert (record.weights, record.classifier) == ("weights.safetensors", "logistic")
    assert (record.train_count, record.test_count, record.validation_count) == (36, 9, 8)
    assert record.test_correct == 9, "colours are easy"
    assert record.test_balanced_accuracy == 1.0
    assert [c.inverse_regularisation for c in record.candidates] == sorted(
        c.inverse_regularisation for c in record.candidates
    )
    assert checkpoint.network == "test_efficientnet"
    assert not checkpoint.random_weights


def test_the_preprocessing_is_that_of_the_weights(run: RunDirectory) -> None:
    preprocessing = run.checkpoint().preprocessing
    settings = timm.get_pretrained_cfg("test_efficientnet")
    assert preprocessing.input_shape == settings.input_size
    assert preprocessing.mean == settings.mean
    assert preprocessing.resize.shorter_side == int(160 / settings.crop_pct)
    assert preprocessing.resize.interpolation == "bicubic"


def test_the_whole_network_gives_what_the_classifier_gave_on_the_features(
    run: RunDirectory, tiny_paths: Paths
) -> None:
    checkpoint = run.checkpoint()
    module = load_checkpoint(checkpoint, run.path)
    (folder,) = [
        path
        for path in (tiny_paths.cache / "features").iterdir()
        if checkpoint.transfer.features_sha256.startswith(path.name)
    ]
    features = np.load(folder / "test.npy")
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    with torch.inference_mode():
        logits = module.head(torch.from_numpy(features))
    assert logits.shape == (9, 3)
    weights = load_file(run.path / checkpoint.weights)
    assert torch.equal(weights["head.weight"], module.head.weight)


def test_the_same_training_is_found_again_wherever_the_weights_lie(
    run: RunDirectory, materials: Path, tiny_paths: Paths, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((materials / "weights.safetensors").read_bytes())
    again = load(str(materials / "tiny.yaml"), [*QUICK, f"transfer.weights={copy}"])
    assert train(again, tiny_paths, NullListener()).name == run.name


def test_features_come_from_the_cache_unless_something_they_follow_from_changed(
    run: RunDirectory, materials: Path, tiny_paths: Paths, monkeypatch
) -> None:
    taken = []
    extract = frozen_features._extract
    monkeypatch.setattr(frozen_features, "_extract", lambda *a: taken.append(1) or extract(*a))

    def fit(*overrides: str) -> int:
        taken.clear()
        loaded = load(str(materials / "tiny.yaml"), (*QUICK, *overrides))
        train(loaded, tiny_paths, NullListener(), fresh=True)
        return len(taken)

    adam = ("transfer.classifier=adam", "train.validation_fraction=0")
    assert fit() == 0
    assert fit(*adam) == 0
    assert fit("model.args.batchnorm=per_image") == 2
    assert fit("data.split_seed=3") == 2
    assert fit("transfer.stochastic_depth=true") == 2
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "version", lambda package: f"{package} of tomorrow")
        assert fit() == 2
    (damaged,) = [
        path
        for path in (tiny_paths.cache / "features").iterdir()
        if run.checkpoint().transfer.features_sha256.startswith(path.name)
    ]
    (damaged / "test.npy").write_bytes(b"no array")
    assert fit() == 2
    assert fit() == 0
    other = np.load(damaged / "train.npy")
    np.save(damaged / "train.npy", other[::-1])
    assert fit() == 2, "as many features, and others"


@pytest.mark.parametrize(
    ("train_type", "test_type"),
    [("float64", "float64"), ("int64", "int64"), ("float64", "float32"), ("float32", "float64")],
)
def test_features_that_are_not_float32_are_taken_anew(
    train_type: str, test_type: str, tmp_path: Path
) -> None:
    frozen_features._save(tmp_path, np.zeros((4, 3), np.float32), np.zeros((2, 3), np.float32))
    assert frozen_features._load(tmp_path, (4, 2)) is not None
    frozen_features._save(tmp_path, np.zeros((4, 3), train_type), np.zeros((2, 3), test_type))
    assert frozen_features._load(tmp_path, (4, 2)) is None


def test_a_file_with_preprocessing_that_is_wrong_leaves_the_good_one_as_it_was(
    own_exported_run: RunDirectory, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_run, overrides = own_exported_run, ["export.images=6"]
    (artifact,) = own_run.artifacts()
    good = put_preprocessing_inside(own_run, artifact, overrides, paths, NullListener())
    scores = image_model.run_image_model
    for wrong in (lambda *a: 1 - scores(*a), lambda *a: scores(*a) * np.nan):
        monkeypatch.setattr(image_model, "run_image_model", wrong)
        with pytest.raises(ExportError, match="probability"):
            put_preprocessing_inside(own_run, artifact, overrides, paths, NullListener())
    assert find_image_model(own_run) == good
    assert file_sha256(own_run.path / good.path) == good.sha256
    names = {path.name for path in (own_run.path / "artifacts").iterdir()}
    assert names == {Path(artifact.path).name, Path(good.path).name}


@pytest.mark.usefixtures("in_process")
def test_it_exports_compares_and_predicts_like_any_other(
    run: RunDirectory, bench, materials: Path
) -> None:
    quick = [f"--set={text}" for text in QUICK]
    exported = bench("export", run.name, "--with-preprocess", *quick)
    assert exported.exit_code == 0, exported.output
    (artifact,) = run.artifacts()
    assert artifact.fold.batchnorms_before > 0
    assert artifact.fold.batchnorms_after == 0
    assert artifact.parity.passed
    model = find_image_model(run)
    assert model is not None
    assert model.top1_equal == model.images == 6
    assert model.max_difference < 0.01

    compared = bench("compare", run.name, *quick)
    assert compared.exit_code == 0, compared.output
    record = run.results()
    assert {m.status for m in record.measurements} == {"ok"}
    assert all(m.accuracy.correct == 9 for m in record.measurements)
    assert "test_efficientnet" in compared.stdout

    photo = materials / "photos" / "red_cat_1.png"
    said = json.loads(bench("predict", run.name, str(photo), "--json").stdout)
    (image,) = said["images"]
    backends = [p["backend"] for p in image["predictions"]]
    assert backends == ["torch", "ort/folded", "ort/folded, preprocessing inside"]
    assert {p["top"][0]["class"] for p in image["predictions"]} == {"red_cat"}
    assert image["max_difference"] < 0.01

    image = np.asarray(Image.open(photo).convert("RGB"))[None]
    with open_way(run, "outside") as outside, open_way(run, "inside") as inside:
        found = [call(session, image) for session in (outside, inside)]
    np.testing.assert_allclose(*found, atol=0.01)

    onnx_bytes = (run.path / artifact.path).read_bytes()
    assert str(materials).encode() not in onnx_bytes, "no place of this machine is in the file"

    rows = homework_rows([record])
    assert [row.run for row in rows if row.accuracy is not None] == [run.name]
    assert next(row for row in rows if row.run).homework_accuracy is None


def test_settings_that_training_fixed_cannot_be_changed_later(run: RunDirectory) -> None:
    for override in ("data.split=random", "transfer.classifier=adam", "data.split_seed=1"):
        with pytest.raises(ConfigError, match="tiny-001"):
            settings_of(run, run.checkpoint(), [override])


@pytest.mark.usefixtures("in_process")
def test_random_weights_give_a_latency_and_no_accuracy(
    bench, materials: Path, tiny_paths: Paths
) -> None:
    quick = [f"--set={text}" for text in QUICK]
    config = str(materials / "tiny.yaml")
    trained = bench("train", config, "--weights", "none", *quick)
    assert trained.exit_code == 0, trained.output
    newest = list_runs(tiny_paths.runs)[-1]
    done = bench("compare", newest.name, "--backends", "torch", *quick)
    assert done.exit_code == 0, done.output
    assert "random weights" in done.stdout
    record = newest.results()
    assert record.checkpoint.random_weights
    assert record.checkpoint.transfer is None
    assert all(m.timings for m in record.measurements)
    document = json.loads(render(record, "json"))["runs"][0]
    for row in document["accuracy"]:
        assert row["accuracy"] is None
        assert row["correct"] is None
        assert row["random_weights"]
        assert row["agreement_top1_equal"] is not None
    assert "random weights" in render(record, "md")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.augment.flip=true"], "train.augment"),
        (["train.schedule.name=cosine"], "schedule.name is 'cosine'"),
        (["model.name=bn_cnn"], "not 'bn_cnn'"),
        (["data.image_size=64"], "data.image_size"),
        (["model.args.arch=no_such"], "no network 'no_such' in timm"),
        (["model.args.archh=x"], "did you mean 'arch'?"),
        (["model.args.arch=test_vit"], "does not fit VisionTransformer"),
        (["transfer.weights=nowhere.safetensors"], "nowhere.safetensors"),
        (["train.validation_fraction=0"], "train.validation_fraction"),
        (["data.name=digits", "data.path=null"], "digits"),
    ],
)
def test_what_cannot_be_transferred_is_told_in_one_line(
    overrides: list[str], words: str, materials: Path, paths: Paths
) -> None:
    with pytest.raises(BenchError) as caught:
        train(load(str(materials / "tiny.yaml"), [*QUICK, *overrides]), paths, NullListener())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_preprocessing_from_weights_needs_a_transfer() -> None:
    with pytest.raises(ConfigError, match="needs a transfer section"):
        load("digits", ["data.preprocessing=weights"])


def test_the_homework_configurations_are_as_its_code_ran() -> None:
    config = load("swin_t_pets_homework").config
    assert config.data.resize.stretch
    assert config.data.image_size == 224
    assert (config.data.split, config.data.split_seed, config.data.test_fraction) == (
        "random",
        42,
        0.2,
    )
    assert config.model.args["batchnorm"] == "per_image"
    assert config.model.args["pooled"] is False
    assert config.transfer.classifier == "adam"
    assert config.transfer.stochastic_depth
    train_section = config.train
    assert (train_section.epochs, train_section.batch_size) == (100, 32)
    assert (train_section.optimizer, train_section.learning_rate) == ("adam", 0.001)
    assert train_section.weight_decay == 0
    assert load("resnet50_pets_homework").config.model.args["pooled"] is True


def test_a_training_key_from_before_transfer_stays_the_same() -> None:
    settings = training_settings(load("digits").config)
    assert not [key for key in settings if key.startswith("transfer.")]
    assert "data.split" not in settings
    changed = training_settings(load("digits", ["data.resize.stretch=true"]).config)
    assert "data.resize" in changed


def a_config(**transfer_section: object) -> Config:
    overrides = [f"transfer.{key}={value}" for key, value in transfer_section.items()]
    return load("resnet50_pets", overrides).config


def some_features(classes: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    x = random.standard_normal((count, 8)) + 2 * np.eye(8)[labels]
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_is_scikit_learns_with_the_best_on_held_out_images(
    classes: int,
) -> None:
    x, y = some_features(classes)
    fitted = fit_linear(x, y, classes, a_config(), NullListener())
    best = max(c.validation_accuracy for c in fitted.candidates)
    chosen = min(
        c.inverse_regularisation for c in fitted.candidates if c.validation_accuracy == best
    )
    expected = LogisticRegression(C=chosen, max_iter=2000).fit(x, y)
    assert fitted.linear.weight.shape == (classes, 8)
    np.testing.assert_array_equal(fitted.linear.classify(x), expected.predict(x))
    logits = x @ fitted.linear.weight.T + fitted.linear.bias
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, expected.predict_proba(x), atol=1e-4)


def test_adam_in_the_homeworks_order_is_its_loop_step_by_step() -> None:
    x, y = some_features(3)
    config = load(
        "resnet50_pets_homework", ["train.epochs=4", "train.batch_size=16", "seed=5"]
    ).config
    fitted = fit_linear(x, y, 3, config, NullListener())
    torch.manual_seed(5)
    layer = nn.Linear(8, 3)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.001)
    for _ in range(4):
        for i in range(0, len(x), 16):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(
                layer(torch.from_numpy(x[i : i + 16])), torch.from_numpy(y[i : i + 16])
            )
            loss.backward()
            optimizer.step()
    np.testing.assert_array_equal(fitted.linear.weight, layer.weight.detach().numpy())
    assert [e.epoch for e in fitted.history] == [1, 2, 3, 4]


def test_a_loss_that_is_not_finite_is_told() -> None:
    x, y = some_features(3)
    config = load("resnet50_pets_homework", ["train.epochs=1"]).config
    with pytest.raises(TrainingError, match=r"nan in epoch 1: .*train\.learning_rate"):
        fit_linear(x * np.float32("nan"), y, 3, config, NullListener())


def test_balanced_accuracy_counts_classes_and_not_images() -> None:
    labels, answers = np.array([0] * 9 + [1]), np.zeros(10, np.int64)
    assert balanced_accuracy(labels, answers, 2) == 0.5


def test_features_that_are_not_finite_are_refused(
    materials: Path, paths: Paths, tmp_path: Path
) -> None:
    state = load_file(materials / "weights.safetensors")
    state["conv_stem.weight"][:] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    settings = [*QUICK, f"transfer.weights={tmp_path / 'nan.safetensors'}"]
    with pytest.raises(TrainingError, match="not all finite"):
        train(load(str(materials / "tiny.yaml"), settings), paths, NullListener())


def test_a_probe_sets_both_kinds_of_batchnorm_beside_each_other(
    materials: Path, tiny_paths: Paths, bench
) -> None:
    loaded = load(str(materials / "tiny.yaml"), QUICK)
    probes = list(probe(loaded, tiny_paths.cache, NullListener()))
    assert [(p.batchnorm, p.classifier) for p in probes] == [
        ("running", "logistic"),
        ("running", "adam"),
        ("per_image", "logistic"),
        ("per_image", "adam"),
    ]
    assert [p.as_configured for p in probes] == [True, False, False, False]
    effects = batchnorm_effects(probes)
    assert [e.classifier for e in effects] == ["logistic", "adam"]
    for effect, running, per_image in zip(effects, probes[:2], probes[2:], strict=True):
        lost = running.record.test_correct - per_image.record.test_correct
        assert effect.only_per_image_wrong - effect.only_running_wrong == lost
        assert 0 <= effect.p_value <= 1
    assert "train-mode BatchNorm" in render_probes(probes, effects)
    rows = render_probes(probes, effects, markdown=True).splitlines()
    assert sum("| train mode " in row for row in rows) == 2
    quick = [f"--set={text}" for text in QUICK]
    shown = bench("probe", str(materials / "tiny.yaml"), "--json", *quick)
    assert shown.exit_code == 0, shown.output
    assert len(json.loads(shown.stdout)["probes"]) == 4


def test_a_network_without_batchnorm_has_no_second_kind(
    materials: Path, tiny_paths: Paths, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), weights)
    loaded = load(
        str(materials / "tiny.yaml"),
        [*QUICK, "model.args.arch=test_vit", f"transfer.weights={weights}"],
    )
    probes = list(probe(loaded, tiny_paths.cache, NullListener()))
    assert [(p.batchnorm, p.classifier) for p in probes] == [(None, "logistic"), (None, "adam")]
    assert batchnorm_effects(probes) == ()


def test_random_weights_are_not_probed(materials: Path, paths: Paths) -> None:
    loaded = load(str(materials / "tiny.yaml"), [*QUICK, "transfer.weights=none"])
    with pytest.raises(ConfigError, match="tiny: .*random weights"):
        list(probe(loaded, paths.cache, NullListener()))


def test_weights_are_told_apart_by_content(materials: Path, tmp_path: Path) -> None:
    weights = materials / "weights.safetensors"
    config = load(str(materials / "tiny.yaml")).config
    assert transfer.weights_identity(config) == file_sha256(weights)
    assert transfer.weights_identity(load("resnet50_pets").config) == "default"
    assert transfer.weights_identity(load("digits").config) is None
