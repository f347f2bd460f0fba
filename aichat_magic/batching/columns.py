"""Columns of results, before they are those of a frame library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """The values of a column, and their type.

    Attributes:
        values: The values in order; None where there is none.
        dtype: The type, as `schema.columns.Field` names it.
        categories: The categories of a ``category``, in order.
    """

    values: list[Any]
    dtype: str
    categories: tuple[Any, ...] = ()
