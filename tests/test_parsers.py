"""Any input to a parser gives a value or one of our errors, and any text gives HTML that nobody obeys.

What one parser makes of which input is tested with its room; the generated input here is of the whole way from the
wire to the screen. It is the same in each run, so that a run is green or red for its code and not by chance.

The HTML is read with Python's own parser. It forgives what a browser reads in another way, so each text is first held
against a grammar that leaves nothing to forgive: every "<" begins one of our tags, every value is quoted, and every "&"
begins an entity. Whatever parser reads such a text, it reads the same.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pandas as pd
import pexpect
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kernels import clean_environment
from safe_html import HOSTILE, MARKDOWN, Checked
from servers import Answer, ChatServer, Received, chunks, payload, text

from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import AichatError, BadInputError, ConfigError, MalformedReplyError, TooLargeError
from aichat_magic.core.json_text import SchemaError, values_in
from aichat_magic.core.messages import ChatRequest, Message, Reply
from aichat_magic.core.secrets import Secret
from aichat_magic.core.settings import Settings, load_settings
from aichat_magic.core.usage import Usage
from aichat_magic.http.client import HttpClient
from aichat_magic.http.rate_limits import rate_limits_from
from aichat_magic.http.sse import EventParser
from aichat_magic.magic.arguments import parse_cell, parse_command
from aichat_magic.magic.context.placeholders import fill, placeholders
from aichat_magic.magic.line_calls import with_calls
from aichat_magic.magic.line_words import split_line
from aichat_magic.providers.aichat import Aichat, set_cookies
from aichat_magic.providers.anthropic import Anthropic
from aichat_magic.providers.base import AsyncProvider
from aichat_magic.providers.openai import OpenAI
from aichat_magic.text.reply_view import reply_bundle, reply_html
from aichat_magic.text.widgets import Note, Table, Transcript

STABLE = settings(
    derandomize=True, deadline=None, max_examples=100, database=None, suppress_health_check=[HealthCheck.too_slow]
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def shaped(*names: str) -> st.SearchStrategy[Any]:
    """JSON that looks like a dialect: its own names, with anything below them."""
    named = st.deferred(lambda: st.dictionaries(st.sampled_from(names), inner, max_size=5))
    inner = JSON | named | st.lists(named, max_size=2) | st.sampled_from(["stop", "error", "text", "assistant"])
    return named | inner


# --- from the wire


def outcome(pieces: list[bytes]) -> object:
    """The events in some bytes, or the kind of the error that ends them."""
    parser, events = EventParser(), []
    try:
        for piece in pieces:
            events += parser.feed(piece)
        return [*events, *parser.finish()]
    except (MalformedReplyError, TooLargeError) as error:
        return type(error)


SSE_BYTES = st.lists(
    st.sampled_from([b"data: ", b"data:", b"event: ", b":", b"id: 1", b"\r", b"\n", b"\r\n", b"\n\r", b"\xef\xbb\xbf",
                     b"{}", b"[DONE]", b"x", "\u2028\u0085".encode(), "\U0001f600".encode(), b"\xff", b"\0"]),
    max_size=30,
).map(b"".join)  # fmt: skip


@given(SSE_BYTES, st.lists(st.integers(0, 200), max_size=12))
@STABLE
def test_stream_of_any_bytes_is_the_same_however_it_is_cut(stream: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[begin:end] for begin, end in pairwise(places)]
    assert outcome(pieces) == outcome([stream]) == outcome([stream[n : n + 1] for n in range(len(stream))])


@given(st.lists(st.text("ab:\u2028\u0085é", max_size=5), min_size=1, max_size=5), st.data())
@STABLE
def test_stream_is_the_same_whatever_its_line_ends(lines: list[str], data: st.DataObject) -> None:
    ends = data.draw(st.lists(st.sampled_from(["\n", "\r", "\r\n"]), min_size=len(lines), max_size=len(lines)))
    mixed = "".join(f"data: {line}{end}" for line, end in zip(lines, ends, strict=True))
    # A CR and a LF at the end of two lines are one line end; a comment keeps them apart.
    last = ends[-1] + (":" if ends[-1] == "\r" else "") + "\n\n"
    plain = "".join(f"data: {line}\n" for line in lines)
    assert outcome([(mixed + last).encode()]) == outcome([f"{plain}\n".encode()])


HEADERS = st.dictionaries(
    st.sampled_from(
        ["retry-after", *(f"{start}ratelimit-{kind}-{unit}" for start in ("x-", "anthropic-")
                          for kind in ("limit", "remaining", "reset") for unit in ("requests", "tokens"))]
    ),
    st.one_of(st.sampled_from(["0", "-1", "nan", "inf", "1e999", "6m0s", "20ms", "2026-01-01T00:00:00Z", "9" * 400]),
              st.text(max_size=12)),
)  # fmt: skip


@given(HEADERS)
@STABLE
def test_any_rate_limit_headers_give_limits_that_make_sense_or_none(headers: dict[str, str]) -> None:
    limits = rate_limits_from(headers, 1_800_000_000.0)
    assert limits is None or "nan" not in repr(limits).lower()


DIALECTS: Mapping[type[AsyncProvider], st.SearchStrategy[Any]] = MappingProxyType(
    {
        OpenAI: shaped("choices", "message", "delta", "content", "error", "usage", "finish_reason", "prompt_tokens",
                       "model", "refusal", "text", "prompt_tokens_details", "x_groq"),
        Anthropic: shaped("content", "type", "text", "delta", "error", "message", "usage", "stop_reason", "index",
                          "input_tokens", "content_block"),
        Aichat: shaped("response", "message", "error"),
    }
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("cls", DIALECTS, ids=lambda cls: cls.__name__.lower())
def test_any_body_gives_a_reply_or_one_of_our_errors(cls: type[AsyncProvider], is_streamed: bool) -> None:
    names = {OpenAI: "openai", Anthropic: "anthropic", Aichat: "aichat"}
    endpoint = Endpoint(provider=names[cls], base_url="https://chat-gpt.org", key=Secret("k" * 20))
    request = ChatRequest(model="gpt-3.5-turbo" if cls is Aichat else "m", messages=(Message("user", "hi"),))
    n_good = longest = 0

    async def asked(status: int, kind: str, body: bytes) -> None:
        nonlocal n_good, longest
        response = httpx.Response(status, content=body, headers={"content-type": kind})
        provider = cls(endpoint, HttpClient(mock=httpx.MockTransport(lambda _: response), environ={}))
        try:
            if is_streamed:
                async with contextlib.aclosing(provider.stream(request)) as pieces:
                    texts = [chunk.text async for chunk in pieces]
            else:
                texts = [(await provider.complete(request)).text]
        except AichatError as error:
            longest = max(longest, len(str(error)))
        else:
            assert all(isinstance(piece, str) for piece in texts)
            n_good += 1

    @given(
        st.sampled_from([200, 200, 200, 400, 429, 500]),
        st.sampled_from(["application/json", "text/event-stream", "text/html", ""]),
        st.one_of(
            st.binary(max_size=60),
            st.lists(DIALECTS[cls], min_size=1, max_size=3).map(
                lambda values: b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)
            ),
            DIALECTS[cls].map(lambda value: json.dumps(value).encode()),
        ),
    )
    @example(200, "application/json", b'{"choices": [{"message": {"content": "so"}}]}')
    @example(200, "application/json", b'{"content": [{"type": "text", "text": "so"}], "stop_reason": "end_turn"}')
    @example(200, "text/event-stream", b'data: {"choices":[{"delta":{"content":"so"},"finish_reason":"stop"}]}\n\n')
    @example(
        200,
        "text/event-stream",
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\ndata: {"type":"message_stop"}\n\n',
    )
    @example(200, "application/json", b'{"response": true, "message": "so"}')
    @settings(STABLE, max_examples=150)
    def try_body(status: int, kind: str, body: bytes) -> None:
        asyncio.run(asked(status, kind, body))

    if cls is Aichat:
        set_cookies("chat-gpt.org", {"a": "b"})
    try:
        try_body()
    finally:
        set_cookies("chat-gpt.org", {})
    assert n_good, "nothing that was tried is a reply"
    assert 0 < longest < 2_000


# --- from the user

LINE = st.lists(
    st.one_of(
        st.sampled_from(["-t", "--temperature", "0", "-0.5", "-s", "'", '"', "\\", " ", "{x}", "$5", ";", "(",
                         "--batch",
                         "df", "--into", "--stop", "=", "--", "ask", "?", "use", "set", "%aichat", "\n", "--include"]),
        st.text(max_size=5),
    ),
    max_size=8,
).map(" ".join)  # fmt: skip


@pytest.mark.slow
@given(LINE)
@STABLE
def test_any_line_is_understood_or_refused(line: str) -> None:
    for parse in (parse_cell, parse_command, split_line):
        with contextlib.suppress(BadInputError):
            parse(line)
    assert "".join(with_calls([line])) == line or "run_line_magic('aichat'" in "".join(with_calls([line]))


class Trap:
    """Tells when anything but its text is asked for."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name) if not name.startswith("_") else AttributeError(name)

    def __str__(self) -> str:
        return "<v>"

    __repr__ = __str__


