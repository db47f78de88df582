"""Values of options: a percentage, the shape of an input."""

import json
import re
from typing import Any

import click

from foldbench.bench import units

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
