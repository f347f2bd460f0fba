"""A row without an answer is an error that says why, and is asked again; the provider's words decide."""

from __future__ import annotations

import io
import json
import pickle
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from servers import Answer, ChatServer, Received, event_stream, payload, text

import aichat_magic
from aichat_magic.batching.api import batch
from aichat_magic.batching.progress import Progress
from aichat_magic.batching.progress_bar import ProgressBar
from aichat_magic.chat import chat as chat_module
from aichat_magic.chat.chat import Chat
from aichat_magic.chat.conversation import Conversation
from aichat_magic.core.answers import cut_note, no_answer
from aichat_magic.core.errors import AichatError, BlankReplyError, EmptyReplyError
from aichat_magic.core.messages import FinishReason, Reply
from aichat_magic.core.options import Options
from aichat_magic.core.settings import Settings
from aichat_magic.core.sync import run_sync as run
from aichat_magic.core.usage import Usage
from aichat_magic.store.sqlite import SqliteStore

USAGE = {"prompt_tokens": 10, "completion_tokens": 64}


def answer_of(content: Any, reason: str | None = "stop", **message: Any) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": reason}
    answer = payload({"model": "m", "choices": [choice], "usage": USAGE})
    answers_of[answer] = choice
    return answer


answers_of: dict[Answer, Any] = {}
TOOL_CALL = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
# How the server answers, the reason that the error has, what it says, and how often such a row is asked in one run.
EMPTY = {
    "thinking used the budget": (answer_of("", "length"), "length", "max_tokens", 1),
    "nothing but blanks, cut": (answer_of(" \n\u200b", "length"), "length", "max_tokens", 1),
    "filtered": (answer_of("", "content_filter"), "content_filter", "content filter", 1),
    "filtered, by Gemini": (answer_of(None, "content_filter: PROHIBITED_CONTENT"), "content_filter", "filter", 1),
    "refused": (answer_of(None, "stop", refusal="I cannot help."), "refusal", "It said: I cannot help.", 1),
    "a tool, not words": (answer_of(None, "tool_calls", tool_calls=TOOL_CALL), "tool_calls", "asked for a tool", 1),
    "null": (answer_of(None), "stop", "gave no reason", 2),
    "no content at all": (payload({"choices": [{"message": {}}], "usage": USAGE}), "stop", "gave no reason", 2),
    "blank": (answer_of("\n \t"), "stop", "NONE", 2),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "replies.sqlite3")
    yield store
    store.close()


