"""Truncation of values that are too large, and notes that say which part is shown."""

from __future__ import annotations

import collections
import itertools
from typing import Any

from .types import is_instance_of, type_name

_WHOLE_CONTAINER = 1_000
_LARGE_ARRAY = 8
_MAX_DEPTH = 20
CONTAINERS = (list, tuple, set, frozenset, dict, collections.deque)
VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
BRACKETS: dict[Any, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    dict: ("{", "}"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


def cut_to(text: str, budget_bytes: int) -> tuple[str, str]:
    """Cut a text to a budget, which includes the note about the cut.

    Args:
        text: Any text.
        budget_bytes: Maximum size of the result, in bytes of UTF-8.

    Returns:
        The text, and which part of it that is, such as ``"first 100 of 2,000 characters"``; empty when it is whole.
    """
    if len(text) * 4 <= budget_bytes:
        return text, ""
    data = text[: budget_bytes + 1].encode("utf-8", "surrogatepass")
    if len(data) <= budget_bytes:
        return text, ""
    note = f"\n[cut: the first {{}} of {len(text):,} characters]"
    limit = max(0, budget_bytes - len(note) - 12)
    kept = data[:limit].decode("utf-8", "ignore")
    return f"{kept}{note.format(f'{len(kept):,}')}"[:budget_bytes], f"first {len(kept):,} of {len(text):,} characters"


def first_of(count: int, total: int, what: str) -> str:
    """Return which part of `total` is shown, as ``"first 20 of 1,000 rows"``; empty when it is all."""
    return f"first {count:,} of {total:,} {what}" if count < total else ""


def in_words(cut: str) -> str:
    """Return such a part as the end of a title."""
    return f"; shown: {'the ' if cut.startswith('first') else ''}{cut}" if cut else ""


def cut_lines(*cuts: str) -> list[str]:
    """Return the lines below a table that say which parts of it are shown."""
    parts = [f"the {cut}" for cut in cuts if cut]
    return ["", f"({' and '.join(parts)} shown)"] if parts else []


def container_text(value: Any, budget: int) -> tuple[str, str]:
    """Return the `repr` of a container; of a long one, the first items and the number of the others."""
    writer = BoundedRepr(max(0, budget - 100))  # leaves space for the note after the last item
    if type(value) in BRACKETS:
        text, count = writer.container(value)
    elif len(value) <= _WHOLE_CONTAINER:
        return str(value), ""
    else:
        # Types whose repr has a name: deque([...]), Counter({...}), dict_keys([...]).
        some = itertools.islice(value.items() if isinstance(value, dict) else value, budget)
        text, count = writer.container(dict(some) if isinstance(value, dict) else list(some), len(value))
        text = f"{type(value).__name__}({text})"
    return text, first_of(count, len(value), "items") or ("long values shortened" if writer.is_cut else "")


class BoundedRepr:
    """`repr` with a budget: it stops when the budget is used up, however large a value is.

    Attributes:
        is_cut: Whether something was left out.
    """

    def __init__(self, budget: int) -> None:
        """Create one with an approximate budget, in characters."""
        self._left = budget
        self.is_cut = False
        self._above: set[int] = set()

    def container(self, value: Any, total: int = 0) -> tuple[str, int]:
        """Return the text of a container, and the number of its items in the text.

        Args:
            value: A container of one of the types of `BRACKETS`.
            total: Number of items in all, if `value` holds only the first of them.
        """
        if not value:
            return repr(value), 0
        self._above.add(id(value))
        opener, closer = BRACKETS[type(value)]
        parts: list[str] = []
        for item in value.items() if type(value) is dict else value:
            if self._left <= 0:
                break
            self._left -= 4 if type(value) is dict else 2
            parts.append(": ".join(map(self.text, item)) if type(value) is dict else self.text(item))
        self._above.discard(id(value))
        more = max(total, len(value)) - len(parts)
        self.is_cut = self.is_cut or more > 0
        comma = "," if type(value) is tuple and len(value) == 1 else ""
        end = f", … {more:,} more items" if more else comma
        return f"{opener}{', '.join(parts)}{end}{closer}", len(parts)

    def text(self, value: Any) -> str:
        """Return the text of any value inside a container."""
        if type(value) not in BRACKETS:
            text = self._atom(value)
        elif id(value) in self._above or len(self._above) >= _MAX_DEPTH:
            text, self.is_cut = "...", True
        else:
            return self.container(value)[0]
        self._left -= len(text)
        return text

    def _atom(self, value: Any) -> str:
        if isinstance(value, (str, bytes, bytearray)):
            limit = max(self._left, 0)
            if len(value) <= limit:
                return repr(value)
            self.is_cut = True
            return f"{value[:limit]!r}…"
        if _is_large_data(value):
            return f"<{type_name(value)} of shape {tuple(value.shape)}>"
        if isinstance(value, CONTAINERS) and len(value) > _WHOLE_CONTAINER:
            return f"<{type_name(value)} of {len(value):,} items>"
        return repr(value)


def _is_large_data(value: Any) -> bool:
    """Tell whether a value inside a container is better named than shown."""
    is_table = is_instance_of(value, "pandas", "DataFrame", "Series") or is_instance_of(value, "polars", "DataFrame")
    return is_table or (is_instance_of(value, "numpy", "ndarray") and value.size > _LARGE_ARRAY)
