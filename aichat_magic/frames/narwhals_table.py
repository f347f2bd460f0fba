"""Frames and columns of all libraries but pandas as tables: polars, Arrow, DuckDB, and what else narwhals knows."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import narwhals as nw

from ..batching.columns import TypedColumn
from ..batching.run import BatchRun, check_names
from ..chat import chat
from ..core.errors import BadInputError, MissingExtraError
from ..values.types import type_name
from .table import REPLY, VECTOR, DataTable

_DTYPES: dict[str, nw.dtypes.DType] = {
    "string": nw.String(),
    "Int64": nw.Int64(),
    "Float64": nw.Float64(),
    "boolean": nw.Boolean(),
    "datetime64[us]": nw.Datetime("us"),
}
# Where a frame says which of its error columns a run has written: an attribute, or metadata of Arrow's schema.
_ERROR_COLUMNS = "_aichat_error_columns"


class NarwhalsTable(DataTable):
    """A frame or a column. There is no index: results have the order of the rows."""

    def __init__(self, rows: nw.DataFrame[Any] | nw.Series[Any], *, is_collected: bool = False) -> None:
        """Create a table.

        Args:
            rows: The frame or the column.
            is_collected: Whether the rows were computed for this run. A column alone could then not be put beside
                them, since computing them again may give another order; so results come back with the rows.
        """
        self._rows = rows
        self._is_collected = is_collected
        self.is_column = isinstance(rows, nw.Series)

    @property
    def native(self) -> Any:
        """Return the frame or the column of the library."""
        return self._rows.to_native()

    @property
    def names(self) -> Sequence[Hashable]:
        """Return the names of the columns, in order."""
        return [self._rows.name] if isinstance(self._rows, nw.Series) else self._rows.columns

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def cells(self, position: int) -> Iterable[Any]:
        """Return the cells of a column as Python values."""
        rows = self._rows
        column = rows if isinstance(rows, nw.Series) else rows.get_column(rows.columns[position])
        return column.to_list()

    def is_missing(self, value: Any) -> bool:
        """Tell whether a cell is missing: null or NaN."""
        return value is None or (isinstance(value, (float, Decimal)) and value != value)

    def head(self, n: int) -> NarwhalsTable:
        """Return the first rows."""
        return NarwhalsTable(self._rows.head(n), is_collected=self._is_collected)

    def check_results(self, names: Iterable[str]) -> None:
        """Check that results may stand beside the rows, if they come back with them."""
        if self._is_collected and (taken := [name for name in names if name in self.names]):
            raise BadInputError(
                f"The result comes back with the rows, and they have a column called {taken[0]!r} already. Rename it "
                "first."
            )

    def with_texts(self, texts: list[str | None]) -> Any:
        """Return a column of text, or the rows with the column ``reply``."""
        name = self._rows.name if isinstance(self._rows, nw.Series) else REPLY
        column = self._series(name, TypedColumn(texts, "string"))
        return self._beside([column]) if self._is_collected else column.to_native()

    def with_vectors(self, vectors: Sequence[Any], positions: Sequence[int]) -> Any:
        """Return a column of lists of one length, or the rows with the column ``vector``."""
        name = self._rows.name if isinstance(self._rows, nw.Series) else VECTOR
        length = next((len(vector) for vector in vectors if vector is not None), 0)
        dtype: Any = nw.Array(nw.Float32(), length) if length else nw.List(nw.Float32())
        values = [None if vector is None else vector.tolist() for vector in vectors]
        column = nw.new_series(name, values, dtype, backend=self._rows.implementation)
        return self._beside([column]) if self._is_collected else column.to_native()

    def with_frame(self, columns: Mapping[str, TypedColumn]) -> Any:
        """Return a frame of the same library, or the rows with these columns."""
        if self._is_collected:
            return self._beside([self._series(name, column) for name, column in columns.items()])
        return self.make_frame(columns)

    @property
    def make_frame(self) -> functools.partial[Any]:
        """Return the function that makes a frame of the same library."""
        return functools.partial(_frame, self._rows.implementation)

    def check_into(self, column: str) -> None:
        """Check that a run may write a column and its error column."""
        check_names([str(name) for name in self.names], column, self._error_columns())

    def put(self, run: BatchRun, column: str) -> Any:
        """Return a new frame with the replies and the errors."""
        self.check_into(column)
        rows: Any = self._rows
        old = rows.get_column(column).to_list() if column in rows.columns else None
        values, errors = run.values_over(old)
        if not all(value is None or isinstance(value, str) for value in values):
            # A column has one type here: what another one held before is kept as text.
            values = [None if self.is_missing(value) else str(value) for value in values]
        name = f"{column}_error"
        added = [self._series(column, TypedColumn(values, "string"))]
        ours = self._error_columns() - {name}
        if errors is not None:
            added.append(self._series(name, TypedColumn(list(errors), "string")))
            ours |= {name}
        elif name in rows.columns:
            rows = rows.drop(name)
        return _with_error_columns(rows.with_columns(*added).to_native(), ours)

    def _series(self, name: str, column: TypedColumn) -> nw.Series[Any]:
        return _series(name, column, self._rows.implementation)

    def _beside(self, columns: list[nw.Series[Any]]) -> Any:
        """Return the rows with further columns."""
        assert isinstance(self._rows, nw.DataFrame)
        return self._rows.with_columns(*columns).to_native()

    def _error_columns(self) -> frozenset[str]:
        """Return the columns to which a run has written errors."""
        native = self.native
        if found := getattr(native, "__dict__", {}).get(_ERROR_COLUMNS):
            return frozenset(found)
        metadata = getattr(getattr(native, "schema", None), "metadata", None)
        kept = metadata.get(_ERROR_COLUMNS.encode()) if isinstance(metadata, Mapping) else None
        return frozenset(json.loads(kept)) if kept else frozenset()


def narwhals_table(data: Any, n_rows: int | None = None) -> DataTable:
    """Return a frame or a column of any library as a table; `tables.table_of` decides for it.

    Args:
        data: The frame or the column.
        n_rows: Number of rows to collect, from the first; None: all.

    Raises:
        BadInputError: It is neither, or has two columns of one name.
        MissingExtraError: Its library needs another one to hand out rows.
    """
    try:
        known, is_read_once = _known(data)
        rows: Any = nw.from_native(known, allow_series=True)
        is_collected = is_read_once or isinstance(rows, nw.LazyFrame)
        if n_rows is not None:
            rows = rows.head(n_rows)
        if isinstance(rows, nw.LazyFrame):
            rows = rows.collect()
    except nw.exceptions.DuplicateError:
        raise BadInputError("Two columns of the table have the same name. Rename one of them first.") from None
    except ModuleNotFoundError as error:
        package, _, part = str(error.name).partition(".")
        if part:
            raise MissingExtraError(
                f"The installed releases of {package} and narwhals do not fit together. Update them: python -m pip "
                f"install -U narwhals {package}"
            ) from error
        raise MissingExtraError(
            f"{type_name(data)} needs {package} to hand out its rows. Install it: python -m pip install {package}"
        ) from error
    native = rows.to_native()
    if is_collected:
        chat.shared_chat().say(
            f"The {type_name(data)} was computed: {len(rows):,} row{'' if len(rows) == 1 else 's'}. Results come back "
            f"beside them, as a {type_name(native)}."
        )
    if rows.implementation.is_pandas():
        from .pandas_table import PandasTable

        return PandasTable(native)
    return NarwhalsTable(rows, is_collected=is_collected)


def _known(data: Any) -> tuple[Any, bool]:
    """Return a frame or a column that narwhals knows, and whether it could be read only once.

    Raises:
        BadInputError: It is neither, and nothing that Arrow can read.
    """
    try:
        nw.from_native(data, allow_series=True)
    except TypeError:
        is_in_memory = hasattr(data, "__arrow_c_array__")
        if not is_in_memory and not hasattr(data, "__arrow_c_stream__"):
            raise BadInputError(
                f"This takes a table or a column (pandas, polars, Arrow, DuckDB), not {type_name(data)}."
            ) from None
        import pyarrow

        if hasattr(data, "__arrow_c_stream__"):
            return pyarrow.table(data), not is_in_memory
        return pyarrow.chunked_array([pyarrow.array(data)]), False
    return data, False


def _frame(backend: Any, columns: Mapping[str, TypedColumn]) -> Any:
    """Return a frame of a library."""
    made = {name: _series(name, column, backend) for name, column in columns.items()}
    return nw.from_dict(made, backend=backend).to_native()


def _series(name: str, column: TypedColumn, backend: Any) -> nw.Series[Any]:
    """Return a column of a library. Values of several types, or nested ones that differ, become JSON texts."""
    dtype = _DTYPES.get(column.dtype)
    if column.dtype == "category":
        dtype = _category(column, backend)
    if dtype is not None:
        return nw.new_series(name, column.values, dtype, backend=backend)
    with contextlib.suppress(Exception):  # each library has errors of its own for values that do not fit together
        made = nw.new_series(name, column.values, None, backend=backend)
        if made.dtype not in (nw.Unknown, nw.Object) and all(map(_is_same, made.to_list(), column.values)):
            return made
    texts = [None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in column.values]
    return nw.new_series(name, texts, nw.String(), backend=backend)


def _category(column: TypedColumn, backend: Any) -> nw.dtypes.DType | None:
    """Return the type of a category: an enum where the library has it; None where the categories are no texts."""
    if not all(isinstance(category, str) for category in column.categories):
        return None
    return nw.Enum(column.categories) if backend.is_polars() else nw.Categorical()


def _is_same(made: Any, value: Any) -> bool:
    """Tell whether a library has kept a value; the fields of a struct may have got further ones without a value."""
    if isinstance(value, Mapping):
        return isinstance(made, Mapping) and all(_is_same(made.get(key), value.get(key)) for key in {*made, *value})
    if isinstance(value, list):
        return isinstance(made, list) and len(made) == len(value) and all(map(_is_same, made, value))
    return type(made) is type(value) and bool(made == value)


def _with_error_columns(native: Any, names: frozenset[str]) -> Any:
    """Return a frame that says which of its columns hold errors of a run."""
    if hasattr(native, "__dict__"):
        object.__setattr__(native, _ERROR_COLUMNS, names)
        return native
    if hasattr(native, "replace_schema_metadata"):
        metadata = {**(native.schema.metadata or {}), _ERROR_COLUMNS.encode(): json.dumps(sorted(names)).encode()}
        return native.replace_schema_metadata(metadata)
    return native
