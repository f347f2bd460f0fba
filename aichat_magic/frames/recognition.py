"""Frames recognised by their class, without importing a library, computing rows or running code of other values."""

from __future__ import annotations

from typing import Any

from ..values.types import is_instance_of


def is_frame(value: Any) -> bool:
    """Tell whether a value is a frame that a run can be over."""
    return (
        is_instance_of(value, "pandas", "DataFrame")
        or is_instance_of(value, "polars", "DataFrame", "LazyFrame")
        or is_instance_of(value, "pyarrow", "Table", "RecordBatch", "RecordBatchReader")
        or is_instance_of(value, "duckdb", "DuckDBPyRelation")
        or is_instance_of(value, "_duckdb", "DuckDBPyRelation")
        or any("__narwhals_dataframe__" in vars(cls) for cls in type(value).__mro__)
    )


def column_names(frame: Any) -> list[Any]:
    """Return the names of a frame's columns.

    Args:
        frame: A frame, as `is_frame` tells.
    """
    if is_instance_of(frame, "pyarrow", "Table", "RecordBatch", "RecordBatchReader"):
        return list(frame.schema.names)
    if is_instance_of(frame, "polars", "LazyFrame"):
        return list(frame.collect_schema().names())
    return list(frame.columns)
