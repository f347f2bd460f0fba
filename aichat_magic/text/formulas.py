r"""Formulas in a text: LaTeX between its delimiters, and commands and indices of LaTeX without them.

It is decided by the text alone, and in doubt for what people write outside of formulas: ``${price}`` is an amount,
``data_{year}.csv`` a file name, ``C:\data\{name}`` a path.
"""

from __future__ import annotations

import re
from typing import Final

# No formula is longer: a delimiter without its partner must not cost the length of the text each time.
_MOST: Final = 2_000
_ENVIRONMENTS: Final = (
    "equation|align|aligned|alignat|gather|gathered|multline|eqnarray|math|displaymath|split|cases|array"
    "|[pbBvV]?matrix|smallmatrix"
)
_START: Final = re.compile(
    rf"""
      (?P<text>(?<![^\s"'`(])(?:[A-Za-z]:\\(?![A-Za-z]+\{{)|\.\.?\\)[^\s"'`]*   # a path on Windows
        | \\[$\\] | \\[ntr](?=\{{))                                       # an escaped character
    | (?P<formula>\$\$.{{1,{_MOST}}}?\$\$
        | \\\(.{{1,{_MOST}}}?\\\)
        | \\\[.{{1,{_MOST}}}?\\\]
        | \\begin\{{(?P<environment>(?:{_ENVIRONMENTS})\*?)\}}.{{0,{_MOST}}}?\\end\{{(?P=environment)\}}
        # As in Pandoc: no blank inside of the delimiters, and no digit after the second one; nor a name, as of a
        # variable of a shell. What begins with a placeholder is an amount.
        | \$(?![\s{{]|\Z)(?:\\.|[^$\\\n]|\n(?!\s*\n)){{1,{_MOST}}}?(?<!\s)\$(?![\w{{]))
    | (?P<command>\\[A-Za-z]+\*?(?=[\[{{_^]))
    # An index of one letter, with a prime perhaps, or of a bracket. After words and braces it is a part of a name.
    | (?P<script>\^(?=\{{) | (?:(?<=\b[^\W_])|(?<=\b[^\W_]')|(?<=[)\]]))_(?=\{{))
    """,
    re.VERBOSE | re.DOTALL,
)
_BRACE: Final = re.compile(r"\\.|[{}]", re.DOTALL)
_OPTION: Final = re.compile(r"\[[^\][\n]{0,200}\]")
_SCRIPT: Final = re.compile(r"[_^](?:[^\s{]|(?=\{))")


def formula_spans(text: str) -> list[tuple[int, int]]:
    """Return where the formulas of a text begin and end, in order.

    Args:
        text: Any text.
    """
    spans: list[tuple[int, int]] = []
    groups: dict[int, int] | None = None
    at = 0
    while found := _START.search(text, at):
        at = found.end()
        if found["command"] or found["script"]:
            groups = _groups(text) if groups is None else groups
            at = _end_of_arguments(text, at, groups)
        if found["text"] is None:
            spans.append((found.start(), at))
    return spans


def _groups(text: str) -> dict[int, int]:
    """Return the end of each group in braces by its beginning; those that are not closed are left out."""
    groups: dict[int, int] = {}
    opened: list[int] = []
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif brace[0] == "}" and opened:
            groups[opened.pop()] = brace.end()
    return groups


def _end_of_arguments(text: str, at: int, groups: dict[int, int]) -> int:
    """Return where the arguments and indices of a command end: groups in brackets and braces, one after the other."""
    while True:
        if end := groups.get(at):
            at = end
        elif found := _OPTION.match(text, at) or _SCRIPT.match(text, at):
            at = found.end()
        else:
            return at
