"""Embeddings of columns, tables and lists, and what is done with them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from needs import lacking
from servers import Answer, ChatServer, Received, embeddings, status, vector_of

import aichat_magic
from aichat_magic import dedupe, embed, nearest, similarity
from aichat_magic.core.errors import BadInputError, BatchStoppedError, OptionError, UnknownNameError


def embedding_server() -> ChatServer:
    return ChatServer(lambda received, attempt: embeddings(received))


def options(server: ChatServer, **more: Any) -> dict[str, Any]:
    return {"model": "openai/m", "base_url": server.url, "progress": False, **more}


def test_column_of_texts_becomes_a_column_of_arrays_with_its_index_and_name() -> None:
    texts = pd.Series(["a", None, "b", np.nan, "a"], index=["x", "x", "y", "z", "z"], name="text")
    with embedding_server() as server:
        found = texts.aichat.embed(**options(server))
        assert [body["input"] for body in server.bodies] == [["a", "b"]]
    assert found.index.tolist() == texts.index.tolist()
    assert (found.name, found.dtype) == ("text", object)
    assert [None if value is None else value.tolist() for value in found] == [
        vector_of("a"), None, vector_of("b"), None, vector_of("a"),
    ]  # fmt: skip
    assert np.stack(found.dropna().to_list()).dtype == np.float32
    assert texts.aichat.last_run.progress.done == 5


def test_table_gives_a_text_for_each_row() -> None:
    frame = pd.DataFrame({"title": ["A", "B", None], "body": [1, 2, 3]}, index=[7, 7, 8])
    with embedding_server() as server:
        frame["vector"] = frame.aichat.embed("{title}: {body}", **options(server))
        again = embed(frame, "{title}: {body}", **options(server))
        assert [body["input"] for body in server.bodies] == [["A: 1", "B: 2"]]
    assert frame["vector"].iloc[1].tolist() == again.iloc[1].tolist() == vector_of("B: 2")
    assert frame["vector"].iloc[2] is None
    assert frame.index.tolist() == [7, 7, 8]


@pytest.mark.skipif(lacking("pyarrow") != "", reason=lacking("pyarrow"))
def test_arrow_column_gives_arrow_lists_of_a_fixed_size() -> None:
    import pyarrow as pa

    texts = pd.Series(["a", None, "b"], dtype=pd.ArrowDtype(pa.string()))
    with embedding_server() as server:
        found = texts.aichat.embed(**options(server))
        near = nearest(pd.DataFrame({"v": found}), vector_of("b"), "v", 1)
        whole = pd.DataFrame({"t": texts}).aichat.embed("{t}", **options(server))
    assert found.dtype == whole.dtype == pd.ArrowDtype(pa.list_(pa.float32(), 4))
    assert found.isna().tolist() == [False, True, False]
    assert near.index.tolist() == [2]


def test_list_gives_a_list_and_a_text_its_vector() -> None:
    with embedding_server() as server:
        assert [None if value is None else value.tolist() for value in embed(["a", None], **options(server))] == [
            vector_of("a"), None,
        ]  # fmt: skip
        assert embed("a", **options(server)).tolist() == vector_of("a")
        assert embed([], **options(server)) == []
        assert embed((text for text in "ab"), **options(server))[1].tolist() == vector_of("b")


def test_vendors_options_reach_the_wire_and_make_another_vector() -> None:
    with embedding_server() as server:
        for kind in ("query", "passage", "query"):
            embed("a", **options(server, options={"input_type": kind}))
        assert [body["input_type"] for body in server.bodies] == ["query", "passage"]


def test_failed_rows_are_missing_and_said() -> None:
    def answer(received: Received, attempt: int) -> Answer:
        return status(400) if "bad" in received.json["input"] else embeddings(received)

    texts = pd.Series(["a", "bad", "c", ""])
    with ChatServer(answer) as server, pytest.warns(UserWarning, match="2 of 4 rows failed and are missing: rows 1, 3"):
        found = texts.aichat.embed(**options(server))
    assert found.isna().tolist() == [False, True, False, True]
    assert list(texts.aichat.last_run.errors) == [1, 3]


def test_no_row_at_all_is_an_error() -> None:
    with ChatServer(lambda received, attempt: status(400)) as server, pytest.raises(BatchStoppedError, match="No row"):
        embed(["a", "b"], **options(server))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: embed(["a"], "{x}"), BadInputError, "needs a table"),
        (lambda: embed(3), BadInputError, "a table, a column, or a list of texts, not int"),
        (lambda: embed({"a": 1}), BadInputError, "not dict"),
        (lambda: embed(b"a"), BadInputError, "not bytes"),
        (lambda: embed(pd.Series(["a"]), "{x}"), BadInputError, "takes no column template"),
        (lambda: embed("a", dimension=3), UnknownNameError, "Did you mean 'dimensions'"),
        (lambda: embed("a", temperature=0), OptionError, "temperature means nothing"),
        (lambda: embed("a", system="s"), OptionError, "system means nothing"),
        (lambda: embed("a", base_url="http://127.0.0.1:1/v1"), BadInputError, "Which model of the server"),
        (lambda: similarity([1.0, 2.0], [1.0, 2.0, 3.0]), BadInputError, "2 numbers and those of b have 3"),
        (lambda: similarity([[1.0]], [[1.0], [2.0], [3.0]]), BadInputError, "a has 1 rows and b has 3"),
        (lambda: similarity(1, [1.0]), BadInputError, "must be texts or vectors, not int"),
        (lambda: nearest(pd.DataFrame({"vec": [[1.0]]}), [1.0], "vecs"), BadInputError, "Did you mean 'vec'"),
        (lambda: nearest([], [1.0], "v"), BadInputError, "must be a DataFrame, not list"),
        (lambda: nearest(pd.DataFrame({"v": [[1.0]]}), [1.0], "v", 0), BadInputError, "k must be"),
        (lambda: nearest(pd.DataFrame({"v": [[1.0]]}), [[1.0], [2.0]], "v"), BadInputError, "one text or one vector"),
        (lambda: nearest(pd.DataFrame({"v": [[1.0]]}), [1.0, 2.0], "v"), BadInputError, "from different models"),
        (lambda: nearest(pd.DataFrame({"v": [[1.0]], "similarity": 1}), [1.0], "v"), BadInputError, "already"),
        (lambda: nearest(pd.DataFrame([[[1.0], [1.0]]], columns=["v", "v"]), [1.0], "v"), BadInputError, "2 column"),
        (lambda: dedupe(pd.DataFrame({"v": [[1.0]]}), "v", 0), OptionError, "threshold must be"),
        (lambda: dedupe(pd.DataFrame({"v": [[1.0]]}), "v", True), OptionError, "threshold must be"),
        (lambda: dedupe(pd.DataFrame({"v": [[1.0], [1.0, 2.0]]}), "v"), BadInputError, "different lengths"),
        (lambda: dedupe(pd.DataFrame({"v": [[1.0], 3]}), "v"), BadInputError, "no vector in row 1, but int"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_sent(call: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_similarity_of_vectors_columns_and_texts() -> None:
    column = pd.Series([[1.0, 0.0], None, [0.0, 2.0], [0.0, 0.0]], index=list("wxyz"))
    assert similarity([1.0, 0.0], [2.0, 0.0]) == 1.0
    assert type(similarity([1, 0], [0, 1])) is float
    found = similarity(column, [0.0, 1.0])
    assert found.index.tolist() == list("wxyz")
    np.testing.assert_allclose(found, [0, np.nan, 1, np.nan])
    np.testing.assert_allclose(similarity(column, column), [1, np.nan, 1, np.nan])
    pairs = similarity([[1.0, 0.0], [1.0, 1.0]], np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert isinstance(pairs, np.ndarray)
    np.testing.assert_allclose(pairs, [1, 0.5**0.5], rtol=1e-6)
    with embedding_server() as server:
        assert similarity("a", "a", **options(server)) == pytest.approx(1)
        np.testing.assert_allclose(
            similarity(pd.Series(["a", "b"]), "b", **options(server)),
            similarity([vector_of("a"), vector_of("b")], vector_of("b")),
        )


def test_nearest_rows_come_with_their_columns_the_nearest_first() -> None:
    frame = pd.DataFrame(
        {"n": range(5), "v": [[1.0, 0.0], [0.0, 1.0], None, [1.0, 1.0], [0.0, 0.0]]}, index=list("abcde")
    )
    found = nearest(frame, [0.0, 3.0], "v", k=2)
    assert found.index.tolist() == ["b", "d"]
    assert found["n"].tolist() == [1, 3]
    np.testing.assert_allclose(found["similarity"], [1, 0.5**0.5], rtol=1e-6)
    assert "similarity" not in frame.columns
    assert len(nearest(frame, [0.0, 3.0], "v")) == 3


def test_nearest_to_a_text_embeds_it_and_a_column_of_texts_too() -> None:
    frame = pd.DataFrame({"t": ["a", "b", "c"]})
    with embedding_server() as server:
        frame["v"] = frame["t"].aichat.embed(**options(server))
        for column in ("v", "t"):
            assert nearest(frame, "b", column, 1, **options(server))["t"].tolist() == ["b"]
        assert [body["input"] for body in server.bodies] == [["a", "b", "c"]], "all else is in the store"


def test_dedupe_keeps_the_first_of_each_group_and_rows_without_a_vector() -> None:
    frame = pd.DataFrame(
        {"v": [[1.0, 0.0], [0.99, 0.1], None, [0.0, 1.0], [2.0, 0.0], [0.0, 0.0]]}, index=[5, 5, 6, 7, 8, 9]
    )
    found = dedupe(frame, "v")
    assert found.index.tolist() == [5, 6, 7, 9]
    assert dedupe(frame, "v", 1.0).index.tolist() == [5, 5, 6, 7, 9]
    assert len(frame) == 6
    with embedding_server() as server:
        texts = pd.DataFrame({"t": ["a", "b", "a"]})
        assert dedupe(texts, "t", 1.0, **options(server)).index.tolist() == [0, 1]


def test_empty_tables_give_empty_ones() -> None:
    empty = pd.DataFrame({"v": pd.Series([], dtype=object)})
    assert len(nearest(empty, [1.0], "v")) == len(dedupe(empty, "v")) == 0
    assert len(similarity(empty["v"], [1.0])) == 0
    assert len(empty["v"].aichat.embed(model="openai/m", base_url="http://127.0.0.1:1/v1", progress=False)) == 0


@pytest.mark.skipif(lacking("wordllama") != "", reason=lacking("wordllama"))
def test_first_line_of_the_readme_works_without_a_key() -> None:
    frame = pd.DataFrame({"text": ["a cat on the mat", "shares fell in London", "the kitten sleeps"]})
    frame["vector"] = frame["text"].aichat.embed(progress=False)
    assert nearest(frame, "pets", "vector", k=2, progress=False)["similarity"].is_monotonic_decreasing
    assert aichat_magic.similarity("cat", "kitten") > aichat_magic.similarity("cat", "shares")
