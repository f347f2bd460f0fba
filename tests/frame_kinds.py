"""Every kind of frame: how it is made of columns, and what is in one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FrameKind:
    """A library's kind of frame.

    Attributes:
        name: For the test's id.
        needs: The packages it takes.
        make: Makes a frame of columns.
        returned: The type of a frame of results, and of a column of them.
        is_computed: Its rows are computed for each call, so results come back with them.
        text: The names of the type of text that a column of replies may have.
    """

    name: str
    needs: tuple[str, ...]
    make: Callable[[Mapping[str, list[Any]]], Any]
    returned: tuple[str, str]
    text: tuple[str, ...]
    is_computed: bool = False

    def __str__(self) -> str:
        return self.name


def columns_of(frame: Any) -> dict[str, list[Any]]:
    """The columns of a frame of results as plain lists, None where a value is missing."""
    if type(frame).__module__.startswith("pyarrow"):
        found: dict[str, list[Any]] = frame.to_pydict()
        return found
    if type(frame).__module__.startswith("polars"):
        return {name: frame[name].to_list() for name in frame.columns}
    return {name: values_of(frame[name]) for name in frame.columns}


def values_of(column: Any) -> list[Any]:
    """A column of results as a plain list."""
    if type(column).__module__.startswith("pyarrow"):
        found: list[Any] = column.to_pylist()
        return found
    if type(column).__module__.startswith("polars"):
        found = column.to_list()
        return found
    import pandas as pd

    return [None if pd.api.types.is_scalar(value) and pd.isna(value) else value for value in column.tolist()]


def text_type(column: Any) -> str:
    return str(column.type if type(column).__module__.startswith("pyarrow") else column.dtype)


def _pandas(columns: Mapping[str, list[Any]]) -> Any:
    import pandas as pd

    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def _pandas_arrow(columns: Mapping[str, list[Any]]) -> Any:
    import pandas as pd

    return _arrow(columns).to_pandas(types_mapper=pd.ArrowDtype)


def _polars(columns: Mapping[str, list[Any]]) -> Any:
    import polars as pl

    return pl.DataFrame(dict(columns))


def _arrow(columns: Mapping[str, list[Any]]) -> Any:
    import pyarrow as pa

    return pa.table(dict(columns))


def _duckdb(columns: Mapping[str, list[Any]]) -> Any:
    import duckdb

    connection = duckdb.connect()
    connection.register("given", _arrow(columns))
    return connection.sql("SELECT * FROM given")


_ARROW = ("Table", "ChunkedArray")
KINDS = [
    FrameKind("pandas", (), _pandas, ("DataFrame", "Series"), ("string",)),
    FrameKind("pandas, Arrow", ("pyarrow",), _pandas_arrow, ("DataFrame", "Series"), ("string",)),
    FrameKind("polars", ("polars",), _polars, ("DataFrame", "Series"), ("String",)),
    FrameKind("LazyFrame", ("polars",), lambda c: _polars(c).lazy(), ("DataFrame", "Series"), ("String",), True),
    FrameKind("Arrow", ("pyarrow",), _arrow, _ARROW, ("string", "large_string")),
    FrameKind("RecordBatch", ("pyarrow",), lambda c: _arrow(c).to_batches()[0], _ARROW, ("string", "large_string")),
    FrameKind("Arrow reader", ("pyarrow",), lambda c: _arrow(c).to_reader(), _ARROW, ("string", "large_string"), True),
    FrameKind("DuckDB", ("duckdb", "pyarrow"), _duckdb, _ARROW, ("string", "large_string"), True),
]
