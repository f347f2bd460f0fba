"""Cells of a column of prompts as rows of a run: texts, and conversations in every form that frames give them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..batching.options import Row
from ..core.errors import PromptError
from ..core.messages import Message, messages_from
from ..values.types import has_method
from .template import unreadable_row

# What makes a plain Python value of an array, a column or a scalar: numpy, pandas and torch; Arrow's arrays and
# scalars; polars. Types from outside are met by what they can do, so that no library is imported for them.
_TO_PLAIN = ("tolist", "to_pylist", "as_py", "to_list")


def rows_of(cells: Iterable[Any], is_missing: Callable[[Any], bool]) -> Iterator[Row]:
    """Yield the cells of a column as rows of a run.

    Args:
        cells: The cells in order.
        is_missing: Tells whether a cell is missing.
    """
    for position, value in enumerate(cells):
        yield value if isinstance(value, str) else None if is_missing(value) else _row_from(value, position)


def _row_from(value: Any, position: int) -> Row:
    """Return the row for a cell that is not text: a conversation, the value as text, or the error of the row."""
    try:
        plain = _plain(value)
        if _is_message(plain):
            return messages_from([plain])
        if not isinstance(plain, (list, tuple)):
            return None if plain is None else str(plain if isinstance(plain, str) else value)
        messages = messages_from(_message(item) for item in plain)
    except PromptError as error:
        return PromptError(f"Row {position} is no conversation: {error}")
    except Exception as error:
        return unreadable_row(position, error)
    return messages or PromptError(f"Row {position} is no conversation: it has no message.")


def _message(item: Any) -> Any:
    """Return a message of a conversation as a mapping, if it can be one."""
    item = _plain(item)
    is_map = isinstance(item, (list, tuple)) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in item
    )
    return dict(item) if is_map else item  # Arrow gives the maps of a column as lists of pairs


def _plain(value: Any) -> Any:
    """Return the Python value of an array, a column or a scalar; other values unchanged."""
    if isinstance(value, (str, list, tuple, Mapping, Message)):
        return value
    method = next((name for name in _TO_PLAIN if has_method(value, name)), None)
    return value if method is None else getattr(value, method)()


def _is_message(value: Any) -> bool:
    """Tell whether a cell is a single message."""
    return isinstance(value, Message) or (isinstance(value, Mapping) and "role" in value and "content" in value)
