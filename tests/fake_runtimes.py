"""Made-up versions of onnxruntime: environments in the cache whose onnxruntime wraps the real one.

Imported as ``fake_runtimes``, like ``builders``.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from foldbench.bench.workers.runtimes import find_environment, python_of

Fault = Literal["answers", "refuses"]

_SHIM = """
import time
from pathlib import Path

__path__ = [{real!r}]
exec(compile((Path({real!r}) / "__init__.py").read_text(), {real!r} + "/__init__.py", "exec"))
__version__ = {version!r}


class _Session(InferenceSession):
    def __init__(self, path, *arguments, **options):
        if {fault!r} == "refuses":
            raise Exception("opset 20 is not supported")
        super().__init__(path, *arguments, **options)
        self.is_bad = {culprit!r} in Path(path).read_bytes()

    def run(self, *arguments, **options):
        outputs = super().run(*arguments, **options)
        time.sleep({pause_s})
        return [y * 1.5 for y in outputs] if self.is_bad and {fault!r} == "answers" else outputs


InferenceSession = _Session
"""


def make_runtime(
    cache: Path,
    version: str,
    fault: Fault | None = None,
    culprit: bytes = b"",
    pause_s: float = 0.0,
) -> Path:
    """Make onnxruntime `version`, which has a `fault` with files that hold `culprit`.

    Each call takes `pause_s` more.
    """
    environment = find_environment("onnxruntime", version, cache)
    python = python_of(environment)
    python.parent.mkdir(parents=True)
    python.symlink_to(sys._base_executable)
    home = Path(sys._base_executable).parent
    (environment / "pyvenv.cfg").write_text(f"home = {home}\n")
    number = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = environment / "lib" / number / "site-packages"
    real = find_spec("onnxruntime")
    assert real is not None
    assert real.origin is not None
    folder = Path(real.origin).parent
    module = packages / "onnxruntime" / "__init__.py"
    module.parent.mkdir(parents=True)
    told = {"real": str(folder), "version": version, "fault": fault, "culprit": culprit}
    module.write_text(_SHIM.format(**told, pause_s=pause_s))
    facts = packages / f"onnxruntime-{version}.dist-info" / "METADATA"
    facts.parent.mkdir()
    facts.write_text(f"Metadata-Version: 2.1\nName: onnxruntime\nVersion: {version}\n")
    (packages / "real.pth").write_text(f"{folder.parent}\n")
    return environment
