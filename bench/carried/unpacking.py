"""What a bundle starts with: check every byte, unpack where temporary files go, run, clean up.

It is the bundle's ``__main__.py``, and imports the standard library alone.
"""

import hashlib
import json
import shutil
import signal
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

SCHEMA_VERSION = 1
"""Of bundles."""


def main() -> int:
    """Return the exit code of the bundle."""
    if sys.version_info < (3, 11):  # noqa: UP036 - it is run by whatever Python there is
        return _refuse(f"this bundle needs Python 3.11 or newer, this is {sys.version.split()[0]}")
    try:
        import numpy  # noqa: F401
    except ImportError:
        return _refuse("numpy is not installed here: python3 -m pip install numpy onnxruntime")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="foldbench-bundle-"))
        wrong = unpack(Path(sys.argv[0]), folder)
        if wrong is not None:
            return _refuse(wrong)
        sys.path.insert(0, str(folder / "code"))
        sys.dont_write_bytecode = True
        from foldbench.bench.carried.main import main as run

        return run(folder, sys.argv[1:])
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{where}{error.strerror or error}; TMPDIR names another place to unpack to")
    except KeyboardInterrupt:
        return 130
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def unpack(bundle: Path, folder: "Path | None") -> "str | None":
    """Return what is wrong with a bundle, None for nothing.

    What it holds is written into `folder`, if there is one.
    """
    again = "copy it here again"
    try:
        with zipfile.ZipFile(bundle) as archive:
            contents = json.loads(archive.read("contents.json"))
            if contents["schema_version"] != SCHEMA_VERSION:
                return (
                    f"{bundle.name} is a bundle of schema {contents['schema_version']}, and its "
                    f"reader knows {SCHEMA_VERSION}: make it again with one version of foldbench"
                )
            hashes = contents["sha256"]
            others = {*archive.namelist()} - {*hashes, "contents.json", "__main__.py"}
            if others:
                return f"{bundle.name}: {min(others)} does not belong to it: {again}"
            for name, expected in hashes.items():
                content = archive.read(name)
                if hashlib.sha256(content).hexdigest() != expected:
                    return f"{bundle.name}: {name} is not what was bundled: {again}"
                if folder is None:
                    continue
                path = folder / name
                if folder.resolve() not in path.resolve().parents:
                    return f"{bundle.name}: {name} is no name of a file in it: {again}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError) as error:
        return f"{bundle.name} is damaged ({' '.join(str(error).split())}): {again}"
    return None


def _refuse(reason: str) -> int:
    print(f"Error: {reason}", file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
