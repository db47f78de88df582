"""Numbers as people read them: the only place that rounds. None and not-a-number become ``""``."""

from collections.abc import Mapping
from math import floor, isfinite, log10
from typing import TypeGuard


def _significant(value: float, digits: int = 3) -> str:
    """Return `value` to `digits` significant digits, never rounded above its units."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - floor(log10(abs(value))))
    rounded = round(value, decimals)
    if rounded:  # 9.996 has become 10.0: one decimal fewer
        decimals = max(0, digits - 1 - floor(log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def _exists(value: float | None) -> TypeGuard[float]:
    return value is not None and isfinite(value)


def milliseconds(value_s: float | None) -> str:
    """Return seconds as a number of milliseconds, three significant digits."""
    return _significant(value_s * 1e3) if _exists(value_s) else ""


def seconds(value_s: float | None) -> str:
    """Return seconds as a number of seconds, three significant digits."""
    return _significant(value_s) if _exists(value_s) else ""


def duration(value_s: float | None) -> str:
    """Return seconds with the unit that suits them: ``934 µs``, ``2.01 ms``, ``1.50 s``."""
    if not _exists(value_s):
        return ""
    for limit_s, factor, unit in ((0.9995e-3, 1e6, "µs"), (0.9995, 1e3, "ms")):
        if abs(value_s) < limit_s:
            return f"{_significant(value_s * factor)} {unit}"
    return f"{_significant(value_s)} s"


def rate(value_per_s: float | None) -> str:
    """Return a number per second: three significant digits, zeros after those."""
    if not _exists(value_per_s):
        return ""
    if abs(value_per_s) >= 1000:
        magnitude = floor(log10(abs(value_per_s))) - 2
        value_per_s = round(value_per_s, -magnitude)
    return _significant(value_per_s)


def giga(value: float | None) -> str:
    """Return a number of billions, three significant digits."""
    return _significant(value / 1e9) if _exists(value) else ""


def mega(value: float | None) -> str:
    """Return a number of millions, three significant digits."""
    return _significant(value / 1e6) if _exists(value) else ""


def long_duration(value_s: float | None) -> str:
    """Return seconds as what a person waits for: ``48 s``, ``17 min``, ``2 h 05 min``."""
    if not _exists(value_s):
        return ""
    if value_s < 119.5:
        return f"{value_s:.0f} s"
    minutes = round(value_s / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def percent(share: float | None) -> str:
    """Return a share of 1 as a number of percent, two decimals, without the sign."""
    return f"{share * 100:.2f}" if _exists(share) else ""


def share(value: float | None) -> str:
    """Return a share of 1 as it is, six decimals: what a network gives a class."""
    return f"{value:.6f}" if _exists(value) else ""


def points(difference: float | None) -> str:
    """Return a difference of two shares in percentage points, signed, two decimals."""
    if not _exists(difference):
        return ""
    text = f"{difference * 100:+.2f}"
    return "0.00" if float(text) == 0 else text


def ratio(value: float | None) -> str:
    """Return a ratio, three significant digits; ``1`` for exactly one."""
    if not _exists(value):
        return ""
    return "1" if value == 1 else _significant(value)


def estimate(value: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    """Return a ratio and its 95 % interval, both to the decimals that the interval supports.

    Half the interval's width keeps one digit, so ``2.1`` and ``2.0–2.2`` but ``1.08`` and
    ``1.07–1.10``; at least one decimal, and at most two or two digits of a small ratio, since no
    difference within 3 % is called one. Without an interval the ratio has three significant digits.
    """
    if not (_exists(value) and _exists(low) and _exists(high)) or value == 1 == low == high:
        return ratio(value), ""
    half = (high - low) / 2
    most = max(2, 1 - floor(log10(value))) if value > 0 else 2
    decimals = min(max(-floor(log10(half)), 1), most) if half > 0 else most
    return f"{value:,.{decimals}f}", f"{low:,.{decimals}f}–{high:,.{decimals}f}"


def best_case_ratio(value: float | None) -> str:
    """Return a ratio of fastest calls, marked as no speed-up."""
    return f"≈{_significant(value)} (best case)" if _exists(value) else ""


def span(low: str, high: str) -> str:
    """Return two rendered numbers as an interval, or blank when either is."""
    return f"{low}–{high}" if low and high else ""


def whole(value: float | None) -> str:
    """Return a number without decimals, thousands separated: MHz, watts, queries."""
    return f"{value:,.0f}" if _exists(value) else ""


def error(value: float | None) -> str:
    """Return a small error in scientific notation, three significant digits; exact zero as 0."""
    if not _exists(value):
        return ""
    return "0" if value == 0 else f"{value:.2e}"


def short_error(value: float | None) -> str:
    """Return a small error to two significant digits, without a needless zero: ``1e-05``."""
    return f"{value:.1e}".replace(".0e", "e") if _exists(value) else ""


def change(ratio_less_one: float | None) -> str:
    """Return a relative change as a number of percent, signed, one decimal."""
    return f"{ratio_less_one * 100:+.1f}" if _exists(ratio_less_one) else ""


def pause(value_s: float) -> str:
    """Return a pause as a user writes it: ``10 ms``, ``1 s``."""
    return f"{value_s:g} s" if value_s >= 1 else f"{value_s * 1e3:g} ms"


def probability(value: float | None) -> str:
    """Return a probability, three significant digits, scientific below a thousandth."""
    if not _exists(value):
        return ""
    if value < 1e-3:
        return "below 1e-300" if value < 1e-300 else f"{value:.2e}"
    return _significant(value)


def loss(value: float | None) -> str:
    """Return a training loss, four decimals as the homework prints it."""
    return f"{value:.4f}" if _exists(value) else ""


def loss_difference(value: float | None) -> str:
    """Return a difference of two losses, signed, four decimals."""
    return f"{value:+.4f}" if _exists(value) else ""


def learning_rate(value: float | None) -> str:
    """Return a learning rate, three significant digits, with an exponent where it is tiny."""
    return f"{value:.3g}" if _exists(value) else ""


def size(value_bytes: int | None) -> str:
    """Return bytes as B, KiB, MiB or GiB, three significant digits."""
    if value_bytes is None:
        return ""
    if value_bytes < 1024:
        return f"{value_bytes} B"
    scaled = float(value_bytes)
    for unit in ("KiB", "MiB"):
        scaled /= 1024
        if scaled < 999.5:
            return f"{_significant(scaled)} {unit}"
    return f"{_significant(scaled / 1024)} GiB"


def count(value: int | None) -> str:
    """Return a whole number with thousands separated."""
    return f"{value:,}" if value is not None else ""


def out_of(part: int | None, whole: int | None) -> str:
    """Return how many of how many, such as ``9/10``."""
    return "" if part is None or whole is None else f"{count(part)}/{count(whole)}"


def plain(value: object) -> str:
    """Return a configuration value as text: True as on, 0.0005 as 0.0005, a list with commas."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(part) for part in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={plain(part)}" for key, part in value.items())
    return "none" if value is None else str(value)


def verdict(value: str | None, is_claimed: bool = True) -> str:
    """Return a verdict as tables show it, blank where there is none.

    One that is not claimed would not stand among all verdicts of its table.
    """
    if value in ("faster", "slower") and not is_claimed:
        return f"{value} (unadjusted)"
    return "not significant" if value == "no difference resolved" else value or ""


def boundary(value: str) -> str:
    """Return a boundary for a column that is blank from host to host, the usual one."""
    return "" if value == "host" else value


def shortened(value: float) -> float:
    """Return a number with five significant digits."""
    return float(f"{value:.5g}")


def by_name(name: str, value: float | int | str) -> str:
    """Return a number in the unit its name carries: ``_ratio`` as percent, ``_s``, ``_count``."""
    if isinstance(value, str):
        return value
    if name.endswith("_ratio"):
        return f"{value * 100:.1f} %"
    if name.endswith("_s"):
        return duration(value)
    return count(int(value)) if name.endswith("_count") else _significant(float(value))
