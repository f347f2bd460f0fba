"""A canary key goes every way that keys go, and is found in nothing that is written or shown.

What is searched for is a part of the key, as it is and in the forms in which files and URLs hold it. How one room
treats secrets is tested with that room; this is the sum.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import dataclasses
import json
import os
import pickle
import pprint
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import httpx
import pytest
from IPython.core.interactiveshell import InteractiveShell
from servers import Answer, ChatServer, Received, cut, event_stream, hang, payload, raw, reset, short_body, sse, status

import aichat_magic
from aichat_magic.bridge import run
from aichat_magic.chat import Call, Chat
from aichat_magic.errors import AichatError, MissingKeyError, UnknownNameError
from aichat_magic.messages import ChatRequest, Message, Reply
from aichat_magic.registry import GROUP, Registry
from aichat_magic.retry import RetryPolicy
from aichat_magic.secret import Environment
from aichat_magic.settings import Settings, load_settings
from aichat_magic.transport import Transport

CORE = "Canary7Zq4Wx"
# What JSON, URLs and base64 change: a slash, a plus, a quote, padding.
CANARY = f'sk-{CORE}/9+"k='
PASSWORD = f"pw-{CORE}"
MODES = ("Plain", "Context", "Verbose", "Minimal", "Docs")


def forms(text: str) -> set[bytes]:
    """How a text can stand in a file: as it is, in base64 at any offset, in hex, in escapes of JSON, in UTF-16."""
    plain = text.encode()
    # Of each offset the characters that depend on nothing but the text.
    coded = {base64.b64encode(b"\0" * shift + plain)[(shift * 8 + 5) // 6 : -4] for shift in range(3)}
    escaped = "".join(f"\\u{ord(char):04x}" for char in text).encode()
    return {plain, *coded, *(part.translate(bytes.maketrans(b"+/", b"-_")) for part in coded), plain.hex().encode(),
            escaped, text.encode("utf-16-le")}  # fmt: skip


FORMS = forms(CORE)


def found(data: bytes | str) -> list[bytes]:
    """The forms of the canary in some text or bytes."""
    data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return [form for form in FORMS if form in data]


def test_the_search_finds_the_canary_in_every_form() -> None:
    for prefix in ("", "a", "ab"):
        text = f"{prefix}Bearer {CANARY}"
        for shown in (text, json.dumps(text), base64.b64encode(text.encode()), base64.urlsafe_b64encode(text.encode()),
                      httpx.URL("http://x", params={"key": text}), text.encode("utf-16"), text.encode().hex(),
                      repr(text), pickle.dumps(text)):  # fmt: skip
            assert found(shown if isinstance(shown, bytes) else str(shown)), shown
    assert not found("nothing of the kind")


# --- values


def parts(value: Any, depth: int = 6) -> Iterator[Any]:
    """A value, its attributes and items, theirs and so on: what a debugger or an error tracker would show.

    Of other packages' objects only the objects: a live connection knows what went through it.
    """
    yield value
    if depth == 0:
        return
    inner: list[Any] = []
    if type(value).__module__.startswith("aichat_magic"):
        inner += getattr(value, "__dict__", {}).values()
        slots = (kind.__dict__.get("__slots__", ()) for kind in type(value).__mro__)
        inner += (getattr(value, name, None) for names in slots for name in ([names] if type(names) is str else names))
    if isinstance(value, Mapping) and not isinstance(value, Environment):
        inner += [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner += list(value)
    for item in inner:
        yield from parts(item, depth - 1)


def every_way_to_show(value: Any) -> Iterator[str | bytes]:
    """What printing, dumping, copying and pickling a value give; a refusal gives the text of its error."""
    ways: list[Callable[[], Any]] = [
        lambda: repr(value),
        lambda: str(value),
        lambda: f"{value}",
        lambda: "%s %r" % (value, value),  # noqa: UP031  # an old way to print, too
        lambda: pprint.pformat(value),
        lambda: repr(vars(value)),
        lambda: repr(dataclasses.asdict(value)),
        lambda: repr(dataclasses.astuple(value)),
        lambda: repr(copy.copy(value)),
        lambda: repr(copy.deepcopy(value)),
        lambda: pickle.dumps(value),
        lambda: json.dumps(value, default=vars),
        lambda: json.dumps(value, default=str),
        lambda: json.dumps(value, default=dataclasses.asdict),
        lambda: value._repr_mimebundle_(),
        lambda: "\n".join(map(repr, parts(value))),
    ]
    for way in ways:
        try:
            shown = way()
        except Exception as error:  # a refusal
            yield f"{error!r} {error}"
        else:
            yield shown if isinstance(shown, bytes) else str(shown)


def assert_hides(value: Any) -> None:
    for shown in every_way_to_show(value):
        assert not found(shown), f"{type(value).__name__}: {shown!r:.2000}"


def variables() -> dict[str, str]:
    """The environment with a key for every provider and preset that knows one."""
    names = {"AICHAT_API_KEY", *(preset.key_env for entry in entry_points(group=GROUP)
                                 for preset in entry.load().presets.values() if preset.key_env)}  # fmt: skip
    return {**dict.fromkeys(names, CANARY), "AICHAT_PROXY": f"http://user:{PASSWORD}@proxy.example:3128"}


CONFIG = f"""
proxy = "socks5://user:{PASSWORD}@127.0.0.1:9"
[providers.openai]
api_key = '{CANARY}'
[providers.mine]
base_url = "https://mine.example/v1"
api_key = '{CANARY}'
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.touch(0o600)
    path.write_text(CONFIG)
    return path


