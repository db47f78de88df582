"""Files of weights: which are read, and what is said of those that are not."""

import io
import json
import pickle
import shlex
import zipfile
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from foldbench.bench.errors import CheckpointError
from foldbench.bench.store.files import is_weights_file
from foldbench.models.building.foreign_weights import fit_weights, read_weights


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


STATE = dict(net().state_dict())


def refuse(path: Path, *words: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    for word in words:
        assert word in text
    return text


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.ckpt", "w.bin", "w", "w.weights"])
@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_save_are_read_whatever_they_are_called(
    name: str, zipped: bool, tmp_path: Path
) -> None:
    path = tmp_path / name
    torch.save({"model": STATE, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    content = read_weights(path)
    assert content["epoch"] == 3
    assert all(torch.equal(content["model"][name], value) for name, value in STATE.items())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_safetensors_are_read_whatever_they_are_called(name: str, tmp_path: Path) -> None:
    save_file(STATE, tmp_path / name)
    content = read_weights(tmp_path / name)
    assert content.keys() == STATE.keys()
    assert content["1.num_batches_tracked"].dtype == torch.int64


class Exploding:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


def saved(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


OLD = {"_use_new_zipfile_serialization": False}
PICKLES: dict[str, tuple[Callable[[], bytes], str]] = {
    "arguments beside the state": (
        lambda: saved({"state_dict": STATE, "args": Namespace(lr=1)}),
        "argparse.Namespace",
    ),
    "an old file with arguments": (
        lambda: saved({"model": STATE, "args": Namespace(lr=1)}, **OLD),
        "argparse.Namespace",
    ),
    "a number of numpy": (lambda: saved({**STATE, "best": np.float64(1)}), "numpy"),
    "arrays": (lambda: saved({n: v.numpy() for n, v in STATE.items()}), "numpy"),
    "a whole network": (lambda: saved(net()), "Sequential"),
    "an old whole network": (lambda: saved(net(), **OLD), "Sequential"),
    "a whole network under a name": (lambda: saved({"model": net(), "epoch": 3}), "torch.nn"),
    "plain pickle": (lambda: pickle.dumps({n: v.numpy() for n, v in STATE.items()}), "pickle.load"),
    "plain pickle under a name": (
        lambda: pickle.dumps({"model": {n: v.numpy() for n, v in STATE.items()}}, protocol=2),
        "pickle.load",
    ),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_what_needs_pickle_is_refused_with_what_converts_it(kind: str, tmp_path: Path) -> None:
    make, words = PICKLES[kind]
    path = tmp_path / "it's mine.pt"
    path.write_bytes(make())
    text = refuse(path, words, "python -c")
    code = shlex.split(text[text.index("python -c") :])[2]
    exec(code, {})
    fitted = fit_weights(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
                         tmp_path / "it's mine-weights.pt")  # fmt: skip
    assert all(torch.equal(fitted.state[name], value) for name, value in STATE.items())


@pytest.mark.parametrize("options", [{}, OLD])
def test_nothing_in_a_pickle_is_run(options: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pt"
    for content in (saved({"a": Exploding()}, **options), pickle.dumps(Exploding())):
        path.write_bytes(content)
        refuse(path, "can run code")
    assert [p.name for p in tmp_path.iterdir()] == ["w.pt"]


def archive(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    return stream.getvalue()


def bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("w/data.pkl", b"\x80\x02}.")
        file.writestr("w/data/0", bytes(2**26))
    return stream.getvalue()


def scripted() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(net().eval(), torch.ones(1, 3, 8, 8)), stream)
    return stream.getvalue()


def header(tensor: dict[str, Any]) -> bytes:
    text = json.dumps({"a": {"dtype": "F32", **tensor}}).encode()
    return len(text).to_bytes(8, "little") + text


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
OTHERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.pt": (lambda: b"", "empty"),
    "empty.safetensors": (lambda: b"", "empty"),
    "pointer.pt": (lambda: POINTER, "Git LFS"),
    "pointer.safetensors": (lambda: POINTER, "Git LFS"),
    "text.pt": (lambda: b"hello world", "neither safetensors nor"),
    "page.pth": (lambda: b"<!DOCTYPE html><html>", "web page"),
    "keras.h5": (lambda: b"\x89HDF\r\n\x1a\n", "HDF5"),
    "shards.json": (lambda: b'{"weight_map": {}}', "JSON"),
    "w.pt.gz": (lambda: b"\x1f\x8b\x08\x00", "gzip"),
    "net.onnx": (lambda: b"\x08\x0a", "whole network"),
    "script.pt": (scripted, "TorchScript"),
    "program.pt": (lambda: archive("p/archive_format", "p/models/model.json"), "torch.export"),
    "arrays.npz": (lambda: archive("a.npy", "b.npy"), "npz"),
    "photos.zip": (lambda: archive("a.jpg"), "zip archive (a.jpg)"),
    "bomb.pt": (bomb, "claims to hold 64.0 MiB"),
    "cut.pt": (lambda: saved(STATE)[:-300], "no whole file of torch.save"),
    "old cut.pt": (lambda: saved(STATE, **OLD)[:-30], "no whole file of torch.save"),
    "list.pt": (lambda: saved([torch.ones(3)]), "one list"),
    "tensor.pt": (lambda: saved(torch.ones(3)), "one Tensor"),
    "short.safetensors": (
        lambda: header({"shape": [9], "data_offsets": [0, 36]}),
        "no whole .safetensors file",
    ),
    "huge.safetensors": (
        lambda: header({"shape": [2**40], "data_offsets": [0, 2**42]}),
        "no whole .safetensors file",
    ),
    "header.safetensors": (lambda: (2**60).to_bytes(8, "little") + b"{}", "no whole .safetensors"),
    "nonsense.safetensors": (lambda: b"nonsense" * 9, "no whole .safetensors file"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_file_that_holds_no_weights_is_one_line(name: str, tmp_path: Path) -> None:
    make, words = OTHERS[name]
    path = tmp_path / name
    path.write_bytes(make())
    refuse(path, words)


def test_folders_and_what_is_not_there_are_one_line(tmp_path: Path) -> None:
    refuse(tmp_path, "is a folder", "holds no files")
    (tmp_path / "model.safetensors").touch()
    refuse(tmp_path, "it holds model.safetensors")
    refuse(tmp_path / "nope.pt", "there is no such file")
    refuse(Path("/dev/null"), "neither a file nor a folder")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from([saved(STATE), saved({"model": STATE}, **OLD)]),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    end=st.floats(0.05, 1),
)
def test_damage_anywhere_is_a_checkpoint_error_or_harmless(
    kind: bytes, cuts: list[tuple[float, int]], end: float, tmp_path: Path
) -> None:
    content = bytearray(kind[: int(end * len(kind))])
    for place, value in cuts:
        content[int(place * (len(content) - 1))] = value
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with suppress(CheckpointError):  # nothing else
        fit_weights(net(), path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("my.pt", True), ("my.ckpt", True), ("a.SafeTensors", True), ("folder/w", True),
     ("default", False), ("none", False), ("IMAGENET1K_V1", False)],
)  # fmt: skip
def test_files_are_told_from_names(text: str, expected: bool) -> None:
    assert is_weights_file(text) == expected


def test_a_file_that_is_there_is_a_file(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("weights", "default"):
        (tmp_path / name).touch()
        assert is_weights_file(name) == (name == "weights")