@pytest.fixture
def chat(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    """Make the chat that columns use, too."""
    chat = Chat(settings=Settings, store=store, random=lambda: 0.0)
    monkeypatch.setattr(chat_module, "shared_chat", lambda: chat)
    yield chat
    run(chat.http.aclose())


def ask(rows: list[str], chat: Chat, server: ChatServer, **options: Any) -> list[Reply | AichatError | None]:
    return batch(rows, chat=chat, model="vllm/m", base_url=server.url, progress=False, **options)


def strange(answer: Answer, *, until: int = 99) -> Any:
    """Answers the row "bad" strangely so many times, all others and later ones well."""
    seen: Counter[str] = Counter()

    def choose(received: Received, attempt: int) -> Answer:
        row = received.last_message
        seen[row] += 1
        return answer if row == "bad" and seen[row] <= until else text(f"echo: {row}")

    return choose


@pytest.mark.parametrize("name", EMPTY)
def test_row_without_an_answer_is_an_error_that_names_cause_and_mend(name: str, chat: Chat) -> None:
    answer, reason, words, calls = EMPTY[name]
    with ChatServer(strange(answer)) as server:
        good, bad = ask(["good", "bad"], chat, server)
        assert [received.last_message for received in server.requests].count("bad") == calls
    assert str(good) == "echo: good"
    assert isinstance(bad, EmptyReplyError)
    assert (bad.finish_reason, bad.provider) == (reason, "vllm")
    assert words in str(bad)
    assert isinstance(bad, BlankReplyError) == (calls == 2)


@pytest.mark.parametrize("name", EMPTY)
def test_row_without_an_answer_is_asked_again_by_a_rerun_and_by_retry(name: str, chat: Chat) -> None:
    answer, _, _, calls = EMPTY[name]
    frame = pd.DataFrame({"q": ["good", "bad"]})
    options: dict[str, Any] = {"model": "vllm/m", "progress": False}
    with ChatServer(strange(answer, until=2 * calls)) as server:
        options["base_url"] = server.url
        with pytest.warns(UserWarning, match="1 of 2 rows failed"):
            column = frame["q"].aichat.complete(**options)
        assert column.isna().tolist() == [False, True]
        first = frame["q"].aichat.run(**options)
        assert list(first.errors) == [1]
        again = first.retry()
        assert list(again.texts()) == ["echo: good", "echo: bad"]
        assert [received.last_message for received in server.requests].count("good") == 1


def test_row_without_an_answer_is_counted_as_paid(chat: Chat) -> None:
    frame = pd.DataFrame({"q": ["bad"]})
    with ChatServer(strange(EMPTY["thinking used the budget"][0])) as server:
        made = frame["q"].aichat.run(model="vllm/m", base_url=server.url, progress=False)
        assert made.usage == Usage(input_tokens=10, output_tokens=64)
        assert [(usage, count) for _, usage, count in made.tally()] == [(made.usage, 1)]
        assert made.progress.errors == 1


def test_rows_without_an_answer_spend_the_budget(chat: Chat) -> None:
    prompts = pd.Series([f"row {number}" for number in range(9)])
    with ChatServer(lambda received, attempt: EMPTY["filtered"][0]) as server:
        options: dict[str, Any] = {"max_total_tokens": 100, "concurrency": 1, "progress": False}
        made = prompts.aichat.run(model="vllm/m", base_url=server.url, **options)
    assert "budget" in str(made.stopped_by)
    assert len(server.requests) < 4  # each takes 74 tokens


def test_blank_reply_is_asked_for_once_more_and_then_an_answer(chat: Chat) -> None:
    with ChatServer(strange(EMPTY["null"][0], until=1)) as server:
        assert [str(reply) for reply in ask(["bad"], chat, server)] == ["echo: bad"]
        assert len(server.requests) == 2


def test_text_that_was_cut_or_filtered_after_its_first_words_is_an_answer(chat: Chat) -> None:
    reasons = {"cut": "length", "filtered": "content_filter", "and a tool": "tool_calls"}

    def choose(received: Received, attempt: int) -> Answer:
        return answer_of("Some words", reasons[received.last_message])

    with ChatServer(choose) as server:
        found = ask(list(reasons), chat, server)
        assert [(reply.text, reply.finish_reason) for reply in found if isinstance(reply, Reply)] == [
            ("Some words", reason) for reason in reasons.values()
        ]
        ask(list(reasons), chat, server)
        assert len(server.requests) == 3


def test_empty_replies_that_0_1_has_stored_are_misses(chat: Chat, store: SqliteStore, tmp_path: Path) -> None:
    rows = ["one", "two", "three"]
    with ChatServer() as server:
        ask(rows, chat, server)
        store.close()
        with sqlite3.connect(tmp_path / "replies.sqlite3") as file:  # as 0.1 wrote them
            file.execute("UPDATE replies SET text = x'', finish_reason = 'length' WHERE id = 1")
            file.execute("UPDATE replies SET text = x'200ac2a0', finish_reason = 'stop' WHERE id = 2")
        file.close()
        assert [str(reply) for reply in ask(rows, chat, server)] == [f"echo: {row}" for row in rows]
        assert len(server.requests) == 5
        ask(rows, chat, server)
        assert len(server.requests) == 5


# One question ------------------------------------------------------------------------------------------------------


def streaming(answer: Answer, *, until: int = 99) -> Any:
    """The same answers, as streams where a stream is asked for."""
    choose = strange(answer, until=until)

    def pick(received: Received, attempt: int) -> Answer:
        chosen: Answer = choose(received, attempt)
        return in_pieces(chosen) if received.json.get("stream") and chosen is answer else chosen

    return pick


def in_pieces(answer: Answer) -> Answer:
    """Return the stream of an answer of `answer_of`."""
    choice = answers_of[answer]
    delta = {"choices": [{"index": 0, "delta": choice["message"], "finish_reason": None}]}
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}], "usage": USAGE}
    return event_stream([f"data: {json.dumps(event)}\n\n" for event in (delta, last)] + ["data: [DONE]\n\n"])


