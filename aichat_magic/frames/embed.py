"""Embeddings of columns and lists, and their use: similarity, the nearest rows, a table without near duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from ..core.errors import BadInputError, OptionError
from ..text.words import did_you_mean, shorten
from ..values.vectors import cosines, first_of_group, matrix_of, nearest_rows
from .accessors import FrameAccessor, accessor_of
from .embedding import EmbedKeywords, embedding_run, with_embed_keywords
from .recognition import is_frame

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

_SINGLES = (str, bytes)


@with_embed_keywords
def embed(data: Any, template: str | None = None, **options: Unpack[EmbedKeywords]) -> Any:
    """Return vectors of texts: numbers that are near each other where the meanings are.

    Equal texts are sent once, missing ones not at all, and many texts go into one request. Vectors are kept in the
    store, so that a second run costs nothing.

    Args:
        data: A table, a column or a list of texts, or one text.
        template: For a table: a column template such as ``"{title} {body}"``.
        **options: `EmbedKeywords` and `RunKeywords`:
            {keywords}

    Returns:
        For a table or a column: a column of float32 arrays with the same index. For a list: a list of arrays, None for
        texts that are missing or failed. For one text: its array.

    Raises:
        BadInputError: An argument cannot be used, or the model makes no embeddings; nothing was sent.
        BatchStoppedError: The run was stopped, or no row could be embedded; the finished rows are kept.
        ChatInterrupt: The user interrupted; the finished rows are kept.
    """
    if hasattr(data, "aichat") or is_frame(data) or hasattr(data, "__arrow_c_stream__"):
        accessor: Any = accessor_of(data)
        if template is None and isinstance(accessor, FrameAccessor):
            raise BadInputError('A table needs a column template, a text with columns in braces: embed(df, "{body}").')
        return accessor.embed(*([] if template is None else [template]), **options)
    if template is not None:
        raise BadInputError("A column template needs a table. Leave it out for a list of texts.")
    if isinstance(data, str):
        return _embed_all([data], options)[0]
    if isinstance(data, (bytes, Mapping)) or not isinstance(data, Iterable):
        raise BadInputError(f"embed takes a table, a column, or a list of texts, not {type(data).__name__}.")
    return _embed_all(list(data), options)


@with_embed_keywords
def similarity(a: Any, b: Any, **options: Unpack[EmbedKeywords]) -> Any:
    """Return the cosine similarity of vectors, or of texts: 1 for the same direction, 0 for none in common.

    Args:
        a: A vector or a text; or a column or a list of them.
        b: The same. One vector is compared with all of a column; two columns are compared row by row.
        **options: `EmbedKeywords` and `RunKeywords`, for texts:
            {keywords}

    Returns:
        A number; for a column a column of numbers, for lists an array. NaN where a vector is missing or all zeros.

    Raises:
        BadInputError: The vectors have different lengths, or the columns have.
    """
    (left, is_single), (right, is_other_single) = (
        _vectors(value, name, options) for value, name in ((a, "a"), (b, "b"))
    )
    _check_lengths(left, right, "a", "b")
    if not is_single and not is_other_single and len(left) != len(right):
        raise BadInputError(
            f"a has {len(left):,} rows and b has {len(right):,}: columns are compared row by row. For the rows "
            f"nearest to one vector, use nearest(...)."
        )
    found = cosines(left, right)
    if is_single and is_other_single:
        return float(found[0])
    import pandas as pd

    column = next((value for value in (a, b) if isinstance(value, pd.Series)), None)
    return found if column is None else pd.Series(found, index=column.index)


@with_embed_keywords
def nearest(
    frame: pd.DataFrame, query: Any, column: str, k: int = 10, **options: Unpack[EmbedKeywords]
) -> pd.DataFrame:
    """Return the rows of a table whose vectors are nearest to a text or a vector, the nearest first.

    Args:
        frame: The table.
        query: A text, or a vector.
        column: The column with the vectors, or with texts.
        k: Most rows to return, >= 1.
        **options: `EmbedKeywords` and `RunKeywords`; for a text, the model that has made the vectors of the column:
            {keywords}

    Returns:
        Up to `k` rows with their index, and the column ``similarity``.

    Raises:
        BadInputError: An argument cannot be used, or the query and the column were made with different models.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise BadInputError(f"k must be a number of rows, 1 or more, not {k!r}.")
    series = _column(frame, column)
    if "similarity" in frame.columns:
        raise BadInputError("The table has a column 'similarity' already, where the result is to go. Rename it first.")
    wanted, is_single = _vectors(query, "The query", options)
    if not is_single:
        raise BadInputError("nearest takes one text or one vector as its query. For columns, use similarity(a, b).")
    matrix, _ = _vectors(series, f"Column {column!r}", options)
    _check_lengths(matrix, wanted, f"column {column!r}", "the query")
    places, found = nearest_rows(matrix, wanted, k)
    return frame.iloc[places].assign(similarity=found)