@given(
    st.lists(st.sampled_from(["{", "}", "v", "w", ".k", "[0]", "!r", ":x", "()", " ", "$", "\\", "\n"]), max_size=20)
)
@STABLE
def test_only_what_stands_alone_in_one_pair_of_braces_is_replaced(parts: list[str]) -> None:
    prompt = "".join(parts)
    expected = re.sub(r"(?<!\{)\{v\}(?!\})", "<v>", prompt)
    assert fill(prompt, {"v": Trap()}).text == expected
    assert set(placeholders(prompt)) <= set(re.findall(r"\w+", prompt))


CONFIG = st.lists(
    st.one_of(
        st.sampled_from(["model = 'a/b'", "proxy = 'x'", "proxy = 3", "[providers.a]", "api_key = 'k k'",
                         "api_key = [1]",
                         "timeout_s = -1", "timeout_s = nan", "[options]", "temperature = 'x'", "stop = ['a', 3]",
                         "[aliases]", "a = {}", "[prices.'a/b']", "input = 1", "output = -inf", "base_url = 'http://'",
                         "keep_history = 1", "providers = 3", "max_retries = 99999999999999999999", "[[providers]]"]),
        st.text(max_size=10),
    ),
    max_size=6,
).map("\n".join)  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parsers") / "config.toml"
    path.touch(0o600)
    return path


