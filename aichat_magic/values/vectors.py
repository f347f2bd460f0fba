"""Arithmetic of vectors: cosine similarity, the nearest ones, and groups of near duplicates, exact and in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Matrix = npt.NDArray[np.float32]

# A block of similarities takes 16 MB.
_BLOCK_ROWS = 512
_BLOCK_COLUMNS = 8192
# Rounding in float32: a vector may have a similarity of 0.9999998 to itself.
_ROUNDING = 1e-6


def matrix_of(values: Iterable[Any], subject: str) -> Matrix:
    """Return vectors as the rows of one matrix.

    Args:
        values: A vector each: an array, a list or a tuple of numbers; None: missing, which becomes a row of NaN.
        subject: What the values are, as the beginning of a sentence.

    Raises:
        ValueError: A value is no vector, or has another length than the others; the message is a whole sentence.
    """
    rows = [None if value is None else _row(value, position, subject) for position, value in enumerate(values)]
    length = next((len(row) for row in rows if row is not None), 0)
    for position, row in enumerate(rows):
        if row is not None and len(row) != length:
            raise ValueError(
                f"{subject} has vectors of different lengths: {length} numbers, and {len(row)} in row {position}. "
                f"Make all of them with one model."
            )
    matrix = np.full((len(rows), length), np.nan, np.float32)
    for position, row in enumerate(rows):
        if row is not None:
            matrix[position] = row
    return matrix


def unit(matrix: Matrix) -> Matrix:
    """Return rows of length 1. A row of zeros has no direction: it becomes NaN, as a missing one is."""
    found = np.empty(matrix.shape, np.float32)
    for block in _blocks(len(matrix), _BLOCK_COLUMNS):
        # In float64, because the square of a large number may be more than float32 can hold.
        wide = matrix[block].astype(np.float64)
        lengths = np.linalg.norm(wide, axis=1, keepdims=True)
        found[block] = wide / np.where(lengths > 0, lengths, np.nan)
    return found


def cosines(a: Matrix, b: Matrix) -> Matrix:
    """Return the cosine similarity of the rows of two matrices, one by one; a single row is compared with all.

    Args:
        a: One matrix.
        b: The other one, with as many columns.

    Returns:
        A number from -1 to 1 for each row; NaN where a row is missing or zero.
    """
    found = np.empty(max(len(a), len(b)) if len(a) and len(b) else 0, np.float32)
    for block in _blocks(len(found), _BLOCK_COLUMNS):
        some = (unit(matrix if len(matrix) == 1 else matrix[block]) for matrix in (a, b))
        found[block] = np.einsum("ij,ij->i", *np.broadcast_arrays(*some))
    return np.clip(found, -1, 1)


def nearest_rows(matrix: Matrix, query: Matrix, count: int) -> tuple[npt.NDArray[np.intp], Matrix]:
    """Return the positions of the rows that are nearest to a vector, the nearest first, and their similarities.

    Args:
        matrix: The rows; those that are missing or zero are never near.
        query: A matrix of one row.
        count: Most rows to return, >= 1.
    """
    found = cosines(matrix, query)
    places = np.flatnonzero(~np.isnan(found))
    if len(places) > count:
        # All that are at least as near as the last one: equal ones keep their order.
        limit = np.partition(found[places], len(places) - count)[len(places) - count]
        places = places[found[places] >= limit]
    places = places[np.argsort(-found[places], kind="stable")][:count]
    return places, found[places]


def first_of_group(matrix: Matrix, threshold: float) -> npt.NDArray[np.intp]:
    """Return for each row the position of the first row of its group.

    Rows are in one group if they are connected by similarities of at least the threshold. All pairs are compared, a
    block at a time.

    Args:
        matrix: The rows; one that is missing or zero is a group of its own.
        threshold: Least similarity, from -1 to 1.
    """
    rows = unit(matrix)
    present = np.flatnonzero(~np.isnan(rows).any(axis=1)) if rows.size else np.empty(0, np.intp)
    whole = rows[present]
    n = len(present)
    first = np.arange(n)
    for block in _blocks(n, _BLOCK_ROWS):
        for left in range(block.start, n, _BLOCK_COLUMNS):
            others = slice(left, min(left + _BLOCK_COLUMNS, n))
            is_near = whole[block] @ whole[others].T >= threshold - _ROUNDING
            if not is_near.any():
                continue
            # Groups that are one already need no further look, or a column of equal rows would be n * n pairs.
            is_near &= first[block, None] != first[None, others]
            if is_near.any():
                _unite(first, is_near, block.start, left)
    result = np.arange(len(matrix))
    result[present] = present[first]
    return result


def _blocks(count: int, size: int) -> Iterator[slice]:
    """Yield so many rows in blocks."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _unite(first: npt.NDArray[np.intp], is_near: npt.NDArray[np.bool_], top: int, left: int) -> None:
    """Unite the groups of near rows of one block; the first row of a group stands for it."""
    i, j = np.nonzero(is_near)
    pairs = np.unique(np.stack([first[i + top], first[j + left]], axis=1), axis=0)
    parents: dict[int, int] = {}

    def root(row: int) -> int:
        while (parent := parents.get(row, row)) != row:
            parents[row] = parents.get(parent, parent)
            row = parent
        return row

    for a, b in pairs.tolist():
        a, b = sorted((root(a), root(b)))
        parents[b] = a
    if parents:
        renamed = np.arange(len(first))
        renamed[list(parents)] = [root(row) for row in parents]
        first[:] = renamed[first]


def _row(value: Any, position: int, subject: str) -> Matrix:
    """Return one vector."""
    try:
        row = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        row = np.empty((0, 0), np.float32)
    if row.ndim != 1 or not len(row):
        raise ValueError(f"{subject} has no vector in row {position}, but {type(value).__name__}.")
    return row
