"""Records that were edited or damaged: refused in one line, and no reason to hide the others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from builders import make_accuracy, make_artifact, make_row, make_run
from foldbench.bench.cli import cli
from foldbench.bench.errors import BackendError, ConfigError, RunError
from foldbench.bench.measure.samples import read_samples
from foldbench.bench.predict.image_model import find_image_model
from foldbench.bench.records import Opening, Row, Timed, Warmed
from foldbench.bench.store.consistency import find_fault
from foldbench.bench.store.directory import RunDirectory, create_run
from foldbench.bench.store.files import json_sha256
from foldbench.models.building.network import build_model

LABELS = tuple(n % 10 for n in range(100))
TOP1 = tuple(n % 10 if n < 90 else (n + 1) % 10 for n in range(100))


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run with a record in which every answer is stored: 90 of 100 are right."""
    accuracy = make_accuracy(90, 100).model_copy(update={"top1": TOP1})
    rows = (make_row("torch", "unfolded", accuracy=accuracy), make_row("ort", "folded"))
    rows = (rows[0], rows[1].model_copy(update={"accuracy": accuracy}))
    run = create_run(tmp_path / "runs", "bn_cnn", {})
    record = make_run(measurements=rows, labels=LABELS)
    assert find_fault(record) is None
    run.write_results(record)
    run.write_checkpoint(record.checkpoint)
    return run


def edit(path: Path, keys: str, value: Any) -> None:
    """Set what lies at `keys`, such as ``a.0.b``, in a JSON file."""
    content = json.loads(path.read_text())
    *above, last = [int(key) if key.isdecimal() else key for key in keys.split(".")]
    part = content
    for key in above:
        part = part[key]
    part[last] = value(part[last]) if callable(value) else value
    path.write_text(json.dumps(content))


BLOCK = "measurements.0.timings.0.blocks.0"
EDITS: list[tuple[str, Any]] = [
    ("measurements.0.accuracy.correct", 95),
    ("measurements.0.accuracy.correct", 101),
    ("measurements.0.accuracy.correct", -1),
    ("measurements.0.accuracy.correct", None),
    ("measurements.0.accuracy.correct", 90.5),
    ("measurements.0.accuracy.total", 99),
    ("measurements.0.accuracy.total", 0),
    ("measurements.0.accuracy.total", -100),
    ("measurements.0.accuracy.top1", [1, 2, 3]),
    ("measurements.0.accuracy.top1.0", 1),
    ("measurements.0.accuracy.top1.0", -1),
    ("measurements.0.accuracy.top1.0", "a"),
    ("labels.0", 1),
    ("labels.0", 10),
    ("labels.0", -1),
    ("labels", [0, 1]),
    ("labels", []),
    (f"{BLOCK}.samples_s.0", 0),
    (f"{BLOCK}.samples_s.0", -1),
    (f"{BLOCK}.samples_s.0", float("nan")),
    (f"{BLOCK}.samples_s.0", float("inf")),
    (f"{BLOCK}.samples_s.0", None),
    (f"{BLOCK}.samples_s.0", "fast"),
    (f"{BLOCK}.samples_s", []),
    (f"{BLOCK}.round", -1),
    (f"{BLOCK}.run_delay_ratio", float("nan")),
    (f"{BLOCK}.run_delay_ratio", -0.5),
    ("measurements.0.timings.0.blocks", []),
    ("measurements.0.timings.0.batch_size", 0),
    ("measurements.0.timings.0.batch_size", -4),
    ("measurements.0.timings.0.first_call_s", float("inf")),
    ("measurements.0.open_s", -1),
    ("measurements.0.open_s", float("nan")),
    ("measurements.0.size_bytes", -1),
    ("measurements.0.peak_memory_bytes", -1),
    ("measurements.0.status", "fine"),
    ("measurements.0.requested_device", "tpu"),
    ("measurements", 5),
    ("measurements.0", None),
    ("rounds", -1),
    ("budget_s", float("nan")),
    ("foreign_load_cores", float("inf")),
    ("environment.cores_usable", "two"),
    ("environment.memory_bytes", [1]),
    ("environment.load_1min", {}),
    ("environment.cpu", 5),
    ("environment", 5),
    ("environment.environment_variables", 5),
    ("checkpoint.config.seed", 99),
    ("checkpoint.config", {}),
    ("checkpoint.config_sha256", "0" * 64),
    ("checkpoint.config_sha256", "zero"),
    ("checkpoint.preprocessing.mean", [0.1, 0.1, 0.1]),
    ("checkpoint.preprocessing.std", [0.1, 0.1, 0.1]),
    ("checkpoint.preprocessing.input_shape", [3, 8, 8]),
    ("checkpoint.parameter_count", -1),
    ("schema_version", 2),
    ("data.test_count", -1),
    ("created", 5),
    ("name", None),
]