def all_settings(config: Path) -> list[Settings]:
    """Keys from the environment, and from the file."""
    return [load_settings(variables(), config.with_name("none")), load_settings({}, config)]


PRESETS = {name: preset for entry in entry_points(group=GROUP) for name, preset in entry.load().presets.items()}


@pytest.mark.parametrize("name", [*sorted(entry.name for entry in entry_points(group=GROUP)), "mine"])
def test_no_value_on_the_way_to_a_provider_shows_its_key(name: str, config: Path) -> None:
    http = Transport(environ=variables())
    has_key = False
    for settings in all_settings(config):
        assert_hides(settings)
        # The one knows no `mine`, the other has no key of the rest: what they then say hides it, too.
        try:
            provider = Registry(http).route(f"{name}/m", settings, allow_not_working=True).provider
        except (MissingKeyError, UnknownNameError) as error:
            assert_hides(error)
            continue
        has_key = has_key or provider.endpoint.key is not None
        request = ChatRequest(model="m", messages=(Message("user", "hi"),))
        call = Call(provider=provider, request=request, policy=RetryPolicy())
        for value in (provider, provider.endpoint, call, http, Registry(http)):
            assert_hides(value)
    assert has_key == (name == "mine" or (name in PRESETS and bool(PRESETS[name].key_env)))


# --- errors


def tracebacks(error: BaseException, modes: Iterable[str]) -> Iterator[str]:
    """How Python and IPython show an error, without the frames of the test itself, which knows the canary."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    yield "".join(traceback.format_exception(type(error), error, trace))
    shell = InteractiveShell.instance()
    for mode in modes:
        shell.InteractiveTB.set_mode(mode=mode)
        lines = shell.InteractiveTB.structured_traceback(type(error), error, trace, tb_offset=0)
        yield f"{mode}\n" + "\n".join(lines)


def frames(error: BaseException | None, seen: set[int]) -> Iterator[str]:
    """The variables of all frames of an error and of those behind it, shown or not."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename != __file__:
            for name, value in frame.f_locals.items():
                place = f"{frame.f_code.co_filename}:{number} {name}"
                # No copies of them: among them are the loop and its sockets.
                yield "\n".join([place, *map(repr, parts(value))])
    yield from frames(error.__cause__, seen)
    yield from frames(error.__context__, seen)
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from frames(inner, seen)


def assert_error_hides(error: BaseException, modes: Iterable[str] = ()) -> None:
    """The modes of IPython show less than all variables of all frames do, and take their time."""
    assert_hides(error)
    for shown in (*tracebacks(error, modes), *frames(error, set())):
        assert not found(shown), f"{type(error).__name__}: {shown:.3000}"


def says(text: str) -> dict[str, Any]:
    return {"error": {"message": text, "type": "invalid_request_error", "code": text}}


def echoed(received: Received) -> str:
    """All that came in the headers, as debugging servers answer."""
    return f"You sent: {received.headers}"


