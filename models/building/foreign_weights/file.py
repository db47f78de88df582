"""Files of weights from elsewhere, read without running what is in them."""

import json
import pickle
import pickletools
import re
import shlex
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from foldbench.bench import units
from foldbench.bench.errors import CheckpointError, cut, listed, one_line
from foldbench.bench.store.files import is_zip

STATE_KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "state_dict_ema",
    "ema_state_dict",
    "model",
    "net",
    "module",
    "network",
    "ema",
    "model_ema",
    "params",
    "weights",
)
"""Under which names training code keeps a network's tensors."""
_ALLOWED = ".safetensors, or .pt, .pth, .ckpt and .bin files of torch.save"
_HEADER_BYTES = 512
_OTHER_FORMATS = {
    b"\x89HDF": "HDF5 (Keras)",
    b"GGUF": "GGUF",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"BZh": "compressed with bzip2: unpack it first",
    b"\xfd7zXZ": "compressed with xz: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"<": "a web page, not the file itself: fetch it again",
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""With which files of torch.save before 1.6 begin, as a pickle of its own."""
_PICKLE_BYTES = 64 * 1024**2
"""Of a pickle that is looked through: the tensors' values are elsewhere."""


def read_weights(path: Path) -> dict[str, Any]:
    """Return what the file holds, its tensors on the CPU as stored: a dictionary, maybe nested.

    .safetensors files, and files of torch.save that hold tensors, dictionaries, lists, numbers and
    text alone; the content decides, not the suffix. Raises CheckpointError for every other file.
    """
    start = _read_start(path)
    try:
        if is_zip(path) or start.startswith(b"PK\x03\x04"):
            _check_archive(path)
            return _read_saved(path)
        if start.startswith(b"\x80"):
            return _read_saved(path)
        if start[8:9] == b"{" or path.suffix == ".safetensors":
            return _read_safetensors(path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror or one_line(error, 120)})"
        ) from error
    raise CheckpointError(f"{path}: is {_name_format(start)}; allowed: {_ALLOWED}")


def _read_start(path: Path) -> bytes:
    """Return the first bytes; raise CheckpointError for what is no file of weights at all."""
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.is_file())
        holds = f"it holds {listed(inside, 5)}" if inside else "it holds no files"
        raise CheckpointError(f"{path}: is a folder ({holds}): give one file of weights")
    if not path.is_file():
        there = "is neither a file nor a folder" if path.exists() else "there is no such file"
        raise CheckpointError(f"{path}: {there}: give the path of a file of weights ({_ALLOWED})")
    try:
        with path.open("rb") as stream:
            start = stream.read(_HEADER_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if not start:
        raise CheckpointError(f"{path}: is empty: copy or save the weights again")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path}: is a pointer of Git LFS, not the file itself: fetch it (git lfs pull)"
        )
    if path.suffix in (".onnx", ".pt2"):
        raise CheckpointError(
            f"{path}: is a whole network, not a file of weights: give it as the network itself"
        )
    return start


def _name_format(start: bytes) -> str:
    """Return what a file that is not read seems to be."""
    for magic, name in _OTHER_FORMATS.items():
        if start.startswith(magic):
            return name
    if start.lstrip().startswith((b"{", b"[")):
        return "JSON (perhaps the index of several files: join them into one)"
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it first, or save it with a torch of 1.6 or later"
    return "neither safetensors nor a file of torch.save, or damaged"


def _damaged(path: Path, what: str, error: BaseException) -> CheckpointError:
    return CheckpointError(
        f"{path}: is no whole {what} ({one_line(error, 120)}): copy or save the weights again"
    )


def _read_safetensors(path: Path) -> dict[str, Any]:
    """Return every tensor by each of its names; the metadata tell those of a shared one."""
    state: dict[str, Any] = {}
    try:
        with safe_open(path, framework="pt") as stream:
            for name in stream.keys():  # noqa: SIM118 - it is no dictionary
                state[name] = stream.get_tensor(name)
            other_names = stream.metadata() or {}
    except (SafetensorError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        raise _damaged(path, ".safetensors file", error) from error
    for name, first in other_names.items():
        if first in state:
            state.setdefault(name, state[first])
    return state


def _check_archive(path: Path) -> None:
    """Raise CheckpointError unless a zip archive is one of torch.save that claims what it holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise _damaged(path, "file of torch.save", error) from error
    names = {entry.filename.partition("/")[2] or entry.filename for entry in entries}
    if "constants.pkl" in names:
        raise CheckpointError(
            f"{path}: is TorchScript (torch.jit.save), not a file of weights: save its tensors: "
            + _python(f"torch.save(torch.jit.load({_literal(path)}).state_dict(), {_target(path)})")
        )
    if "models/model.json" in names or "serialized_exported_program.json" in names:
        raise CheckpointError(
            f"{path}: is a program of torch.export, not a file of weights: give it as the network "
            "itself"
        )
    if "data.pkl" not in names:
        kind = "an .npz archive" if all(n.endswith(".npy") for n in names) else "a zip archive"
        raise CheckpointError(
            f"{path}: is {kind} ({listed(sorted(names), 3)}) and none of torch.save; "
            f"allowed: {_ALLOWED}"
        )
    claimed, held = sum(entry.file_size for entry in entries), path.stat().st_size
    if claimed > 4 * held + 2**20:
        raise CheckpointError(
            f"{path}: claims to hold {units.size(claimed)} in {units.size(held)}: save it with "
            "torch.save, which does not compress"
        )


def _read_saved(path: Path) -> dict[str, Any]:
    """Return what a file of torch.save holds, by weights_only=True."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # damaged files raise errors of every kind
        seen = _look_through(path)
        if seen is None or not isinstance(error, pickle.UnpicklingError):
            raise _damaged(path, "file of torch.save", error) from error
        match = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise CheckpointError(_describe_pickle(path, seen, match[1] if match else "")) from error
    if isinstance(content, Tensor) or not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: holds one {type(content).__name__}, not tensors by name: save "
            "network.state_dict()"
        )
    return content


