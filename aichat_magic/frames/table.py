"""Tables: what runs need of a frame or a column, whatever library it belongs to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from ..batching.columns import TypedColumn
from ..batching.run import BatchRun

REPLY = "reply"
"""The name of the column of replies, where they come back beside the rows."""
VECTOR = "vector"
"""The same for vectors."""


class DataTable(ABC):
    """A frame, or a column as a frame of one column.

    A run reads its cells; results come back as a column or a frame of the same library.

    Attributes:
        is_column: Whether it is a column.
        index: The labels of the rows; None if the library has none.
    """

    is_column: bool
    index: Any = None

    @property
    @abstractmethod
    def native(self) -> Any:
        """Return the frame or the column of the library."""

    @property
    @abstractmethod
    def names(self) -> Sequence[Hashable]:
        """Return the names of the columns, in order."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def cells(self, position: int) -> Iterable[Any]:
        """Return the cells of a column, by its position."""

    @abstractmethod
    def is_missing(self, value: Any) -> bool:
        """Tell whether a cell is missing."""

    @abstractmethod
    def head(self, n: int) -> DataTable:
        """Return the first rows."""

    def check_results(self, names: Iterable[str]) -> None:  # noqa: B027  # most results come back by themselves
        """Check, before anything is sent, that results may have these names.

        Raises:
            BadInputError: They would come back beside columns of which one has the same name.
        """

    @abstractmethod
    def with_texts(self, texts: list[str | None]) -> Any:
        """Return the replies: a column of the library's text type, or the rows with the column ``reply``."""

    @abstractmethod
    def with_vectors(self, vectors: Sequence[Any], positions: Sequence[int]) -> Any:
        """Return vectors: a column of the library, or the rows with the column ``vector``.

        Args:
            vectors: A float32 array for each row, or None.
            positions: Positions of the columns that were embedded.
        """

    @abstractmethod
    def with_frame(self, columns: Mapping[str, TypedColumn]) -> Any:
        """Return the columns of a result: a frame with the same labels, or the rows with these columns."""

    @property
    @abstractmethod
    def make_frame(self) -> Callable[[Mapping[str, TypedColumn]], Any]:
        """Return the function that makes a frame of the same library, with given columns and the same labels."""

    def preview(self, columns: Mapping[str, TypedColumn]) -> Any:
        """Return the columns of a preview as a frame."""
        return self.make_frame(columns)

    @abstractmethod
    def check_into(self, column: str) -> None:
        """Check, before anything is sent, that a run may write a column and its error column.

        Raises:
            BadInputError: Several columns have this name, or the error column belongs to the user.
        """

    @abstractmethod
    def put(self, run: BatchRun, column: str) -> Any:
        """Write the replies of a run into a column, and its errors into another one.

        Returns:
            The same frame where the library changes it in place, else a new one.
        """
