"""A percentage on the command line."""

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