@given(CONFIG)
@settings(STABLE, max_examples=300)
def test_any_config_file_is_settings_or_a_config_error(config: Path, content: str) -> None:
    config.write_bytes(content.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(BadInputError):
        assert isinstance(load_settings({}, config), Settings)


def test_config_file_that_nests_too_deep_is_a_config_error(config: Path) -> None:
    config.write_text("a = " + "[" * 100_000)
    with pytest.raises(ConfigError):
        load_settings({}, config)


@given(
    st.one_of(
        JSON.map(json.dumps),
        st.text(max_size=40),
        st.lists(st.sampled_from('{}[]",:1 \\\n`'), max_size=40).map("".join),
    )
)
@STABLE
def test_any_text_holds_json_or_says_that_it_does_not(reply: str) -> None:
    with contextlib.suppress(SchemaError):
        assert values_in(reply)


# --- to the screen

TAG = re.compile(r'</?[a-z][a-z0-9]*(?: [a-z]+="[^"<>]*")*>')
ENTITY = re.compile(r"&(?:[a-z]+|#x?[0-9a-f]+);")
PICTURE = re.compile(r'<img alt="[^"<>]*" width="\d+" height="\d+" src="data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)">')


def assert_harmless(html: str) -> None:
    """Only tags, attributes, styles and addresses of ours, in a form that every parser reads alike."""
    for place in re.finditer("<", html):
        assert TAG.match(html, place.start()), html[place.start() :][:80]
    for place in re.finditer("&", html):
        assert ENTITY.match(html, place.start()), html[place.start() :][:80]
    Checked(html)
    assert "commandlinker" not in re.sub(">[^<]*<", "><", html)


@given(MARKDOWN)
@STABLE
def test_any_text_is_harmless_in_every_view(words: str) -> None:
    reply = Reply(
        text=words, model=words, usage=Usage(input_tokens=1, output_tokens=2), messages=(Message("user", words),)
    )
    assert_harmless(reply_html(words))
    assert_harmless(reply_html(words, header=[words], footer=words, mark=words, is_growing=True))
    for bundle in (
        reply_bundle(reply, header=[words], note=words),
        reply._repr_mimebundle_(),
        Note(words)._repr_mimebundle_(),
        Table(words, (words, "n"), ((words, 1), (None, 2.5)), words)._repr_mimebundle_(),
        Transcript(title=words, messages=reply.messages, note=words)._repr_mimebundle_(),
        Transcript(title=words, messages=reply.messages, is_exact=True)._repr_mimebundle_(),
    ):
        assert set(bundle) == {"text/plain", "text/html"}
        assert_harmless(bundle["text/html"])
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", bundle["text/plain"])


def test_run_over_hostile_rows_is_harmless_to_look_at() -> None:
    """The server says what it is told to, as a reply and as an error."""

    def answer(received: Received, attempt: int) -> Answer:
        words = received.last_message
        if words.startswith("fail"):
            return payload({"error": {"message": words, "type": words}}, code=400)
        return text(f"{words} .")

    frame = pd.DataFrame({"a": [*HOSTILE, *(f"fail {words}" for words in HOSTILE)]})
    with ChatServer(answer) as server:
        where = {"model": "vllm/m", "base_url": server.url, "store": False, "progress": False}
        asked = frame.aichat.run("{a}", **where)
        previewed = frame.aichat.preview("{a}", n=len(HOSTILE), **where)
    assert 0 < len(asked.errors) < len(frame)
    html = asked._repr_mimebundle_()["text/html"]
    assert "BadRequestError" in html
    pictures = [base64.b64decode(found).decode() for found in PICTURE.findall(html)]
    assert len(pictures) == 2
    for picture in pictures:
        assert not any(words in picture for words in HOSTILE)
        assert not re.search(r"<(?!/?(?:svg|rect|text|path|polyline)\b)|\son\w+=|href|url\(", picture), picture
    assert_harmless(PICTURE.sub("", html))
    assert_harmless(previewed._repr_html_())


@pytest.mark.slow
def test_terminal_of_ipython_obeys_nothing_of_a_reply(tmp_path: Path) -> None:
    pieces = ["a\x1b", "]52;c;aGk=\x07", "\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "\x9b31m", "\x1b[2J",
              "\u202eevil\u2066", "\x00\x08\r", " done "]  # fmt: skip
    with ChatServer(lambda *_: chunks(pieces)) as server:
        terminal = pexpect.spawn(
            sys.executable,
            ["-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=NoColor"],
            env=clean_environment(tmp_path, {"TERM": "xterm", "AICHAT_BASE_URL": server.url, "AICHAT_MODEL": "vllm/m"}),
            cwd=str(tmp_path),
            timeout=60,
            encoding="utf-8",
        )
        shown = ""
        lines = ("%load_ext aichat_magic", "%aichat ask hi", "_", "%aichat show")
        try:
            for number, line in enumerate((*lines, "exit()"), start=1):
                terminal.expect_exact(f"In [{number}]: ")
                shown += str(terminal.before) if number > 1 else ""  # before that it sets the window's title
                terminal.sendline(line)
            terminal.expect(pexpect.EOF)
        finally:
            terminal.close(force=True)
    assert shown.count("done") >= 2
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown), ascii(shown)
