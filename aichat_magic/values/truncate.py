"""A part of what is too large to be shown whole, and the words that say which part."""

from __future__ import annotations

import collections
import itertools
from typing import Any

from .kinds import is_of, kind_of

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
    """A text inside a budget, the note that it is cut included.

    Args:
        text: Any text.
        budget_bytes: Most bytes of the result in UTF-8.

    Returns:
        The text, and in words how much of it that is; no words when it is whole.
    """
    if len(text) * 4 <= budget_bytes:
        return text, ""
    data = text[: budget_bytes + 1].encode("utf-8", "surrogatepass")
    if len(data) <= budget_bytes:
        return text, ""
    note = f"\n[cut: the first {{}} of {len(text):,} characters]"
    room = max(0, budget_bytes - len(note) - 12)
    kept = data[:room].decode("utf-8", "ignore")
    return f"{kept}{note.format(f'{len(kept):,}')}"[:budget_bytes], f"first {len(kept):,} of {len(text):,} characters"


def first_of(count: int, total: int, what: str) -> str:
    """Which part of `total` is shown, as ``"first 20 of 1,000 rows"``; empty when it is all."""
    return f"first {count:,} of {total:,} {what}" if count < total else ""


def in_words(cut: str) -> str:
    """The same at the end of a title."""
    return f"; shown: {'the ' if cut.startswith('first') else ''}{cut}" if cut else ""


def cut_lines(*cuts: str) -> list[str]:
    """A line below a table that says what of it is shown."""
    told = [f"the {cut}" for cut in cuts if cut]
    return ["", f"({' and '.join(told)} shown)"] if told else []


def container_text(value: Any, budget: int) -> tuple[str, str]:
    """A list, a dict and their like as Python shows them; of a long one the first items and how many more there are."""
    plain = Plain(max(0, budget - 100))  # the words after the last item need their place, too
    if type(value) in BRACKETS:
        text, count = plain.top(value)
    elif len(value) <= _WHOLE_CONTAINER:
        return str(value), ""
    else:
        # What has a longer name than its brackets: deque([...]), Counter({...}), dict_keys([...]).
        some = itertools.islice(value.items() if isinstance(value, dict) else value, budget)
        text, count = plain.top(dict(some) if isinstance(value, dict) else list(some), len(value))
        text = f"{type(value).__name__}({text})"
    return text, first_of(count, len(value), "items") or ("long values shortened" if plain.is_cut else "")


class Plain:
    """Writes values as `repr` does, but stops when the budget is used up, however large they are."""

    def __init__(self, budget: int) -> None:
        """Begin with as many characters as the text may have, about."""
        self._left = budget
        self.is_cut = False
        self._above: set[int] = set()

    def top(self, value: Any, total: int = 0) -> tuple[str, int]:
        """The text of a container, and how many of its items are in it. `total`: how many it stands for."""
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
        """Any value inside a container."""
        if type(value) not in BRACKETS:
            text = self._atom(value)
        elif id(value) in self._above or len(self._above) >= _MAX_DEPTH:
            text, self.is_cut = "...", True
        else:
            return self.top(value)[0]
        self._left -= len(text)
        return text

    def _atom(self, value: Any) -> str:
        if isinstance(value, (str, bytes, bytearray)):
            room = max(self._left, 0)
            if len(value) <= room:
                return repr(value)
            self.is_cut = True
            return f"{value[:room]!r}…"
        if _is_large_data(value):
            return f"<{kind_of(value)} of shape {tuple(value.shape)}>"
        if isinstance(value, CONTAINERS) and len(value) > _WHOLE_CONTAINER:
            return f"<{kind_of(value)} of {len(value):,} items>"
        return repr(value)


def _is_large_data(value: Any) -> bool:
    """Whether it is better named than shown when it stands inside something else."""
    is_table = is_of(value, "pandas", "DataFrame", "Series") or is_of(value, "polars", "DataFrame")
    return is_table or (is_of(value, "numpy", "ndarray") and value.size > _LARGE_ARRAY)
