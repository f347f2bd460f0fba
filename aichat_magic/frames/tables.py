"""A frame or a column of any library as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import BadInputError
from ..values.types import is_instance_of, type_name
from .table import DataTable


def table_of(data: Any, n_rows: int | None = None) -> DataTable:
    """Return a frame or a column as a table. Frames that are a plan, such as a LazyFrame, are collected.

    Args:
        data: A frame or a column of pandas, or of a library that narwhals or Arrow knows.
        n_rows: Number of rows to collect, from the first; None: all.

    Raises:
        BadInputError: It is neither, or has two columns of one name.
    """
    if is_instance_of(data, "pandas", "DataFrame", "Series"):
        from .pandas_table import PandasTable

        table: DataTable = PandasTable(data)
        return table if n_rows is None else table.head(n_rows)
    if data is None or isinstance(data, (str, bytes, list, tuple, Mapping)):
        raise BadInputError(
            f"This takes a table or a column (pandas, polars, Arrow, DuckDB), not {type_name(data)}. "
            "For a list of prompts use batch(...)."
        )
    from .narwhals_table import narwhals_table

    return narwhals_table(data, n_rows)