@with_embed_keywords
def dedupe(frame: pd.DataFrame, column: str, threshold: float = 0.95, **options: Unpack[EmbedKeywords]) -> pd.DataFrame:
    """Return a table without near duplicates: of each group of similar rows the first one.

    Rows are in one group if a chain of rows connects them in which each is similar to the next one. Rows without a
    vector are kept.

    Args:
        frame: The table; it stays as it is.
        column: The column with the vectors, or with texts.
        threshold: Least cosine similarity of duplicates, above 0, up to 1.
        **options: `EmbedKeywords` and `RunKeywords`, for a column of texts:
            {keywords}

    Raises:
        BadInputError: An argument cannot be used.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 < threshold <= 1:
        raise OptionError(f"threshold must be a number above 0, up to 1, not {threshold!r}.")
    matrix, _ = _vectors(_column(frame, column), f"Column {column!r}", options)
    return frame[first_of_group(matrix, threshold) == np.arange(len(matrix))]


def _embed_all(values: list[Any], keywords: Mapping[str, Any]) -> list[Any]:
    """Return the vectors of a list of texts."""
    rows = [None if _is_absent(value) else value if isinstance(value, str) else _not_text(value) for value in values]
    if len(rows) == 1:  # a query needs no bar
        keywords = {"progress": False, **keywords}
    return list(embedding_run(rows, keywords).vectors)


def _not_text(value: Any) -> BadInputError:
    """Return the error of a value that is no text."""
    return BadInputError(f"Only texts have embeddings, not {type(value).__name__}: {shorten(repr(value), 60)}.")


def _column(frame: Any, name: Any) -> pd.Series:
    """Return a column of a table."""
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise BadInputError(f"The first argument must be a DataFrame, not {type(frame).__name__}.")
    names = list(frame.columns)
    if names.count(name) != 1:
        number = "no" if name not in names else str(names.count(name))
        known = [str(each) for each in names]
        raise BadInputError(
            f"There is {number} column {str(name)!r}.{did_you_mean(str(name), known)} "
            f"Columns: {shorten(', '.join(known), 200)}."
        )
    return frame.iloc[:, names.index(name)]


def _vectors(value: Any, subject: str, keywords: Mapping[str, Any]) -> tuple[npt.NDArray[np.float32], bool]:
    """Return a value as the rows of a matrix, and whether it is a single text or vector; texts are embedded."""
    is_single = isinstance(value, _SINGLES) or _is_vector(value)
    if not is_single and not isinstance(value, Iterable):
        raise BadInputError(f"{subject} must be texts or vectors, not {type(value).__name__}.")
    rows = [value] if is_single else [None if _is_absent(each) else each for each in value]
    if any(isinstance(row, str) for row in rows):
        rows = _embed_all(rows, keywords)
    try:
        return matrix_of(rows, subject), is_single
    except ValueError as error:
        raise BadInputError(str(error)) from None


def _is_vector(value: Any) -> bool:
    """Tell whether a value is one vector, and not a column of them."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype != object
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(each, (int, float)) for each in value)


def _is_absent(value: Any) -> bool:
    """Tell whether a cell is missing: None, NaN or pandas' NA, whose class has this name only there."""
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value)


def _check_lengths(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], first: str, second: str) -> None:
    """Refuse vectors of different lengths; all missing ones have none."""
    if a.shape[1] and b.shape[1] and a.shape[1] != b.shape[1]:
        raise BadInputError(
            f"The vectors of {first} have {a.shape[1]:,} numbers and those of {second} have {b.shape[1]:,}: they are "
            f"from different models. Name the model that has made the others: model=."
        )
