"""Runs that make embeddings, against a real server: groups, store, refusals, limits, budget, outages."""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import Answer, ChatServer, Received, embeddings, payload, reset, status, vector_of

from aichat_magic.batching.embedding import EmbeddingRun, embed_rows
from aichat_magic.batching.options import BatchOptions, Row
from aichat_magic.chat.chat import Chat
from aichat_magic.chat.embedding import EmbeddingChat
from aichat_magic.core.embeddings import EmbeddingBounds
from aichat_magic.core.errors import (
    AuthenticationError,
    BatchStoppedError,
    ContextLengthError,
    OptionError,
    PromptError,
)
from aichat_magic.core.messages import Message
from aichat_magic.core.options import CallOptions, Options
from aichat_magic.core.prices import Price
from aichat_magic.core.secrets import Secret
from aichat_magic.core.settings import Settings
from aichat_magic.providers.openai import OpenAI
from aichat_magic.store.memory import MemoryStore
from aichat_magic.store.sqlite import SqliteStore


def chat_with(store: Any = None, **settings: Any) -> Chat:
    found = Settings(environ={"OPENAI_API_KEY": "k"}, **settings)
    return Chat(settings=lambda: found, store=store or MemoryStore(), random=lambda: 0.0)


def embedded(
    rows: list[Row],
    server: ChatServer,
    *,
    chat: Chat | None = None,
    dimensions: int | None = None,
    model: str = "openai/m",
    **options: Any,
) -> EmbeddingRun:
    given = CallOptions(model=model, base_url=server.url)
    chosen = BatchOptions(**{"progress": False, **options})
    return embed_rows(chat or chat_with(), rows, given=given, options=chosen, dimensions=dimensions)


def shown(run: EmbeddingRun) -> list[list[float] | None]:
    return [None if vector is None else vector.tolist() for vector in run.vectors]


def inputs(server: ChatServer) -> list[list[str]]:
    return [body["input"] for body in server.bodies]


def small(texts: int = 1000, tokens: int = 10**6, text_tokens: int | None = None) -> Callable[..., EmbeddingBounds]:
    return lambda self, model: EmbeddingBounds(texts=texts, tokens=tokens, text_tokens=text_tokens)


def refusing(is_bad: Callable[[list[str]], bool], code: int = 400, **error: Any) -> Callable[[Received, int], Answer]:
    def answer(received: Received, attempt: int) -> Answer:
        if is_bad(received.json["input"]):
            return status(code, body={"error": {"message": "refused", **error}})
        return embeddings(received)

    return answer


def test_many_texts_go_in_one_request_and_come_back_in_order_as_float32() -> None:
    texts: list[Row] = [f"text {number}" for number in range(100)]
    with ChatServer(lambda received, attempt: embeddings(received)) as server:
        run = embedded(texts, server)
        assert inputs(server) == [texts]
    assert shown(run) == [vector_of(str(text)) for text in texts]
    assert all(vector is not None and vector.dtype == np.float32 for vector in run.vectors)
    assert (run.progress.done, run.progress.calls, run.errors, run.stop_error()) == (100, 1, {}, None)


def test_equal_texts_are_sent_once_and_missing_and_empty_ones_not_at_all() -> None:
    conversation: Any = ()
    with ChatServer(lambda received, attempt: embeddings(received)) as server:
        run = embedded(["a", None, "a", "", " \n", "b", conversation], server)
        assert inputs(server) == [["a", "b"]]
    assert [vector is None for vector in run.vectors] == [False, True, False, True, True, False, True]
    assert set(run.errors) == {3, 4, 6}
    assert all(isinstance(error, PromptError) for error in run.errors.values())
    assert (run.progress.missing, run.progress.hits, run.progress.errors, run.pending) == (1, 1, 3, 0)
    first, third = run.vectors[0], run.vectors[2]
    assert first is not None
    first[:] = 0
    assert third is not None
    assert third.any(), "rows do not share their memory"


@pytest.mark.parametrize("is_fresh", [False, True])
def test_second_run_sends_only_what_is_new(is_fresh: bool, tmp_path: Path) -> None:
    with ChatServer(lambda received, attempt: embeddings(received)) as server:
        before = embedded(["a", "b"], server, chat=chat_with(SqliteStore(tmp_path / "replies.sqlite3")))
        again = chat_with(SqliteStore(tmp_path / "replies.sqlite3"))
        run = embedded(["b", "c", "a"], server, chat=again, fresh=is_fresh)
        assert inputs(server)[1:] == [["b", "c", "a"] if is_fresh else ["c"]]
    assert shown(run)[::2] == shown(before)[::-1]
    assert run.progress.hits == (0 if is_fresh else 2)


