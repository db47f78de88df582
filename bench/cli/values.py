"""Values of options: durations, percentages, paths, lists, the shape of an input."""

import json
import os
import re
from math import isfinite
from typing import Any

import click

from foldbench.bench import units

_GAP = re.compile(r"(^|,)\s*,|,\s*$")
"""A place in a list where an item is missing."""
_PERCENT = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*(%?)")


class Percent(click.ParamType):
    """``5%`` or ``5``, as the share 0.05."""

    name = "percent"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the share that the text stands for."""
        match = _PERCENT.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no percentage: give one such as 5% or 2.5%", param, ctx)
        number = float(match[1])
        if 0 < number < 1 and not match[2]:
            self.fail(
                f"{value!r} may mean {units.plain(number)}% or {units.plain(100 * number)}%: "
                "write the % sign",
                param,
                ctx,
            )
        return number / 100


class InputShape(click.ParamType):
    """``CxHxW``, or ``HxW`` of three channels, as fields of the section data."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the fields that the text stands for, as JSON."""
        parts = str(value).lower().replace("×", "x").split("x")
        if len(parts) not in (2, 3) or not all(part.isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r}: write channels, height and width, such as 3x224x224")
        channels, height, width = (int(part) for part in (["3", *parts])[-3:])
        size = height if height == width else [height, width]
        return json.dumps({"image_size": size, "channels": channels})


class Seconds(click.ParamType):
    """A duration: a number of seconds, or one with the unit s, m or h."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds that the text stands for."""
        text = str(value).strip()
        factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
        try:
            seconds = float(text[:-1]) * factor if factor else float(text)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= 86400:
            self.fail(f"{value!r} is no duration: give seconds, or a number with s, m or h")
        return seconds


class Pauses(click.ParamType):
    """``0,1ms,1s`` as the YAML list of seconds."""

    name = "durations"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the list as YAML."""
        return json.dumps([Moment().convert(part, param, ctx) for part in value.split(",")])


class Moment(click.ParamType):
    """A short time: a number of seconds, or one with the unit us, ms or s."""

    name = "time"
    _UNITS = ("µs", 1e-6), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("", 1.0)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds that the text stands for."""
        text = str(value).strip()
        unit, factor = next((u, f) for u, f in self._UNITS if text.endswith(u))
        try:
            seconds = round(float(text.removesuffix(unit)) * factor, 9)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= 60:
            self.fail(f"{text!r} is no time: write such as 0, 10ms or 1s, up to 60s", param, ctx)
        return seconds


class NamedPath(click.Path):
    """A path; click's own type takes an empty one, as of an unset variable, for the current folder.

    Names that are not UTF-8 are refused: records and reports are.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path that the text stands for."""
        text = os.fsdecode(value)
        if not text.strip():
            self.fail("is empty: give a path (. is the current folder)", param, ctx)
        if not text.isprintable() and any("\udc80" <= c <= "\udcff" for c in text):
            self.fail(f"{text!r} is not UTF-8: rename it, or link to it", param, ctx)
        return super().convert(value, param, ctx)


class FiniteNumber(click.FloatRange):
    """A number in a range; click's own type lets ``nan`` into every range."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number that the text stands for."""
        number = float(super().convert(value, param, ctx))
        if not isfinite(number):
            self.fail(f"{value!r}: give a finite number", param, ctx)
        return number


class CommaList(click.ParamType):
    """``a,b`` as the YAML list ``[a,b]``."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the list as YAML."""
        if _GAP.search(value):
            self.fail(f"{value!r}: nothing stands before or after a comma: write such as a,b")
        return f"[{value}]"


class Counts(CommaList):
    """Whole numbers above 0, ``1,64``, as a YAML list."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the list as YAML."""
        if not all(part.strip().isdecimal() and int(part) for part in value.split(",")):
            self.fail(f"{value!r}: write such as 1,64", param, ctx)
        return super().convert(value, param, ctx)


class Count(Counts):
    """One whole number above 0, as a YAML list."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the list as YAML."""
        if "," in value:
            self.fail(f"{value!r}: one number is allowed, such as 1", param, ctx)
        return super().convert(value, param, ctx)


class BatchSizes(CommaList):
    """``1,64``, or ``auto`` for one image and a sweep from there, as fields of the section."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the fields as YAML."""
        if value.strip() == "auto":
            return "{batch_sizes: [1], calling: {sweep: true}}"
        return f"{{batch_sizes: {super().convert(value, param, ctx)}}}"


class AbsolutePath(NamedPath):
    """A path, made absolute so that it stays true."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the absolute path as YAML."""
        return json.dumps(_absolute(super().convert(value, param, ctx)))


class Weights(click.ParamType):
    """The name of weights, or the path of a file, made absolute so that it stays true."""

    name = "weights"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name or the absolute path as YAML."""
        from foldbench.bench.store.files import is_weights_file

        return json.dumps(_absolute(value) if is_weights_file(value) else value)


class Classes(click.ParamType):
    """How many classes, or the path of a list of their names, made absolute."""

    name = "classes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the number, or the absolute path, as YAML."""
        return value if value.isdecimal() else json.dumps(_absolute(value))


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
