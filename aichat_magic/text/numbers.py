"""Numbers, sizes and amounts of money in words."""

from __future__ import annotations

import math


def money(cost_usd: float | None) -> str:
    """Format US dollars: ``$0.0012``, ``$3.20``, or ``unknown`` for None."""
    return "unknown" if cost_usd is None else f"${decimals(cost_usd)}"


def decimals(number: float) -> str:
    """Format a number with at least two significant digits, and no more than two decimals where these suffice."""
    if not number or not math.isfinite(number):
        return f"{number:g}"
    places = max(2, 1 - math.floor(math.log10(abs(number))))
    return f"{number:,.{min(places, 12)}f}"


def time_span(seconds: float) -> str:
    """Format a time in its two largest units, rounded up: ``42 s``, ``7 min``, ``3 h 20 min``, ``2 d 1 h``."""
    left = math.ceil(seconds)
    if left < 60:
        return f"{left} s"
    minutes = math.ceil(left / 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join([f"{count} {unit}" for count, unit in parts if count][:2])


def byte_size(n_bytes: int) -> str:
    """Format a size: ``98 MB``, ``4.7 GB``, ``12 kB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= 0.9995 * factor:
            size = n_bytes / factor
            return f"{size:.1f} {unit}" if unit == "GB" and size < 99.95 else f"{size:,.0f} {unit}"
    return f"{n_bytes} bytes"
