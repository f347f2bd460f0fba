"""The Markdown tables of a text as pandas DataFrames."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .code_blocks import blocks, outside

if TYPE_CHECKING:
    from pandas import DataFrame

_RULE = re.compile(r":?-+:?\Z")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?\Z")
# A code, not a number: 007, a postal code.
_LEADING_ZERO = re.compile(r"[-+]?0\d")
_MISSING = ("", "-", "\u2013", "\u2014", "n/a", "na", "nan", "none", "null")
_INLINE = re.compile(r"(\*\*|__|`)(?P<inside>.+?)\1")


def tables(text: str) -> list[DataFrame]:
    """Return all tables of a Markdown text, in order.

    Cells are texts without marks of emphasis. A column in which each cell is a number or missing becomes numbers; 007
    is not a number.

    Args:
        text: Markdown; tables inside of fences count only when the text has none outside.
    """
    found = _tables(outside(text))
    if not found:
        found = [table for block in blocks(text) for table in _tables(block.text.split("\n"))]
    if not found:
        return []
    import pandas as pd  # loaded only for a text with a table

    return [
        pd.DataFrame(dict(enumerate(columns))).set_axis(_unique(head), axis=1) for head, columns in map(_typed, found)
    ]


def _tables(lines: list[str]) -> list[list[list[str]]]:
    """Return the rows of each table, the headings first."""
    found: list[list[list[str]]] = []
    number = 1
    while number < len(lines):
        head, rule = lines[number - 1], lines[number]
        rules = _cells(rule) if "|" in head and "|" in rule else []
        width = len(rules)
        if rules and all(map(_RULE.match, rules)) and len(_cells(head)) == width:
            rows = [_cells(head)]
            number += 1
            while number < len(lines) and "|" in lines[number]:
                cells = _cells(lines[number])
                rows.append((cells + [""] * width)[:width])
                number += 1
            found.append(rows)
        number += 1
    return found


def _cells(line: str) -> list[str]:
    """Split a line into cells; a bar after a backslash is not a border."""
    line = line.strip().removeprefix("|")
    line = line[:-1] if line.endswith("|") and not line.endswith("\\|") else line
    return [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", line)]


def _typed(rows: list[list[str]]) -> tuple[list[str], list[list[object]]]:
    """Return the headings, and the values of each column."""
    head, *body = [[_INLINE.sub(r"\g<inside>", cell) for cell in row] for row in rows]
    return head, [_column([row[place] for row in body]) for place in range(len(head))]


def _column(cells: list[str]) -> list[object]:
    """Convert a column to numbers if all its cells are numbers or missing; else return the texts."""
    plain = [cell.replace(",", "") if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", cell) else cell for cell in cells]
    there = [cell for cell in plain if cell.lower() not in _MISSING]
    if not there or not all(_NUMBER.match(cell) and not _LEADING_ZERO.match(cell) for cell in there):
        return list(cells)
    is_whole = len(there) == len(plain) and all(cell.lstrip("+-").isdigit() for cell in there)
    if is_whole:
        return [int(cell) for cell in plain]
    return [float(cell) if cell.lower() not in _MISSING else float("nan") for cell in plain]


def _unique(head: list[str]) -> list[str]:
    """Make headings unique: a second ``n`` becomes ``n_2``."""
    seen: dict[str, int] = {}
    names = []
    for name in head:
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return names