@dataclass(frozen=True)
class _Pickle:
    """What a pickle is made of, found without running it."""

    root: str
    """The class of the whole, ``dict`` for dictionaries."""
    classes: frozenset[str]
    texts: frozenset[str]
    by_torch: bool
    """Whether torch.save wrote it."""


_DICTS = ("dict", "collections.OrderedDict", "collections.defaultdict")


def _describe_pickle(path: Path, seen: _Pickle, culprit: str) -> str:
    """Return why the file is not read, and the two statements that convert it."""
    reading = (
        f'torch.load({_literal(path)}, map_location="cpu", weights_only=False)'
        if seen.by_torch
        else f'pickle.load(open({_literal(path)}, "rb"))'
    )
    key = next((key for key in STATE_KEYS if key in seen.texts), None)
    part = "w" if seen.root != "dict" or key is None else f'w.get("{key}", w)'
    has_modules = any(name.startswith("torch.nn.modules.") for name in seen.classes)
    if seen.root != "dict" or (has_modules and key and "state" not in key):
        kept = f"{part}.state_dict()"
    else:
        arrays = 'type(v).__name__ in ("Tensor", "Parameter", "ndarray")'
        kept = f"{{k: torch.as_tensor(v) for k, v in {part}.items() if {arrays}}}"
    whole = seen.root not in ("dict", "list")
    holds = f"a whole {seen.root}" if whole else f"objects of {culprit or 'other classes'}"
    lines = _python(f"w = {reading}; torch.save({kept}, {_target(path)})")
    return (
        f"{path}: holds {cut(holds, 100)}, not tensors alone, and reading those can run code; "
        f"where you trust it, convert it in a place where its classes can be imported: {lines}"
    )


def _python(statement: str) -> str:
    imports = "pickle, torch" if "pickle." in statement else "torch"
    return f"python -c {shlex.quote(f'import {imports}; {statement}')}"


def _literal(path: Path) -> str:
    """Return Python's text for a path, in double quotes, which a shell's single ones may hold."""
    return json.dumps(str(path), ensure_ascii=False)


def _target(path: Path) -> str:
    return _literal(path.with_name(f"{path.stem}-weights.pt"))


def _look_through(path: Path) -> _Pickle | None:
    """Return what the file's pickle is made of, None when it is damaged."""
    try:
        if is_zip(path):
            with zipfile.ZipFile(path) as archive:
                name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
                with archive.open(name) as stream:
                    return _look_at(BytesIO(stream.read(_PICKLE_BYTES)), by_torch=True)
        with path.open("rb") as stream:
            arguments = [argument for _, argument, _ in pickletools.genops(stream)]
            by_torch = _LEGACY_MAGIC in arguments
            for _ in range(2 if by_torch else 0):  # the version, and sizes of types
                list(pickletools.genops(stream))
            if not by_torch:
                stream.seek(0)
            return _look_at(stream, by_torch)
    except Exception:  # genops raises errors of every kind for damaged bytes
        return None


def _look_at(stream: IO[bytes], by_torch: bool) -> _Pickle:
    made = list(_made(stream))
    classes = frozenset(name for kind, name in made if kind == "class")
    root = next((name for kind, name in made if kind != "text"), "nothing")
    return _Pickle(
        root="dict" if root in _DICTS else root,
        classes=classes,
        texts=frozenset(name for kind, name in made if kind == "text"),
        by_torch=by_torch,
    )


def _made(stream: IO[bytes]) -> Iterator[tuple[str, str]]:
    """Yield the classes, containers and texts of a pickle in their order."""
    texts: list[str] = []
    for code, argument, _ in pickletools.genops(stream):
        if code.name == "GLOBAL":
            yield "class", str(argument).replace(" ", ".")
        elif code.name == "STACK_GLOBAL":
            yield "class", ".".join(texts[-2:])
        elif code.name in ("EMPTY_DICT", "DICT"):
            yield "container", "dict"
        elif code.name in ("EMPTY_LIST", "LIST"):
            yield "container", "list"
        elif isinstance(argument, str):
            texts.append(argument)
            yield "text", argument
