"""Foreign text made harmless: it stays text in a terminal and in Markdown."""

import re
import unicodedata

_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that steer a terminal, reorder text or show nothing."""

_MARKUP = re.compile(r"([\\`*\[\]|~$#])")
_LOOSE_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def visible(text: str) -> str:
    """Return `text` on one line, with each control or invisible character as its escape."""
    return "".join(
        c if unicodedata.category(c) not in _UNSEEN else c.encode("unicode_escape").decode()
        for c in text
    )


def markdown(text: str) -> str:
    """Return `text` so that Markdown (a table cell included) shows it and interprets nothing."""
    escaped = _MARKUP.sub(r"\\\1", visible(text))
    escaped = _LOOSE_UNDERSCORE.sub(r"\\_", escaped)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def fence(text: str) -> str:
    """Return a run of backticks longer than any in `text`, to put around it as a code block."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)
