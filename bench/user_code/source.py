"""Where a network comes from that is not one of foldbench's own: what a text such as net.py:Net
means, without opening anything."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from foldbench.bench.errors import cut

SourceForm = Literal["code", "torchvision", "timm", "onnx", "program", "memory"]

FORMS = (
    "FILE.py:NAME, PACKAGE.MODULE:NAME, torchvision:NAME, timm:NAME, FILE.onnx or FILE.pt2, "
    "such as net.py:MyNet"
)
_SUFFIXES: dict[str, SourceForm] = {".onnx": "onnx", ".pt2": "program"}
_LIBRARIES: tuple[SourceForm, ...] = ("torchvision", "timm")
_ATTRIBUTE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class SourceText:
    """What the text that names a network says."""

    form: SourceForm
    location: str
    """A path, the name of a module, or of a library's network."""
    attribute: str = ""
    """Which class, function or module in it, for code."""

    @property
    def is_file(self) -> bool:
        """Whether `location` is a path."""
        return self.form in ("onnx", "program") or self.location.endswith(".py")

    @property
    def name(self) -> str:
        """A short name for it: MyNet, resnet18, or the file's name without the suffix."""
        if self.form in ("onnx", "program"):
            return PurePath(self.location).stem
        return self.attribute.rpartition(".")[2] or self.location

    def absolute(self, base: Path) -> str:
        """Return the text with a path that stays true; a relative one is relative to `base`."""
        if not self.is_file:
            return f"{self.location}:{self.attribute}" if self.attribute else self._of_library()
        path = (base / Path(self.location).expanduser()).absolute()
        return f"{path}:{self.attribute}" if self.attribute else str(path)

    def _of_library(self) -> str:
        return f"{self.form}:{self.location}"


def parse_source(text: str) -> SourceText:
    """Return what `text` means; raise ValueError when it is none of the forms."""
    found = _parse(text)
    if found is None:
        raise ValueError(f"found {cut(text, 80)!r}; allowed: {FORMS}")
    return found


def is_source(text: str) -> bool:
    """Return whether `text` has the form of a network's source; a run or configuration has not."""
    return _parse(text) is not None


def _parse(text: str) -> SourceText | None:
    form = _SUFFIXES.get(PurePath(text).suffix.lower())
    if form is not None:
        return SourceText(form, text)
    location, colon, attribute = text.rpartition(":")
    if not colon or not location or not attribute:
        return None
    if location in _LIBRARIES:
        return SourceText("timm" if location == "timm" else "torchvision", attribute)
    if location == "memory":  # as the Python API names a module that it was given
        return SourceText("memory", attribute)
    named = location.endswith(".py") or _MODULE.fullmatch(location)
    if named and _ATTRIBUTE.fullmatch(attribute):
        return SourceText("code", location, attribute)
    return None
