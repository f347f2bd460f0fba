"""The HTML elements that replies, notes and tables are made of, and the colours in them.

Styles are inline: the sanitizer of JupyterLab, through which the outputs of an untrusted notebook go, removes <style>
and the values var(...), and VS Code has other variables.
"""

from __future__ import annotations

import re
from html import escape

from .characters import printable_line, terminal_text

# Fixed colours of medium lightness. Each has a contrast of 3.8 or more on white and on #1e1e1e.
RED, ORANGE, GREEN, TEAL = "#d94e4a", "#b96a1a", "#249048", "#118b96"
BLUE, PURPLE, GRAY = "#277ee0", "#ad5cc9", "#7e7e7e"

# MathJax typesets what it finds in an element's text. These classes keep it out of everything but formulas, which have
# classes of their own (class names of MathJax 2 and 3, documentation of `ignoreClass` and `ignoreHtmlClass`).
_NO_MATH = "tex2jax_ignore mathjax_ignore"
# JupyterLab gives `pre` no margin, breaks its lines anywhere, and gives `code` a background. Only `code` itself can set
# `white-space`.
_PRE = (
    '<pre dir="ltr" style="overflow-x:auto;margin:0.7em 0;padding:0.6em 0.8em;word-break:normal;'
    'background-color:rgba(128, 128, 128, 0.1)"><code style="background-color:rgba(0, 0, 0, 0);white-space:{space}">'
)
_CODE = _PRE.format(space="pre")
_PLAIN = _PRE.format(space="pre-wrap")
# A notebook that is converted to Markdown keeps this HTML, and in Markdown a blank line ends HTML: code in a reply
# would be parsed again, and its images fetched. A line feed as a character reference looks the same and ends nothing.
_BLANK_LINE = re.compile(r"\n(?=[^\S\n]*(?:\n|\Z))")


def output_html(body: str, css_class: str = "") -> str:
    """Put HTML into the element of an output, which cuts off what would be painted outside of it.

    Args:
        body: Safe HTML.
        css_class: A class for the element, with a space after it; empty: none.
    """
    body = _BLANK_LINE.sub("&#10;", body)
    return f'<div class="{css_class}{_NO_MATH}" dir="auto" style="overflow-x:auto;overflow-y:hidden">{body}</div>'


def code_html(body: str) -> str:
    """Put HTML into a code block, whose lines are not wrapped.

    Args:
        body: Escaped code, perhaps coloured.
    """
    return f"{_CODE}{body}</code></pre>\n"


def plain_html(text: str) -> str:
    """Return any text as HTML that shows it letter by letter, with wrapped lines."""
    return f"{_PLAIN}{escape(terminal_text(text))}</code></pre>\n"


def small_html(line: str) -> str:
    """Return a line of plain text as HTML, small and pale: for headers and footers."""
    return f'<div style="opacity:0.7;font-size:smaller">{escape(printable_line(line))}</div>'


def warning_html(line: str) -> str:
    """Return a line of plain text as HTML, small and marked as a warning."""
    return (
        f'<div style="font-size:smaller"><strong style="color:{ORANGE}">⚠ {escape(printable_line(line))}</strong></div>'
    )


def fold_html(label: str, body: str, *, is_open: bool = False) -> str:
    """Put HTML into a block that a click opens and closes, small and pale, with a line at its left.

    Args:
        label: What stands beside its triangle, as plain text.
        body: Safe HTML; empty: there is only the label.
        is_open: Whether it is open.
    """
    inner = f'<div style="border-left:2px solid {GRAY};padding-left:0.8em;opacity:0.7">{body}</div>' if body else ""
    summary = f'<summary style="opacity:0.7;cursor:pointer">{escape(printable_line(label))}</summary>'
    return f'<details{" open" * is_open} style="font-size:smaller;margin-bottom:0.7em">{summary}{inner}</details>'


def cell_tag(tag: str, side: str, more: str = "") -> str:
    """Return the opening tag of a table cell. Every cell needs its alignment: JupyterLab aligns cells to the right.

    Args:
        tag: ``td`` or ``th``.
        side: ``left``, ``center`` or ``right``.
        more: Further CSS, with a semicolon before it.
    """
    return f'<{tag} style="text-align:{side};padding:0.2em 0.7em{more}">'