ONCE = [name for name in EMPTY if name != "no content at all"]
WAYS: dict[str, Any] = {
    "ask": lambda chat, options: aichat_magic.ask("bad", chat=chat, **options),
    "stream": lambda chat, options: list(aichat_magic.stream("bad", chat=chat, **options)),
    "conversation": lambda chat, options: Conversation(chat=chat).ask("bad", **options),
    "conversation, streamed": lambda chat, options: list(Conversation(chat=chat).stream("bad", **options)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ONCE)
def test_question_without_an_answer_is_an_error_that_has_the_reply(name: str, way: str, chat: Chat) -> None:
    answer, reason, words, calls = EMPTY[name]
    with ChatServer(streaming(answer)) as server:
        with pytest.raises(EmptyReplyError, match=words) as failed:
            WAYS[way](chat, {"model": "vllm/m", "base_url": server.url})
        assert len(server.requests) == calls
    reply = failed.value.reply
    assert (failed.value.finish_reason, reply.finish_reason) == (reason, reason)
    # A second try is paid for, too.
    assert reply.usage == Usage(input_tokens=10 * calls, output_tokens=64 * calls)


@pytest.mark.parametrize("way", WAYS)
def test_blank_answer_to_a_question_is_asked_for_once_more_and_then_an_answer(way: str, chat: Chat) -> None:
    with ChatServer(streaming(EMPTY["null"][0], until=1)) as server:
        found = WAYS[way](chat, {"model": "vllm/m", "base_url": server.url})
        assert len(server.requests) == 2
    assert "".join(map(str, found)) == "echo: bad" if isinstance(found, list) else str(found) == "echo: bad"


def test_conversation_keeps_no_turn_without_an_answer(chat: Chat) -> None:
    with ChatServer(streaming(EMPTY["refused"][0])) as server:
        conversation = Conversation(chat=chat, model="vllm/m")
        conversation.ask("good", base_url=server.url)
        with pytest.raises(EmptyReplyError, match="refused"):
            conversation.ask("bad", base_url=server.url)
        pieces = conversation.stream("bad", base_url=server.url)
        assert next(pieces) == "I cannot help."  # it had come before anything told that it is no answer
        with pytest.raises(EmptyReplyError, match="refused"):
            next(pieces)
        conversation.ask("good", base_url=server.url)
        assert [turn.prompt for turn in conversation.turns] == ["good", "good"]
        assert "cannot" not in server.requests[-1].body.decode()


def test_error_names_thinking_where_it_is_known_that_it_used_the_tokens() -> None:
    reply = Reply(text="", model="m", finish_reason="length", thinking="Hm.", usage=Usage(output_tokens=64))
    assert "max_tokens=64 is used up, by thinking. Raise max_tokens or let it think less (reasoning)." in str(
        no_answer(reply, Options(max_tokens=64))
    )
    assert "64 tokens are used up, by thinking" in str(no_answer(reply, Options()))
    counted = Reply(text="", finish_reason="length", usage=Usage(output_tokens=64, reasoning_tokens=64))
    assert "used up, by thinking" in str(no_answer(counted, Options()))


# Cut ---------------------------------------------------------------------------------------------------------------


def test_run_counts_and_names_the_rows_that_were_cut(chat: Chat) -> None:
    def choose(received: Received, attempt: int) -> Answer:
        return answer_of("Some words", "length" if "cut" in received.last_message else "stop")

    frame = pd.DataFrame({"q": ["a", "cut", "b", "cut", None, *(f"cut {number}" for number in range(9))]})
    bars: list[Progress] = []
    options: dict[str, Any] = {"model": "vllm/m", "max_tokens": 64}
    with ChatServer(choose) as server:
        options["base_url"] = server.url
        for _ in range(2):  # from the server, and from the store
            made = frame["q"].aichat.run(progress=bars.append, **options)
            assert made.cut == [1, 3, *range(5, 14)]
            assert made.progress.cut == bars[-1].cut == 11
            assert "11 cut" in made.summary()
            assert "11 of 14 replies were cut at max_tokens=64: rows 1, 3, 5, 6, 7, ..." in repr(made).replace(
                "\n", " "
            )
            assert "were cut at max_tokens=64" in made._repr_mimebundle_()["text/html"]
            assert made.frame()["finish_reason"].eq("length").sum() == 11
            assert made.stop_error() is None
        with pytest.warns(UserWarning, match="11 of 14 replies were cut at max_tokens=64"):
            column = frame["q"].aichat.complete(progress=False, **options)
        assert column[1] == "Some words"
        one = frame.iloc[[1]]["q"].aichat.run(progress=False, **options)
        assert one.remarks()[0].startswith("1 of 1 replies was cut at max_tokens=64: row 0.")
        whole = frame.iloc[[0, 2]]["q"].aichat.run(progress=False, **options)
        assert (whole.cut, whole.remarks()) == ([], [])
        assert "cut" not in whole.summary()


def test_bar_shows_how_many_rows_were_cut(chat: Chat) -> None:
    file = io.StringIO()
    bar = ProgressBar(3, file=file)
    bar(Progress(rows=3, done=1, cut=1))
    time.sleep(0.6)  # no bar is drawn for a run that ends at once
    bar(Progress(rows=3, done=2, cut=2))
    assert "2 cut" in file.getvalue()
    bar(Progress(rows=3, done=3, cut=2, is_last=True))
    assert "2 cut" in file.getvalue().splitlines()[-1]


def test_note_of_a_cut_names_the_limit_that_cut() -> None:
    cut = Reply(text="Some", finish_reason="length", usage=Usage(output_tokens=64))
    assert "cut at max_tokens=64" in cut_note(cut, Options(max_tokens=64))
    assert "--max-tokens" in cut_note(cut, Options(max_tokens=64))
    assert cut_note(cut, Options(max_tokens=100)) == ""  # something else did
    assert cut_note(cut, Options()) == ""
    assert cut_note(Reply(text="Some"), Options(max_tokens=64)) == ""


# Thinking in runs --------------------------------------------------------------------------------------------------


def test_thinking_is_in_a_frame_where_it_is_asked_for_also_on_hits(chat: Chat) -> None:
    def choose(received: Received, attempt: int) -> Answer:
        if received.last_message == "tags":
            return answer_of("<think>Hm \x00</think>```python\nx = 1\n```\n{}")
        return answer_of("Four.", reasoning_content="Hm.") if received.last_message == "field" else text("Four.")

    prompts = pd.Series(["tags", "field", "none", None])
    with ChatServer(choose) as server:
        for calls in (3, 3):
            made = prompts.aichat.run(model="vllm/m", base_url=server.url, progress=False)
            assert len(server.requests) == calls
            frame = made.frame(thinking=True)
            assert frame["thinking"].fillna("-").tolist() == ["Hm \ufffd", "Hm.", "-", "-"]
            assert frame["thinking"].dtype == "string"
            plain = made.frame()
            assert [*plain.columns, "thinking"] == [*frame.columns.drop("thinking"), "thinking"]
            assert not plain.astype(str).apply(lambda column: column.str.contains("Hm")).any().any()
            assert not any(text and "Hm" in text for text in made.texts())
            tags = made.replies[0]
            assert isinstance(tags, Reply)
            assert (tags.code, tags.json, "Hm" in tags.text) == ("x = 1", {}, False)
            again = made.retry()
            assert again.frame(thinking=True).equals(frame)


def test_into_a_column_goes_no_thinking_and_no_answer_that_is_none(chat: Chat) -> None:
    def choose(received: Received, attempt: int) -> Answer:
        if received.last_message == "good":
            return answer_of("Four.", reasoning_content="Hm.")
        return answer_of("", "length", reasoning_content="Hm.")

    frame = pd.DataFrame({"q": ["good", "bad"]})
    with ChatServer(choose) as server:
        made = frame["q"].aichat.run(model="vllm/m", base_url=server.url, max_tokens=64, progress=False)
        made.put_into(frame, "a")
    assert frame["a"].fillna("-").tolist() == ["Four.", "-"]
    assert "max_tokens=64 is used up, by thinking" in frame["a_error"][1]
    assert "Hm" not in frame.to_csv()
    error = made.errors[1]
    assert isinstance(error, EmptyReplyError)
    assert error.reply.thinking == "Hm."


def test_error_names_what_was_used_up() -> None:
    reply = Reply(text="", model="openai/m", finish_reason="length", usage=Usage(output_tokens=16_000))
    assert "max_tokens=200 is used up" in str(no_answer(reply, Options(max_tokens=200)))
    assert "16,000 tokens are used up" in str(no_answer(reply, Options()))
    unknown = no_answer(Reply(text="", finish_reason="length"), Options())
    assert "Set max_tokens higher" in str(unknown)
    assert "sk-1" not in str(no_answer(Reply(text="x\x1b\n" * 900, finish_reason="refusal"), Options()))


@pytest.mark.parametrize("reason", ["length", "content_filter", "refusal", "tool_calls", "stop"])
def test_error_survives_pickling(reason: FinishReason) -> None:
    error = no_answer(Reply(text="", finish_reason=reason), Options(), "openai")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.finish_reason, copy.provider) == (str(error), reason, "openai")


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("answer", "words", "raw"),
    [
        (answer_of('{"n": 1', "length"), "cut at max_tokens=7", '{"n": 1'),
        (answer_of('{"n": 1', "content_filter"), "content filter", '{"n": 1'),
        (answer_of("", "length"), "max_tokens=7 is used up", None),
        (answer_of(None, "stop", refusal="I cannot."), "refused to answer", None),
    ],
    ids=["cut", "filtered", "empty", "refused"],
)
def test_extraction_names_a_cut_and_a_refusal_and_does_not_ask_again(
    answer: Answer, words: str, raw: str | None, chat: Chat
) -> None:
    def choose(received: Received, attempt: int) -> Answer:
        return answer if received.last_message == "bad" else text(json.dumps({"n": 1}))

    frame = pd.DataFrame({"q": ["good", "bad"]})
    with ChatServer(choose) as server:
        found = frame["q"].aichat.extract(
            schema=SCHEMA, model="vllm/m", base_url=server.url, max_tokens=7, progress=False
        )
        assert len(server.requests) == 2
    assert found["n"].tolist()[0] == 1
    assert words in found["extract_error"][1]
    assert found["extract_raw"].fillna("")[1] == (raw or "")


def test_whole_answer_that_is_wrong_is_still_asked_for_once_more(chat: Chat) -> None:
    def choose(received: Received, attempt: int) -> Answer:
        return text(json.dumps({"n": 1 if len(received.json["messages"]) > 1 else "x"}))

    with ChatServer(choose) as server:
        found = pd.Series(["a"]).aichat.extract(schema=SCHEMA, model="vllm/m", base_url=server.url, progress=False)
        assert len(server.requests) == 2
    assert found["n"].tolist() == [1]