@pytest.mark.parametrize(
    "other", [{"model": "openai/n"}, {"dimensions": 3}, {"store": False}], ids=lambda other: next(iter(other))
)
def test_vector_of_another_model_or_length_is_another_one(other: dict[str, Any]) -> None:
    chat = chat_with()
    with ChatServer(lambda received, attempt: embeddings(received)) as server:
        embedded(["a"], server, chat=chat)
        run = embedded(["a"], server, chat=chat, **other)
        assert len(server.requests) == 2
        assert server.bodies[1].get("dimensions") == other.get("dimensions")
    assert run.progress.hits == 0


def test_text_that_may_be_too_long_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenAI, "embedding_bounds", small(texts=3, text_tokens=50))
    with ChatServer(lambda received, attempt: embeddings(received)) as server:
        embedded(["a", "y" * 160, "b", "c"], server, concurrency=1)
        assert sorted(inputs(server)) == [["a", "b", "c"], ["y" * 160]]


def test_groups_keep_the_servers_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenAI, "embedding_bounds", small(texts=3, tokens=60, text_tokens=50))
    long = "x" * 90  # 31 tokens by the cautious guess
    too_long = "y" * 160
    texts: list[Row] = ["a", "b", "c", "d", long, f"{long}!", too_long]
    with ChatServer(lambda received, attempt: embeddings(received)) as server:
        run = embedded(texts, server, concurrency=1)
        assert sorted(inputs(server)) == sorted([["a", "b", "c"], ["d", long], [f"{long}!"], [too_long]])
    assert shown(run) == [vector_of(str(text)) for text in texts]


@pytest.mark.parametrize(("code", "message"), [(400, "too long"), (500, "input is too large to process")])
def test_text_that_is_refused_fails_alone_with_the_servers_words(code: int, message: str) -> None:
    texts: list[Row] = [f"text {number}" for number in range(40)]
    answer = refusing(lambda sent: "text 7" in sent or "text 33" in sent, code, message=message)
    with ChatServer(answer) as server:
        run = embedded(texts, server, max_retries=0)
        # Two ways down from 40 to 1, and the probe.
        assert len(server.requests) <= 3 + 2 * 2 * math.ceil(math.log2(40))
    assert set(run.errors) == {7, 33}
    assert message in str(run.errors[7])
    assert isinstance(run.errors[7], ContextLengthError) == (code == 500)
    assert [row for row, vector in enumerate(shown(run)) if vector != vector_of(str(texts[row]))] == [7, 33]
    assert (run.progress.done, run.progress.errors, run.stop_error()) == (40, 2, None)


def test_server_that_takes_fewer_texts_gets_fewer() -> None:
    texts: list[Row] = [f"text {number}" for number in range(100)]
    with ChatServer(refusing(lambda sent: len(sent) > 10, message="batch size should not be larger than 10")) as server:
        run = embedded(texts, server)
    assert run.errors == {}
    assert shown(run) == [vector_of(str(text)) for text in texts]


def test_refusal_that_meets_every_text_is_met_twice_and_not_once_for_each() -> None:
    texts: list[Row] = [f"text {number}" for number in range(100)]
    with ChatServer(refusing(lambda sent: True, message="m makes no embeddings")) as server:
        run = embedded(texts, server)
        assert [len(sent) for sent in inputs(server)] == [100, 1]
    assert len(run.errors) == 100
    stopped = run.stop_error()
    assert isinstance(stopped, BatchStoppedError)
    assert "m makes no embeddings" in str(stopped)


def test_wrong_key_stops_the_run_at_once() -> None:
    with ChatServer(lambda received, attempt: status(401)) as server:
        run = embedded(["a", "b"], server)
        assert len(server.requests) == 1
    assert isinstance(run.stopped_by, AuthenticationError)
    assert isinstance(run.stop_error(), BatchStoppedError)


def test_busy_server_and_broken_connection_are_tried_again() -> None:
    def answer(received: Received, attempt: int) -> Answer:
        if attempt == 1:
            return status(429, headers={"retry-after": "0.01"})
        return reset() if attempt == 2 else embeddings(received)

    with ChatServer(answer) as server:
        run = embedded(["a", "b"], server)
        assert len(server.requests) == 3
    assert shown(run) == [vector_of("a"), vector_of("b")]
    assert run.progress.calls == 3


def test_answer_that_breaks_off_keeps_the_groups_that_were_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenAI, "embedding_bounds", small(texts=1))
    store = MemoryStore()

    def answer(received: Received, attempt: int) -> Answer:
        return status(401) if received.json["input"] == ["c"] else embeddings(received)

    with ChatServer(answer) as server:
        run = embedded(["a", "b", "c", "d"], server, chat=chat_with(store), concurrency=1)
        assert [vector is None for vector in run.vectors] == [False, False, True, True]
        assert run.pending in (1, 2)  # the row that was refused may count as failed
        assert "run it again to continue" in str(run.stop_error())
        server.answer = lambda received, attempt: embeddings(received)
        run = embedded(["a", "b", "c", "d"], server, chat=chat_with(store))
        assert inputs(server)[-2:] == [["c"], ["d"]]
    assert run.progress.hits == 2


