"""Every name that a command takes: the text of `bench list`."""

from collections.abc import Mapping

from foldbench.reports.text.escaping import visible


def render_listing(found: Mapping[str, Mapping[str, str]]) -> str:
    """Return each kind's names with one line about each, ending in a newline."""
    lines = []
    for kind, entries in found.items():
        width = max((len(visible(name)) for name in entries), default=0)
        lines.append(f"{kind}:")
        lines += [f"  {visible(name):{width}}  {text}" for name, text in entries.items()]
        if not entries:
            lines.append("  none yet: bench train NAME makes one")
    return "\n".join(lines) + "\n"