ECHO = f"Incorrect API key provided: {CANARY}."
HEADERS = {"x-echo": f"Bearer {CANARY}", "retry-after": "0"}
FAULTS: dict[str, Callable[[Received, int], Answer]] = {
    **{
        str(code): lambda received, attempt, code=code: status(code, body=says(ECHO), headers=HEADERS)  # type: ignore[misc]
        for code in (400, 401, 402, 403, 404, 413, 422, 429, 500, 503, 529)
    },
    "401 in escapes": lambda *_: payload(json.dumps(says(ECHO)).replace("/", "\\/").encode(), code=401),
    "401 as text": lambda *_: status(401, body=ECHO),
    "401 as a page": lambda *_: status(401, body=f"<html><title>{ECHO}</title></html>"),
    "500 with all headers": lambda received, _: status(500, body={"detail": echoed(received)}),
    "400 with all headers as text": lambda received, _: status(400, body=echoed(received)),
    "400 cut": lambda *_: raw(f"HTTP/1.1 400 Bad Request\r\ncontent-length: 999\r\n\r\n{ECHO}".encode()),
    "no JSON": lambda *_: payload(ECHO.encode()),
    "JSON cut": lambda *_: payload(json.dumps(says(ECHO)).encode()[:-2]),
    "a page": lambda *_: status(200, body=f"<html><title>{ECHO}</title></html>", headers={"content-type": "text/html"}),
    "no object": lambda *_: payload([ECHO]),
    "no choices": lambda *_: payload({"message": ECHO}),
    "error in a 200": lambda *_: payload(says(ECHO)),
    "error text in a 200": lambda *_: payload({"error": ECHO}),
    "choice with an error": lambda *_: payload({"choices": [{"error": {"message": ECHO}, "finish_reason": "error"}]}),
    "redirect": lambda received, _: status(307, headers={"location": f"https://evil.example/{CANARY}?key={CANARY}"}),
    "reset": lambda *_: reset(),
    "short": lambda *_: short_body(),
    "cut": lambda *_: cut(),
    "cut in the middle": lambda *_: cut(abrupt=True),
    "hang": lambda *_: hang(),
    "no HTTP": lambda *_: raw(f"{ECHO}\r\n\r\n".encode()),
    "header that is none": lambda *_: raw(f"HTTP/1.1 200 OK\r\n{ECHO}\r\n\r\n".encode()),
    "gone": lambda *_: raw(b""),
}  # fmt: skip
STREAM_FAULTS: dict[str, Callable[[Received, int], Answer]] = {
    "event of an error": lambda *_: event_stream([f"event: error\ndata: {json.dumps(says(ECHO))}\n\n"]),
    "error in an event": lambda *_: event_stream([sse(says(ECHO))]),
    "event that is no JSON": lambda *_: event_stream([sse(ECHO)]),
    "event that is no object": lambda *_: event_stream([sse([ECHO])]),
    "text before an error": lambda *_: event_stream(
        [sse({"choices": [{"delta": {"content": "so "}}]}), sse(says(ECHO))]
    ),
}  # fmt: skip


@contextlib.contextmanager
def chat_with(environ: Mapping[str, str]) -> Iterator[Chat]:
    """A `Chat` as the magic has it, which does not try again."""
    made = dataclasses.replace(load_settings({**environ, "AICHAT_CONFIG": os.devnull}), max_retries=0)
    chat = Chat(settings=lambda: made, http=Transport(environ=environ))
    try:
        yield chat
    finally:
        run(chat.http.aclose())


def environ_of(server: ChatServer) -> dict[str, str]:
    """The key bound to the server of a test, in each dialect."""
    return {
        "AICHAT_API_KEY": CANARY,
        "AICHAT_BASE_URL": server.url,
        "AICHAT_MODEL": "openai/m",
        "ANTHROPIC_BASE_URL": server.root,
        "ANTHROPIC_API_KEY": CANARY,
    }


def asked(chat: Chat, model: str, timeout: float = 30) -> Reply:
    return aichat_magic.ask("hi", chat=chat, model=model, timeout=timeout)


def streamed(chat: Chat, model: str, timeout: float = 30) -> str:
    return "".join(aichat_magic.stream("hi", chat=chat, model=model, timeout=timeout))


def in_a_batch(chat: Chat, model: str, timeout: float = 30) -> None:
    outcome = aichat_magic.batch(["hi"], chat=chat, model=model, timeout=timeout, store=False, progress=False)[0]
    assert isinstance(outcome, AichatError)
    raise outcome


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Everybody logs everything; and whatever a test of this file does, nothing of it is in the log."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(caplog.at_level(1))
        for name in ("httpx", "httpcore", "h11", "aiohttp", "anyio", "asyncio", "aichat_magic", "markdown_it"):
            stack.enter_context(caplog.at_level(1, logger=name))
        yield
    assert not found(caplog.text)
    for record in caplog.records:
        assert not found(repr(record.__dict__))


@pytest.mark.parametrize("model", ["openai/m", "anthropic/m"])
@pytest.mark.parametrize(
    ("way", "fault"),
    [
        *((way, fault) for fault in FAULTS for way in (asked, streamed, in_a_batch)),
        *((streamed, fault) for fault in STREAM_FAULTS),
    ],
)
def test_no_error_shows_the_key_even_when_the_server_repeats_it(
    way: Callable[[Chat, str, float], object], fault: str, model: str
) -> None:
    with ChatServer({**FAULTS, **STREAM_FAULTS}[fault]) as server, chat_with(environ_of(server)) as chat:
        with pytest.raises(AichatError) as caught:
            way(chat, model, 0.5 if fault == "hang" else 30)
        sent = [(got.headers.get("authorization"), got.headers.get("x-api-key")) for got in server.requests]
    assert fault == "hang" or sent in ([(f"Bearer {CANARY}", None)], [(None, CANARY)])
    assert_error_hides(caught.value)


@pytest.mark.parametrize("mode", MODES)
def test_no_mode_of_tracebacks_shows_the_key(mode: str) -> None:
    for way, fault in ((asked, "500 with all headers"), (streamed, "error in an event"), (in_a_batch, "no JSON")):
        with ChatServer({**FAULTS, **STREAM_FAULTS}[fault]) as server, chat_with(environ_of(server)) as chat:
            with pytest.raises(AichatError) as caught:
                way(chat, "openai/m")
        assert_error_hides(caught.value, [mode])