def test_cost_and_tokens_are_counted_and_the_budget_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenAI, "embedding_bounds", small(texts=1))
    chat = chat_with(prices={"openai/m": Price(input=1e4, output=0)})
    with ChatServer(lambda received, attempt: embeddings(received)) as server:
        run = embedded(["abcd" * 5, "efgh" * 5], server, chat=chat)
        assert (run.usage.input_tokens, run.usage.output_tokens) == (40, 0)
        assert run.cost_usd == pytest.approx(0.4)
        again = embedded(["abcd" * 5], server, chat=chat)
        assert (again.cost_usd, again.progress.calls) == (0.0, 0)
        texts: list[Row] = [f"{number:020}" for number in range(50)]
        bounded = embedded(texts, server, chat=chat, max_total_tokens=300)
    assert isinstance(bounded.stopped_by, BatchStoppedError)
    assert 0 < (bounded.usage.input_tokens or 0) <= 300
    assert bounded.pending == 50 - bounded.progress.done > 0


def test_budget_holds_over_the_rounds_of_a_refused_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenAI, "embedding_bounds", small(texts=8))
    texts: list[Row] = [f"{number:020}" for number in range(64)]
    with ChatServer(refusing(lambda sent: str(texts[3]) in sent)) as server:
        run = embedded(texts, server, max_total_tokens=1240, concurrency=1)
    # Seven groups in the first round, and of the refused one, which has 140 tokens more, as much as is left.
    assert 1120 < (run.usage.input_tokens or 0) <= 1240
    assert isinstance(run.stopped_by, BatchStoppedError)


def test_settings_for_replies_mean_nothing_to_vectors() -> None:
    chat = chat_with(system="Be brief.", options=Options(temperature=1, max_tokens=3))
    with ChatServer(lambda received, attempt: embeddings(received)) as server:
        assert shown(embedded(["a"], server, chat=chat)) == [vector_of("a")]
        assert server.bodies == [{"model": "m", "input": ["a"], "encoding_format": "base64"}]


def test_key_of_the_session_is_used() -> None:
    chat = Chat(settings=lambda: Settings(environ={}), store=MemoryStore())
    chat.keys.enter("mistral", "https://api.mistral.ai/v1", Secret("session-key"))
    sender = EmbeddingChat(chat, on_vectors=lambda texts, vectors: asyncio.sleep(0))
    call = sender.call((Message("user", "-"),), CallOptions(model="mistral/mistral-embed"))
    assert call.provider.endpoint.key is not None


def test_option_that_is_refused_is_refused_once_and_not_for_smaller_groups() -> None:
    error = {"message": "Unsupported parameter: 'dimensions'", "param": "dimensions", "code": "unsupported_parameter"}
    with ChatServer(lambda received, attempt: status(400, body={"error": error})) as server:
        run = embedded(["a", "b", "c"], server, dimensions=2)
        assert len(server.requests) == 1
    assert "dimensions" in str(run.stop_error())


def test_progress_counts_rows_and_not_requests() -> None:
    seen: list[Any] = []
    with ChatServer(refusing(lambda sent: len(sent) > 2)) as server:
        embedded(["a", "b", "c", "c", None], server, progress=seen.append)
    assert all(progress.rows == 5 for progress in seen)
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert (seen[-1].done, seen[-1].hits, seen[-1].missing, seen[-1].is_last) == (5, 1, 1, True)
    assert seen[-1].calls == len(server.requests)
    assert sum(progress.is_last for progress in seen) == 1


def test_model_that_ignores_the_length_is_told_of() -> None:
    def answer(received: Received, attempt: int) -> Answer:
        data = [{"index": 0, "embedding": [1.0, 2.0, 3.0]}]
        return payload({"data": data})

    with ChatServer(answer) as server:
        run = embedded(["a"], server, dimensions=2)
    assert run.remarks() == ["openai/m does not take dimensions=2 (its vectors have 3 numbers)."]


@pytest.mark.parametrize("wrong", [0, -1, True, "3", 2.0])
def test_length_must_be_a_number_of_numbers(wrong: Any) -> None:
    with ChatServer() as server, pytest.raises(OptionError, match=r"dimensions must be"):
        embedded(["a"], server, dimensions=wrong)


def test_rows_of_no_text_at_all_need_no_server() -> None:
    with ChatServer() as server:
        assert embedded([], server).vectors == []
        assert embedded([None], server).vectors == [None]
        assert server.requests == []