@pytest.mark.parametrize(("keys", "value"), EDITS, ids=[f"{k}={v}"[:60] for k, v in EDITS])
def test_a_record_that_was_edited_is_refused_in_one_line(
    run: RunDirectory, keys: str, value: Any
) -> None:
    edit(run.path / "results.json", keys, value)
    result = CliRunner().invoke(cli, ["report", run.name, "--runs", str(run.path.parent)])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {run.path / 'results.json'}")
    assert result.output.count("\n") == 1


def test_the_record_as_it_was_written_is_shown(run: RunDirectory) -> None:
    result = CliRunner().invoke(cli, ["report", run.name, "--runs", str(run.path.parent)])
    assert (result.exit_code, "90.00 %" in result.output) == (0, True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"5",
        b'"text"',
        b"\xff\xfe",
        b"{}" * 2,
        b"\0" * 64,
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("name", ["results.json", "checkpoint.json", "run.json"])
def test_a_file_with_other_content_is_one_line(
    run: RunDirectory, name: str, content: bytes
) -> None:
    (run.path / name).write_bytes(content)
    read: dict[str, Callable[[], object]] = {
        "results.json": run.results,
        "checkpoint.json": run.checkpoint,
        "run.json": run.meta,
    }
    with pytest.raises(RunError, match=name) as caught:
        read[name]()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "meta", [{"config": 5}, {"config": None}, {"training_key": 5}, {"config_name": []}]
)
def test_a_run_whose_description_was_edited_is_named_and_not_found_again(
    run: RunDirectory, meta: dict[str, Any]
) -> None:
    (run.path / "run.json").write_text(json.dumps(meta))
    with pytest.raises(RunError, match=r"run\.json"):
        run.meta()
    assert not run.has_key("")


def test_the_description_of_another_version_is_kept(run: RunDirectory) -> None:
    meta = {"config_name": "a", "training_key": "b", "config": {"seed": 1}, "more": 2}
    run.write_meta(meta)
    assert run.meta() == meta


@pytest.mark.parametrize(
    ("keys", "value"),
    [("preprocessing.mean", [0.1] * 3), ("config.seed", 99), ("config_sha256", "0" * 64)],
)
def test_a_checkpoint_that_was_edited_is_not_exported(
    run: RunDirectory, keys: str, value: Any
) -> None:
    edit(run.path / "checkpoint.json", keys, value)
    with pytest.raises(RunError, match="contradicts itself"):
        run.checkpoint()


ARTIFACT_EDITS: list[tuple[str, Any]] = [
    ("path", "../../elsewhere.onnx"),
    ("path", "/etc/passwd"),
    ("path", "C:\\other.onnx"),
    ("path", ""),
    ("size_bytes", 0),
    ("size_bytes", -1),
    ("export_s", -1),
    ("batchnorm_nodes", -1),
    ("fold.batchnorms_after", 99),
    (
        "fold.agreement",
        {"images": 5, "top1_equal": 6, "max_abs_difference": 0, "max_rel_difference": 0},
    ),
    ("parity.cases.0.passed", False),
    ("parity.cases.0.error", 1.0),
    ("parity.cases.0.error", None),
    ("parity.cases.0.error", float("nan")),
]


@pytest.mark.parametrize(("keys", "value"), ARTIFACT_EDITS)
def test_an_artifact_that_was_edited_is_refused(run: RunDirectory, keys: str, value: Any) -> None:
    run.write_artifact(make_artifact("folded"))
    assert run.artifacts()
    edit(run.path / "artifacts.json", f"0.{keys}", value)
    with pytest.raises(RunError, match=r"artifacts\.json"):
        run.artifacts()


