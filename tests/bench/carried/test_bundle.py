"""A bundle: whole or refused, verified before it is timed, and a record that reports take in."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from graphs import classifier
from onnx import save
from onnx.parser import parse_model

from builders import make_run
from foldbench.bench.carried.rows import Row, agreement
from foldbench.bench.carried.unpacking import unpack
from foldbench.bench.errors import RunError
from foldbench.bench.records import BetweenComparisons
from foldbench.bench.samples.ratios import ASSUMED_FREEDOM, assumed_sd
from foldbench.bench.stages.bundle import _code, _npy, _write, compute_truth
from foldbench.bench.store.finding import is_record, read_record
from foldbench.bench.workers.protocol import Job, Opened
from foldbench.exporters.onnx_double import run_in_onnxruntime

PARTS = {"manifest.json": b"{}", "code/a.py": b"pass\n" * 50}


def rewrite(bundle: Path, **changes: bytes) -> None:
    """Write the archive again with some of its files changed."""
    with zipfile.ZipFile(bundle) as archive:
        content = {name: archive.read(name) for name in archive.namelist()} | changes
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "net.pyz"
    _write(path, PARTS)
    return path


def test_a_whole_bundle_unpacks_to_what_was_put_in(bundle: Path, tmp_path: Path) -> None:
    assert unpack(bundle, tmp_path / "out") is None
    for name, content in PARTS.items():
        assert (tmp_path / "out" / name).read_bytes() == content


def test_a_changed_byte_anywhere_in_its_files_is_refused(bundle: Path, tmp_path: Path) -> None:
    data = bundle.read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        places = [info.header_offset + 40 for info in archive.infolist()[1:]]
    for place in places:
        bundle.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        told = unpack(bundle, tmp_path / "out")
        assert told is not None
        assert "\n" not in told


def test_files_that_were_exchanged_added_or_cut_are_refused(bundle: Path, tmp_path: Path) -> None:
    data, out = bundle.read_bytes(), tmp_path / "out"
    rewrite(bundle, **{"code/a.py": b"import os"})
    assert "code/a.py is not what was bundled" in str(unpack(bundle, out))
    bundle.write_bytes(data)
    rewrite(bundle, **{"../evil.py": b""})
    assert "does not belong to it" in str(unpack(bundle, out))
    bundle.write_bytes(data[: len(data) // 2])
    assert "damaged" in str(unpack(bundle, out))
    _write(bundle, {"../evil.py": b""})
    assert "no name of a file" in str(unpack(bundle, out))
    assert not (tmp_path / "evil.py").exists()


def test_a_bundle_of_a_newer_schema_is_refused(bundle: Path, tmp_path: Path) -> None:
    rewrite(bundle, **{"contents.json": b'{"schema_version": 2, "sha256": {}}'})
    assert "schema 2" in str(unpack(bundle, tmp_path / "out"))


ABOUT = {
    "contender": "ort/plain/cpu",
    "role": "contender",
    "backend": "ort",
    "variant": "plain",
    "device": "cpu",
    "file": "networks/network.onnx",
    "source_sha256": "0" * 64,
    "size_bytes": 100,
    "fixed_batch": None,
}


@pytest.mark.parametrize(
    ("precision", "error", "status"),
    [
        ("float32", 1e-5, "ok"),
        ("float32", 0.05, "failed"),
        ("float32", np.nan, "failed"),
        ("int8", 0.05, "ok"),
        ("int8", 5.0, "failed"),
    ],
)
def test_answers_that_are_wrong_there_take_a_row_out(
    tmp_path: Path, precision: str, error: float, status: str
) -> None:
    row, expected = Row(ABOUT, tmp_path), np.eye(4)
    row.opened = Opened("cpu", "fake", 1, precision, 0.0, 0.0)
    row.logits = (expected + error * np.roll(expected, 1, 1)).astype(np.float32)
    row.verify(expected)
    assert row.status == status


def test_agreement_is_counted_against_float64() -> None:
    found = agreement(np.array([[1, 0], [0.5, 1]], np.float32), np.array([[2.0, 0], [1, 0.5]]))
    assert (found["images"], found["top1_equal"]) == (2, 1)
    assert (found["max_abs_difference"], found["max_rel_difference"]) == (1.0, 0.5)


def test_the_truth_of_a_file_with_convolutions_and_a_fixed_batch_is_in_float64(
    tmp_path: Path,
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    given = classifier(batch=4, head="reshape")
    save(given, tmp_path / "network.onnx")
    job = Job(
        *("torch", "cpu", 1, "given", tmp_path, tmp_path / "network.onnx"),
        *(tmp_path / "images.npy", (0.5,) * 3, (0.5,) * 3, 5, 64),
        fixed_batch=4,
    )
    found = compute_truth(job, len(images))
    x = ((images / 255 - 0.5) / 0.5).astype(np.float32)
    rows = [[0, 1, 2, 3], [4, 5, 0, 1]]
    run = run_in_onnxruntime(given, ["scores"])
    wanted = np.concatenate([run(x[some])[0] for some in rows])[:6]
    assert found.dtype == np.float64
    assert 0 < np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, "subprocess.CompletedProcess"]:
    """A bundle of a tiny network that was run, and what it printed."""
    folder = tmp_path_factory.mktemp("bundle")
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,1,2,2] x) => (float[N,4] y) '
        "{ y = Flatten(x) }"
    )
    save(parse_model(text), folder / "network.onnx")
    images = np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)
    labels = np.array([3, 3, 0])
    template = make_run().model_dump(mode="json")
    template |= {
        "baseline": "ort/plain",
        "labels": labels.tolist(),
        "measurements": [],
        "ladder": [],
    }
    lacking = {**ABOUT, "contender": "ort/folded/cpu", "variant": "folded", "file": "networks/no"}
    settings = {"batch_sizes": [2], "rounds": 2, "budget_s": 20, "processes": 2, "calls": 5}
    manifest = {
        "title": "net",
        "file": "net.pyz",
        "protocol": template["evaluation_protocol"],
        "settings": {**settings, "block_s": 0.0, "settle_s": 0.0, "warm_up_s": 0.0, "seed": 0},
        **{"mean": [0.0], "std": [1.0], "classes": 4, "batch_size": 2},
        "rows": [
            ABOUT,
            {**ABOUT, "contender": "ort/other/cpu", "variant": "other"},
            lacking,
            {**ABOUT, "contender": "ort/plain/cpu again", "role": "again"},
        ],
        "record": template,
    }
    parts = {
        "manifest.json": json.dumps(manifest).encode(),
        "images.npy": _npy(images),
        "labels.npy": _npy(labels),
        "expected.npy": _npy(images.reshape(3, 4) / 255),
        "networks/network.onnx": (folder / "network.onnx").read_bytes(),
        **dict(_code()),
    }
    _write(folder / "net.pyz", parts)
    done = subprocess.run(
        [sys.executable, "-I", "net.pyz", "--output", "there.json", "--budget", "15s"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return folder / "there.json", done


def test_a_bundle_measures_and_writes_a_record_that_reports_take(measured) -> None:
    path, done = measured
    assert done.returncode == 1, done.stderr  # one of its rows has no file
    assert is_record(path)
    record = read_record(path)
    plain, other, lost, again = record.measurements
    assert (plain.status, other.status, lost.status, again.status) == ("ok", "ok", "failed", "ok")
    assert plain.accuracy is not None
    assert (plain.accuracy.correct, plain.accuracy.total) == (2, 3)
    assert plain.accuracy.agreement is not None
    assert plain.accuracy.agreement.top1_equal == 3
    (timing,) = plain.timings
    assert {block.process for block in timing.blocks} == {1, 2}
    assert (record.name, record.budget_s) == ("there", 15)
    assert record.environment["cores_usable"] >= 1
    assert "same class on 3 of 3" in done.stdout
    (of_other,) = other.timings
    assert timing.between_comparisons is None
    assert of_other.between_comparisons == BetweenComparisons(
        sd=assumed_sd(record.environment, "cpu"), freedom=ASSUMED_FREEDOM, comparisons=1
    )


def test_a_file_that_is_no_record_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    assert not is_record(tmp_path / "x.json")
    with pytest.raises(RunError, match="no run record"):
        read_record(tmp_path / "x.json")
