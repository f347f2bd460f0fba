"""Characters that no text may hold spoil no column: they are replaced in their own reply, and a line says so."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from needs import needs
from safe_html import FORBIDDEN
from servers import Answer, ChatServer, Received, payload, text

import aichat_magic  # noqa: F401  # it is what gives pandas the accessor
from aichat_magic.batching.api import batch
from aichat_magic.chat import chat as chat_module
from aichat_magic.chat.chat import Chat
from aichat_magic.core.errors import BadInputError
from aichat_magic.core.json_text import values_in, without_unfit
from aichat_magic.core.messages import Message, Reply
from aichat_magic.core.settings import Settings
from aichat_magic.core.sync import run_sync as run
from aichat_magic.store.sqlite import SqliteStore
from aichat_magic.text.characters import encodable, fit, is_blank, terminal_text
from aichat_magic.text.terminal import write_stdout
from aichat_magic.text.widgets import Note, Table, Transcript

UNFIT = ["a\ud83db", "a\udc00b", "a\0b", "\ud800"]
TAG = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"  # the flag of England
SAID = r"1 reply held characters that no text may hold"


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    """Make the chat that columns use, too."""
    store = SqliteStore(tmp_path / "replies.sqlite3")
    chat = Chat(settings=Settings, store=store)
    monkeypatch.setattr(chat_module, "shared_chat", lambda: chat)
    yield chat
    run(chat.http.aclose())
    store.close()


def says(bad: str) -> Any:
    """Answer the row "bad" with a text, and echo all others."""

    def answer(received: Received, attempt: int) -> Answer:
        # `payload` writes ASCII: a half of a pair travels as its escape, as it does from real servers.
        content = bad if received.last_message == "bad" else f"echo: {received.last_message}"
        return payload({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})

    return answer


def options(server: ChatServer) -> dict[str, Any]:
    return {"model": "vllm/m", "base_url": server.url, "progress": False}


@given(st.text(st.characters(), max_size=20))
def test_fit_text_can_be_written_and_differs_only_where_it_must(value: str) -> None:
    found = fit(value)
    assert found.encode().count(b"\0") == 0
    assert len(found) == len(value)
    is_unfit = [char == "\0" or "\ud800" <= char <= "\udfff" for char in value]
    assert list(found) == ["\ufffd" if unfit else char for char, unfit in zip(value, is_unfit, strict=True)]
    assert (found is value) == (not any(is_unfit))


def test_tag_characters_stay_because_flags_are_made_of_them() -> None:
    assert fit(TAG) == TAG
    assert pd.Series([TAG], dtype="string")[0] == TAG


@pytest.mark.parametrize(("value", "expected"), [("", True), (" \n\u200b\ufeff\xa0", True), ("\u200b.", False)])
def test_blank_text_has_nothing_to_read(value: str, expected: bool) -> None:
    assert is_blank(value) is expected


@pytest.mark.parametrize("bad", UNFIT)
def test_one_reply_with_such_characters_leaves_the_column_whole_on_every_run(bad: str, chat: Chat) -> None:
    prompts = pd.Series(["one", "bad", "two"], dtype="string")
    with ChatServer(says(bad)) as server:
        for _ in range(2):  # asked, then from the store
            with pytest.warns(UserWarning, match=SAID) as caught:
                column = prompts.aichat.complete(**options(server))
            assert len(caught) == 1
            assert column.tolist() == ["echo: one", fit(bad), "echo: two"]
        assert len(server.requests) == 3


def test_stored_replies_of_0_1_with_such_characters_are_mended_as_they_are_read(chat: Chat, tmp_path: Path) -> None:
    with ChatServer() as server:
        prompts = pd.Series(["one", "two"], dtype="string")
        prompts.aichat.complete(**options(server))
        chat.store.close()
        with sqlite3.connect(tmp_path / "replies.sqlite3") as file:
            file.execute("UPDATE replies SET text = ? WHERE id = 2", ("x\ud800\0".encode("utf-8", "surrogatepass"),))
        file.close()
        with pytest.warns(UserWarning, match=SAID):
            assert prompts.aichat.complete(**options(server))[1] == "x\ufffd\ufffd"
        assert len(server.requests) == 2


@needs("pyarrow")
def test_run_and_its_frame_and_its_file_hold_the_mended_text(chat: Chat, tmp_path: Path) -> None:
    frame = pd.DataFrame({"q": ["one", "bad"]})
    with ChatServer(says("a\ud800b")) as server:
        made = frame.aichat.run("{q}", **options(server))
    assert made.replaced == 1
    assert "1 reply held characters" in repr(made)
    assert "1 reply held characters" in made._repr_mimebundle_()["text/html"]
    made.put_into(frame, "reply")
    assert frame["reply"].tolist() == ["echo: one", "a\ufffdb"]
    made.to_parquet(tmp_path / "run.parquet")
    assert pd.read_parquet(tmp_path / "run.parquet")["reply"].tolist() == ["echo: one", "a\ufffdb"]


def test_run_without_such_characters_says_nothing(chat: Chat) -> None:
    with ChatServer(says("é😀" + TAG)) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pd.Series(["bad"]).aichat.complete(**options(server))[0] == "é😀" + TAG


def test_batch_says_it_once(chat: Chat) -> None:
    with ChatServer(says("a\0b")) as server, pytest.warns(UserWarning, match=SAID) as caught:
        found = batch(["bad", "bad", "one"], chat=chat, **options(server))
    assert len(caught) == 1
    assert [str(reply) for reply in found] == ["a\ufffdb", "a\ufffdb", "echo: one"]


def test_errors_with_such_characters_fit_into_a_column(chat: Chat) -> None:
    class Odd:
        def __str__(self) -> str:
            raise ValueError("half \ud800 of a pair")

    frame = pd.DataFrame({"q": ["one", Odd()]})
    with ChatServer() as server:
        made = frame.aichat.run("{q}", **options(server))
    made.put_into(frame, "reply")
    assert "half" in frame["reply_error"][1]
    assert "half" in made.frame()["error"][1]


def test_preview_shows_a_prompt_with_such_characters(chat: Chat) -> None:
    frame = pd.DataFrame({"q": pd.Series(["a\ud800b"], dtype=object)})
    with ChatServer() as server:
        assert frame.aichat.preview("{q}", **options(server))["prompt"][0] == "a\ufffdb"


def test_column_name_that_no_table_can_hold_is_refused_before_it_is_paid_for() -> None:
    from aichat_magic.batching.run import check_columns

    with pytest.raises(BadInputError, match=r"'x\\ud800' cannot be the name of a column"):
        check_columns(pd.DataFrame({"q": ["a"]}), "x\ud800")


@pytest.mark.parametrize(
    "schema", [{"type": "object", "properties": {"a\ud800": {"type": "string"}}}, Literal["\udc00"]]
)
def test_schema_that_no_column_can_hold_is_refused_before_it_is_paid_for(schema: Any, chat: Chat) -> None:
    with ChatServer() as server:
        with pytest.raises(BadInputError, match="surrogate"):
            pd.Series(["a"]).aichat.extract(schema=schema, **options(server))
        assert server.requests == []


SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}


@pytest.mark.parametrize(
    ("inside", "word"),
    [(r"a\ud800b", "a\ufffdb"), (r"a\u0000b", "a\ufffdb"), (r"\ud83d\ude00", "😀"), ("a\ud83db", "a\ufffdb")],
)
def test_extracted_values_are_mended_too(inside: str, word: str, chat: Chat) -> None:
    def answer(received: Received, attempt: int) -> Answer:
        return text(whole)

    whole = f'{{"word": "{inside}"}}'
    if "\ud83d" in inside:  # as itself, not as an escape
        answer = says(whole)
    prompts = pd.Series(["bad"])
    with ChatServer(answer) as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = prompts.aichat.extract(schema=SCHEMA, **options(server))
        assert len(server.requests) == 1
    assert found["word"].tolist() == [word]
    assert "extract_error" not in found
    assert [str(warning.message)[:7] for warning in caught] == (["1 reply"] if "\ufffd" in word else [])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (r'"\ud800"', r'"\ufffd"'),
        (r'"\uDFFF\uD800"', r'"\ufffd\ufffd"'),
        (r'"\ud83d\ude00"', r'"\ud83d\ude00"'),
        (r'"\\ud800"', r'"\\ud800"'),
        (r'"\\\ud800"', r'"\\\ufffd"'),
        (r'"\u00000"', r'"\ufffd0"'),
        ("no json \\", "no json \\"),
    ],
)
def test_escapes_of_such_characters_are_told_from_what_only_looks_like_them(value: str, expected: str) -> None:
    assert without_unfit(value) == expected


@pytest.mark.slow
@given(st.recursive(st.text(st.characters()), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_whatever_json_holds_can_be_written_as_utf_8(value: Any) -> None:
    for is_ascii in (True, False):
        found = values_in(json.dumps([value], ensure_ascii=is_ascii))[0]
        assert b"\0" not in json.dumps(found, ensure_ascii=False).encode()


# What a terminal gets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;aGk=\x07", "]52;c;aGk="),
        ("\x1b]8;;https://example.org\x1b\\x", "]8;;https://example.org\\x"),
        ("\x1b[2J\x1b[31mred", "[2J[31mred"),
        ("\x9b31m\x90q\x9c", "31mq"),
        ("a\u202eb\u2066c\u200fd\u061ce", "abcde"),
        ("a\r\nb\rc\x08d\x7f", "a\nbcd"),
        ("tab\tline\n", "tab\tline\n"),
        ("héllo 日本 👩\u200d🔬", "héllo 日本 👩\u200d🔬"),
        ("\ud800", "\ufffd"),
    ],
)
def test_terminal_gets_no_control_sequence(text: str, shown: str) -> None:
    assert terminal_text(text) == shown


@given(st.lists(st.text(st.characters()) | st.sampled_from(["\x1b", "[31m", "\x9b", "]52;c;", "\x07", "\ud800"])))
def test_terminal_text_is_clean_and_the_same_in_pieces(pieces: list[str]) -> None:
    whole = terminal_text("".join(pieces))
    assert not FORBIDDEN.search(whole)
    assert "".join(map(terminal_text, pieces)) == whole


@given(st.text(), st.sampled_from(["cp1252", "ascii", "latin-1", "cp437", "utf-8", "utf-16", "no-such-encoding", None]))
def test_any_text_can_be_written_to_a_terminal_of_any_encoding(text: str, encoding: str | None) -> None:
    shown = encodable(terminal_text(text), encoding)
    shown.encode("ascii" if encoding == "no-such-encoding" else encoding or "utf-8")
    if encoding in ("utf-8", "utf-16", None):
        assert shown == terminal_text(text)


def test_letters_that_a_terminal_lacks_have_readable_replacements() -> None:
    text = "\u201cna\u00efve\u201d \u2013 5 \u2264 6 \u2192 \u2026 \u03c0 \U0001f642"
    assert encodable(text, "ascii") == '"na\\xefve" - 5 <= 6 -> ... \\u03c0 \\U0001f642'
    assert encodable(text, "cp1252") == ("\u201cna\u00efve\u201d \u2013 5 <= 6 -> \u2026 \\u03c0 \\U0001f642")


def test_views_are_made_for_the_encoding_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 101. IPython prints them itself, and would raise."""
    text = "caf\u00e9 \u2192 \u03c0"
    views = (
        Reply(text=text),
        Note(text),
        Table(text, ("a",), ((text,),)),
        Transcript(title=text, messages=(Message("user", text),)),
    )
    for encoding in ("cp1252", "ascii", "latin-1"):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        for view in views:
            bundle = view._repr_mimebundle_()
            bundle["text/plain"].encode(encoding)
            assert "->" in bundle["text/plain"]
            assert "\u2192" in bundle["text/html"]
            write_stdout(text)
        sys.stdout.flush()
