"""Similarity, the nearest rows and groups of near duplicates, against the same in plain loops."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.values import vectors
from aichat_magic.values.vectors import cosines, first_of_group, matrix_of, nearest_rows, unit

SMALL = st.integers(-3, 3)
MATRICES = st.lists(st.lists(SMALL, min_size=3, max_size=3), min_size=1, max_size=40)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that a few rows have several."""
    monkeypatch.setattr(vectors, "_BLOCK_ROWS", 3)
    monkeypatch.setattr(vectors, "_BLOCK_COLUMNS", 5)


def plain_cosine(a: Any, b: Any) -> float:
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.dot(a, b)) / lengths if lengths else float("nan")


def matrix(rows: Any) -> Any:
    return np.array(rows, dtype=np.float32)


@given(MATRICES)
def test_similarity_is_the_cosine_row_by_row_and_against_one(rows: list[list[int]]) -> None:
    a, b = matrix(rows), matrix(rows[::-1])
    np.testing.assert_allclose(cosines(a, b), [plain_cosine(x, y) for x, y in zip(a, b, strict=True)], atol=1e-6)
    np.testing.assert_allclose(cosines(a, b[:1]), [plain_cosine(x, b[0]) for x in a], atol=1e-6)
    np.testing.assert_allclose(cosines(a[:1], b), [plain_cosine(a[0], y) for y in b], atol=1e-6)


@given(MATRICES, st.lists(SMALL, min_size=3, max_size=3), st.integers(1, 50))
def test_nearest_rows_are_those_of_a_full_sort(rows: list[list[int]], query: list[int], count: int) -> None:
    a = matrix(rows)
    places, found = nearest_rows(a, matrix([query]), count)
    every = cosines(a, matrix([query]))
    order = [place for place in np.argsort(-every, kind="stable") if not np.isnan(every[place])][:count]
    assert places.tolist() == order
    assert found.tolist() == every[order].tolist()


@given(MATRICES, st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_groups_are_those_of_all_pairs(rows: list[list[int]], threshold: float) -> None:
    a = matrix(rows)
    expected = list(range(len(a)))
    for _ in a:  # as often as a chain can be long
        for i in range(len(a)):
            for j in range(len(a)):
                if plain_cosine(a[i], a[j]) >= threshold - 1e-6:
                    expected[i] = expected[j] = min(expected[i], expected[j])
    assert first_of_group(a, threshold).tolist() == expected


def test_rows_are_united_along_a_chain_in_any_order() -> None:
    degrees = np.radians([0, 60, 40, 20])
    a = matrix(np.stack([np.cos(degrees), np.sin(degrees)], axis=1))
    assert first_of_group(a, np.cos(np.radians(25))).tolist() == [0, 0, 0, 0]


def test_missing_and_zero_vectors_are_near_nothing_and_groups_of_their_own() -> None:
    a = matrix([[0, 0], [1, 0], [np.nan, np.nan], [0, 0], [2, 0]])
    assert np.isnan(cosines(a, a)).tolist() == [True, False, True, True, False]
    assert nearest_rows(a, matrix([[1, 0]]), 9)[0].tolist() == [1, 4]
    assert nearest_rows(a, matrix([[0, 0]]), 9)[0].tolist() == []
    assert first_of_group(a, 0.5).tolist() == [0, 1, 2, 3, 1]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_very_short_and_very_long_vectors_have_a_direction(scale: float) -> None:
    a = matrix([[3, 4], [6, 8]]) * np.float32(scale)
    np.testing.assert_allclose(unit(a), [[0.6, 0.8]] * 2, rtol=1e-6)
    assert first_of_group(a, 1.0).tolist() == [0, 0]


def test_equal_rows_do_not_make_all_pairs() -> None:
    a = np.ones((2000, 3), np.float32)
    assert set(first_of_group(a, 0.9).tolist()) == {0}


def test_no_rows_have_no_groups() -> None:
    empty = np.empty((0, 0), np.float32)
    assert first_of_group(empty, 0.5).tolist() == []
    assert nearest_rows(empty, matrix([[1.0]]), 3)[0].tolist() == []
    missing = matrix_of([None, None], "x")
    assert first_of_group(missing, 0.5).tolist() == [0, 1]
    assert np.isnan(cosines(missing, matrix([[1.0, 2.0]]))).all() if missing.shape[1] else True


@pytest.mark.parametrize("value", ["text", 3, [], [[1.0]], {"a": 1}, ["x"], b"bytes"])
def test_value_that_is_no_vector_is_named_with_its_row(value: Any) -> None:
    with pytest.raises(ValueError, match="Column 'v' has no vector in row 1"):
        matrix_of([[1.0], value], "Column 'v'")


def test_vectors_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 numbers, and 3 in row 2"):
        matrix_of([None, [1.0, 2.0], [1.0, 2.0, 3.0]], "Column 'v'")
