"""Two small charts as SVG: a histogram and a growing count."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape

# Two charts fit side by side into a narrow notebook.
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 264, 110, 36, 18, 16
# Readable on white and on black. A style sheet does not reach into an image, so the elements hold their colours.
_INK, _MARK = "#808080", "#4c8bbf"


def image(svg: str, *, alt: str) -> str:
    """Embed a chart in an ``<img>`` element.

    Front ends that sanitize the outputs of an untrusted notebook remove the shapes of an ``<svg>`` element and leave
    its labels behind as stray words.

    Args:
        svg: The chart; empty gives an empty result.
        alt: Description, for places where it cannot be seen.
    """
    if not svg:
        return ""
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{escape(alt)}" width="{_WIDTH}" height="{_HEIGHT}" src="data:image/svg+xml;base64,{data}">'


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the values that this share of them does not exceed.

    Args:
        values: At least one.
        share: 0 to 1.
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def histogram(values: Sequence[float], *, title: str, unit: str, n_bars: int = 24) -> str:
    """Draw a histogram, from 0 to the 99th percentile; larger values are counted in the last bar.

    Args:
        values: Any numbers >= 0.
        title: Title of the chart.
        unit: Unit of the values, for the axis.
        n_bars: Number of bars.

    Returns:
        An ``<svg>`` element; empty when there is no value.
    """
    if not values:
        return ""
    top = quantile(values, 0.99) or max(max(values), 1e-9)
    counts = [0] * n_bars
    for value in values:
        counts[min(n_bars - 1, int(value / top * n_bars))] += 1
    most = max(counts)
    step = (_WIDTH - _LEFT) / n_bars
    bars = "".join(
        f'<rect x="{_LEFT + number * step:.1f}" y="{_y(count / most):.1f}" width="{step - 1:.1f}" '
        f'height="{_y(0) - _y(count / most):.1f}" fill="{_MARK}"/>'
        for number, count in enumerate(counts)
        if count
    )
    return _frame(bars, title=title, left="0", right=f"{top:.3g} {unit}", top=str(most))


def line(xs: Sequence[float], *, title: str, unit: str, n_points: int = 100) -> str:
    """Draw a count that grows by one at each of `xs`.

    Args:
        xs: Times at which it grows, >= 0, sorted.
        title: Title of the chart.
        unit: Unit of `xs`, for the axis.
        n_points: Maximum number of points of the line.

    Returns:
        An ``<svg>`` element; empty when there are fewer than two.
    """
    if len(xs) < 2:
        return ""
    end = xs[-1] or 1e-9
    picked = sorted({round(number * (len(xs) - 1) / (n_points - 1)) for number in range(n_points)})
    points = " ".join(
        f"{_LEFT + xs[number] / end * (_WIDTH - _LEFT):.1f},{_y((number + 1) / len(xs)):.1f}" for number in picked
    )
    body = f'<polyline points="{_LEFT},{_y(0):.1f} {points}" fill="none" stroke="{_MARK}" stroke-width="2"/>'
    return _frame(body, title=title, left="0", right=f"{end:.3g} {unit}", top=str(len(xs)))


def _y(share: float) -> float:
    return _TOP + (1 - share) * (_HEIGHT - _TOP - _BOTTOM)


def _frame(body: str, *, title: str, left: str, right: str, top: str) -> str:
    """Add axes, labels and a title."""
    text = f'font-family="sans-serif" font-size="10" fill="{_INK}"'
    base = _y(0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
        f'<text x="{_LEFT}" y="10" {text} font-weight="bold">{title}</text>'
        f'<path d="M{_LEFT} {_TOP}V{base}H{_WIDTH}" fill="none" stroke="{_INK}" stroke-width="1"/>'
        f'<text x="{_LEFT - 4}" y="{_TOP + 8}" {text} text-anchor="end">{top}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 5}" {text}>{left}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 5}" {text} text-anchor="end">{right}</text>'
        f"{body}</svg>"
    )