IMAGE_MODEL = {
    "artifact_sha256": make_artifact("folded").sha256,
    "variant": "folded",
    "path": "artifacts/folded.image.onnx",
    "sha256": "0" * 64,
    "size_bytes": 100,
    "images": 6,
    "top1_equal": 6,
    "max_difference": 0.01,
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("path", "../folded.image.onnx"),
        ("top1_equal", 7),
        ("top1_equal", -1),
        ("images", 0),
        ("max_difference", 0.4),
        ("max_difference", float("nan")),
        ("max_difference", "small"),
        ("artifact_sha256", "f" * 64),
    ],
)
def test_an_image_model_that_was_edited_is_refused(run: RunDirectory, key: str, value: Any) -> None:
    run.write_artifact(make_artifact("folded"))
    path = run.path / "image_model.json"
    path.write_text(json.dumps(IMAGE_MODEL))
    assert find_image_model(run) is not None
    edit(path, key, value)
    with pytest.raises(BackendError):
        find_image_model(run)


@pytest.fixture
def log(run: RunDirectory) -> RunDirectory:
    """The run's comparison as it is after its first block."""
    record = run.results()
    row = record.measurements[0]
    timing = row.timings[0]
    where: dict[str, Any] = {
        "contender": row.contender,
        "batch_size": timing.batch_size,
        "boundary": "host",
    }
    opening = Opening(
        identity={
            "weights": json_sha256(record.checkpoint.sha256),
            "images": json_sha256(record.evaluation_sha256),
        },
        record=record.model_copy(update={"measurements": ()}),
        ablation=False,
    )
    lines = (
        opening,
        Row(measurement=row.model_copy(update={"timings": ()})),
        Warmed(**where, first_call_s=1, calls=3, converged=True, call_s=1, turn_s=1, tuning=None),
        Timed(**where, settle_calls=1, block=timing.blocks[0]),
    )
    run.samples.write_text("".join(f"{line.model_dump_json()}\n" for line in lines))
    samples = read_samples(run.samples)
    assert samples is not None
    assert samples.has_figures()
    return run


@pytest.mark.parametrize(
    ("line", "keys", "value"),
    [
        (0, "record.evaluation_sha256", "1" * 64),
        (0, "record.checkpoint.sha256", "f" * 64),
        (0, "record.checkpoint.config.seed", 99),
        (0, "record.labels.0", 1),
        (1, "measurement.accuracy.correct", 95),
        (1, "measurement.accuracy.top1.0", 1),
        (1, "measurement.contender", "ort/other"),
        (2, "batch_size", 99),
        (2, "call_s", -1),
        (3, "contender", "ort/other"),
        (3, "block.samples_s.0", -1),
        (3, "block.samples_s.0", float("nan")),
        (3, "block.samples_s", []),
    ],
)
def test_a_log_that_was_edited_is_refused(
    log: RunDirectory, line: int, keys: str, value: Any
) -> None:
    lines = log.samples.read_text().splitlines()
    part = log.path / "line.json"
    part.write_text(lines[line])
    edit(part, keys, value)
    lines[line] = part.read_text()
    log.samples.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunError, match=r"samples\.jsonl"):
        read_samples(log.samples)


@pytest.fixture
def two(run: RunDirectory) -> Path:
    """Two compared runs, one of them damaged."""
    other = run.path.with_name("cnn-001")
    shutil.copytree(run.path, other)
    shutil.rmtree(other / "comparisons")
    edit(other / "results.json", f"{BLOCK}.samples_s.0", -1)
    return run.path.parent


def call(two: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--runs", str(two)])


@pytest.mark.parametrize("command", ["list", "history", "report"])
def test_one_damaged_run_does_not_hide_the_others(two: Path, command: str) -> None:
    result = call(two, command)
    assert result.exit_code == 0
    assert "bn_cnn" in result.stdout
    if command == "list":
        assert "results.json damaged" in result.stdout
    else:
        assert "cnn-001/results.json" in result.stderr


def test_a_damaged_run_that_was_named_is_an_error(two: Path) -> None:
    assert call(two, "report", "cnn-001").exit_code == 1


@pytest.mark.parametrize("command", ["history", "report"])
def test_where_all_are_damaged_that_is_the_error(two: Path, command: str) -> None:
    shutil.rmtree(two / "bn_cnn-001")
    assert call(two, command).exit_code == 1


@pytest.mark.parametrize(
    "args",
    [
        {"norm": "group", "groups": 0},
        {"norm": "group", "groups": -1},
        {"norm": "group", "groups": 7},
        {"norm": "group", "groups": "many"},
        {"norm": "group", "groups": None},
        {"norm": "nosuch"},
        {"norm": None},
        {"nosuch": 1},
    ],
)
def test_a_network_that_cannot_be_built_is_one_line(args: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        build_model("bn_cnn", args, 10, (3, 32, 32))
    assert "\n" not in str(caught.value)
