"""Frames and columns of pandas as tables: nothing is converted, names may be any and more than once."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ..batching.columns import TypedColumn
from ..batching.run import BatchRun, check_columns, pandas_frame
from .preview import Preview
from .table import DataTable


class PandasTable(DataTable):
    """A `DataFrame` or a `Series`. Results have its index."""

    def __init__(self, data: pd.DataFrame | pd.Series) -> None:
        """Create a table.

        Args:
            data: The frame or the column.
        """
        self._data = data
        self.is_column = isinstance(data, pd.Series)
        self.index = data.index

    @property
    def native(self) -> pd.DataFrame | pd.Series:
        """Return the frame or the column."""
        return self._data

    @property
    def names(self) -> Sequence[Hashable]:
        """Return the names of the columns, in order."""
        names: list[Hashable] = [self.native.name] if self.is_column else list(self.native.columns)
        return names

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.native)

    def cells(self, position: int) -> Iterable[Any]:
        """Return a column."""
        cells: Iterable[Any] = self.native if self.is_column else self.native.iloc[:, position]
        return cells

    def is_missing(self, value: Any) -> bool:
        """Tell whether a cell is missing: None, NaN, NA, NaT."""
        if isinstance(value, str):
            return False
        return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))

    def head(self, n: int) -> PandasTable:
        """Return the first rows."""
        return PandasTable(self.native.head(n))

    def with_texts(self, texts: list[str | None]) -> pd.Series:
        """Return a column of dtype ``string``, with the name of the column of prompts."""
        return pd.Series(texts, index=self.index, name=self.native.name if self.is_column else None, dtype="string")

    def with_vectors(self, vectors: Sequence[Any], positions: Sequence[int]) -> pd.Series:
        """Return a column of NumPy arrays, which `np.stack` makes a matrix of; of Arrow lists for Arrow columns."""
        name = self.native.name if self.is_column else None
        length = next((len(vector) for vector in vectors if vector is not None), 0)
        texts = [self.native if self.is_column else self.native.iloc[:, position] for position in positions]
        if not length or not texts or not all(isinstance(column.dtype, pd.ArrowDtype) for column in texts):
            return pd.Series(list(vectors), index=self.index, name=name, dtype="object")
        import pyarrow as pa

        content = pa.array(list(vectors), type=pa.list_(pa.float32(), length))
        return pd.Series(pd.arrays.ArrowExtensionArray(content), index=self.index, name=name)

    def with_frame(self, columns: Mapping[str, TypedColumn]) -> pd.DataFrame:
        """Return the columns alone: pandas joins them by the index."""
        return self.make_frame(columns)

    @property
    def make_frame(self) -> functools.partial[Any]:
        """Return the function that makes a frame with the same index."""
        return functools.partial(pandas_frame, index=self.index)

    def preview(self, columns: Mapping[str, TypedColumn]) -> Preview:
        """Return a frame with a view of its own."""
        return Preview(self.make_frame(columns))

    def check_into(self, column: str) -> None:
        """Check that a run may write a column and its error column."""
        check_columns(self.native, column)

    def put(self, run: BatchRun, column: str) -> pd.DataFrame:
        """Write the replies and the errors into the frame itself."""
        run.put_into(self.native, column)
        return self.native
