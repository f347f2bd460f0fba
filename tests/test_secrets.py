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
import ssl
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest
import trustme
from IPython.core.interactiveshell import InteractiveShell
from kernels import Kernel, clean_environment
from nbclient import NotebookClient
from servers import (
    Answer,
    ChatServer,
    Received,
    cut,
    event_stream,
    hang,
    payload,
    raw,
    reset,
    short_body,
    sse,
    status,
    text,
)

import aichat_magic
from aichat_magic.chat.chat import Call, Chat
from aichat_magic.chat.retry import RetryPolicy
from aichat_magic.core.errors import AichatError, MissingKeyError, UnknownNameError
from aichat_magic.core.messages import ChatRequest, Message, Reply
from aichat_magic.core.secrets import Environment, Secret
from aichat_magic.core.settings import Settings, load_settings
from aichat_magic.core.sync import run_sync as run
from aichat_magic.http.client import Auth, HttpClient, HttpRequest
from aichat_magic.providers.aichat import Aichat, create_completion, set_cookies
from aichat_magic.providers.openai import OpenAI
from aichat_magic.providers.registry import GROUP, Registry

CORE = "Canary7Zq4Wx"
# What JSON, URLs and base64 change: a slash, a plus, a quote, padding.
CANARY = f'sk-{CORE}/9+"k='
PASSWORD = f"pw-{CORE}"
WIRE = ("exchange", "connections", "ways", "by_httpx", "sockets", "response", "decoding", "instrumentation")
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

    Of other packages' objects and of connections only the objects: a connection knows what went through it.
    """
    yield value
    if depth == 0:
        return
    inner: list[Any] = []
    module = type(value).__module__
    if module.startswith("aichat_magic") and module.partition(".")[2] not in WIRE:
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


MODELS = {"local": "smollm2-135m"}
# Providers whose address is the user's own.
ADDRESSES = {"AZURE_OPENAI_ENDPOINT": "res", "DATABRICKS_HOST": "dbc-1.example", "AWS_REGION": "eu-central-1"}
PRESETS = {name: preset for entry in entry_points(group=GROUP) for name, preset in entry.load().presets.items()}


@pytest.mark.parametrize("name", [*sorted(entry.name for entry in entry_points(group=GROUP)), "mine"])
def test_no_value_on_the_way_to_a_provider_shows_its_key(name: str, config: Path) -> None:
    http = HttpClient(environ=variables())
    has_key = False
    model = MODELS.get(name, "m")
    for plain in all_settings(config):
        settings = dataclasses.replace(plain, environ={**plain.environ, **ADDRESSES})
        assert_hides(settings)
        # The one knows no `mine`, the other has no key of the rest: what they then say hides it, too.
        try:
            provider = Registry(http).resolve(f"{name}/{model}", settings, allow_not_working=True).provider
        except (MissingKeyError, UnknownNameError) as error:
            assert_hides(error)
            continue
        has_key = has_key or provider.endpoint.key is not None
        request = ChatRequest(model=model, messages=(Message("user", "hi"),))
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


def repr_or_error(value: object) -> str:
    """What stands in the frame of an error may be half made."""
    try:
        return repr(value)
    except Exception as error:
        return f"{error!r}"


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
                yield "\n".join([place, *map(repr_or_error, parts(value))])
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
    chat = Chat(settings=lambda: made, http=HttpClient(environ=environ))
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
    keywords = {"store": False, "progress": False, "limit_patience_s": 0}
    outcome = aichat_magic.batch(["hi"], chat=chat, model=model, timeout=timeout, **keywords)[0]
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


@pytest.mark.slow
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


def key_errors(config: Path) -> Iterator[Callable[[], object]]:
    """Calls that fail because of the key or the address, before anything is sent."""
    for wrong in (f"{CANARY}\nx", f"{CANARY} x", f"{CANARY}\0", f"{CANARY}ü", f"a\u2028{CANARY}"):
        environ = {"AICHAT_API_KEY": wrong, "OPENAI_API_KEY": wrong, "AICHAT_BASE_URL": "http://127.0.0.1:9/v1"}
        yield lambda environ=environ: load_settings(environ, config / "none").endpoint("openai", PRESETS["openai"])
        yield lambda wrong=wrong: set_cookies("chat-gpt.org", {"session": wrong})
        text = json.dumps(wrong)
        yield lambda text=text: load_written(config, f"[providers.openai]\napi_key = {text}\n")
        yield lambda text=text: load_written(config, f"[providers.openai]\napi_key = {text}\nbase_ur = 'x'\n")
        yield lambda text=text: load_written(config, f"[providers.openai]\napi_key = [{text}]\n")
        yield lambda text=text: load_written(config, f"[providers.openai]\napi_key = {text}\nmodel =\n")
    for url in ("htp://u:{}@x", "http://u:{}@x:99999", "http://u:{}@", "u:{}@x:99999"):
        proxy = url.format(PASSWORD)
        yield lambda proxy=proxy: load_settings({"AICHAT_PROXY": proxy}, config / "none")
        yield lambda proxy=proxy: load_written(config, f"proxy = '{proxy}'\n")
        yield lambda proxy=proxy: run(OpenAI.create_async("m", HI, proxy=proxy))
        yield lambda proxy=proxy: run(Aichat.create_async("gpt-3.5-turbo", HI, proxy=proxy, cookies={"a": CANARY}))
    yield lambda: run(Aichat.create_async("gpt-4", HI, cookies={"session": CANARY}))
    yield lambda: run(Aichat.create_async("gpt-3.5-turbo", HI, cookies={"session": f"{CANARY}\n"}))
    yield lambda: run(Aichat.create_async("gpt-3.5-turbo", HI, cookies={"session": CANARY}, temperatur=1))
    yield lambda: create_completion("gpt-4", HI, cookies={"session": CANARY})


HI = [{"role": "user", "content": "hi"}]


def load_written(folder: Path, text: str) -> Settings:
    path = folder / "config.toml"
    path.touch(0o600)
    path.write_text(text)
    return load_settings({}, path)


def test_key_or_proxy_that_cannot_be_used_is_refused_and_not_shown(tmp_path: Path) -> None:
    for call in key_errors(tmp_path):
        with pytest.raises(AichatError) as caught:
            call()
        assert_error_hides(caught.value)


@pytest.mark.parametrize("mode", MODES)
def test_no_mode_shows_a_key_that_is_refused(mode: str, tmp_path: Path) -> None:
    for call in list(key_errors(tmp_path))[:4]:
        with pytest.raises(AichatError) as caught:
            call()
        assert_error_hides(caught.value, [mode])


@pytest.mark.parametrize("is_direct", [True, False], ids=["direct", "httpx"])
def test_way_that_fails_shows_neither_key_nor_password(is_direct: bool) -> None:
    """TLS, closed ports, proxies that refuse or are none, a host that does not exist."""

    async def sent(url: str, proxy: str | None = None) -> None:
        async with contextlib.aclosing(HttpClient(environ={}, is_direct=is_direct)) as http:
            await http.send(
                HttpRequest(
                    provider="openai",
                    url=url,
                    body=b"{}",
                    auth=Auth(header="authorization", prefix="Bearer ", secret=Secret(CANARY)),
                    proxy=Secret(proxy) if proxy else None,
                    timeout_s=20,
                )
            )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    repeating = ChatServer(FAULTS["500 with all headers"])
    with ChatServer(tls_context=context) as tls, ChatServer(lambda *_: status(407)) as proxy, repeating as server:
        through = f"http://user:{PASSWORD}@127.0.0.1:{proxy.port}"
        for url, way in (
            (server.url, None),
            (tls.url, None),
            ("http://127.0.0.1:9/v1", None),
            ("https://nothing.invalid/v1", None),
            ("https://api.example/v1", through),
            ("http://api.example/v1", through),
            ("https://api.example/v1", f"http://user:{PASSWORD}@127.0.0.1:9"),
            (f"http://user:{PASSWORD}@api.example/v1", None),
            (f"http://api.example:99999/{PASSWORD}?key={PASSWORD}", None),
        ):
            with pytest.raises(AichatError) as caught:
                run(sent(url, way))
            if PASSWORD in url:  # then it is in the frames, too; a path is nothing secret
                assert not found(str(caught.value).replace(f"/{PASSWORD}", ""))
            else:
                assert_error_hides(caught.value)


# --- a session: what a kernel shows, logs and writes


def answered(received: Received, attempt: int) -> Answer:
    """A fault if the prompt names one; a reply that repeats all headers; or code."""
    prompt = received.last_message
    if prompt in FAULTS or prompt in STREAM_FAULTS:
        return {**FAULTS, **STREAM_FAULTS}[prompt](received, attempt)
    if prompt == "code":
        return text("Here:\n\n```python\nran = open('ran', 'w').write('x')\n```\n")
    return text(f"so be it: {echoed(received)}")


def environment_of(server: ChatServer) -> dict[str, str]:
    return {
        **environ_of(server),
        **variables(),
        "OPENAI_BASE_URL": server.url,
        "AICHAT_MAX_RETRIES": "0",
        "AICHAT_PROXY": "",
        "HTTPS_PROXY": f"http://user:{PASSWORD}@127.0.0.1:9",
    }


LOG_ALL = """
import logging
logging.basicConfig(filename="all.log", level=1, force=True)
for name in ("httpx", "httpcore", "h11", "aiohttp", "anyio", "asyncio", "aichat_magic"):
    logging.getLogger(name).setLevel(1)
"""
SHOWING = """
import aichat_magic, pandas as pd
print([repr(x) for x in (aichat_magic.ask("hi"), get_ipython().magics_manager.registry["AIChat"])])
from aichat_magic.chat.chat import shared_chat
print(shared_chat().settings, vars(shared_chat()), vars(shared_chat().http))
frame = pd.DataFrame({"prompt": ["a", "500", "b", "401 as text"]})
run = frame["prompt"].aichat.run()
display(run)
print(run.errors, run.frame)
"""


def session_cells() -> list[str]:
    """What a user does in a session with a key in the environment, errors of all kinds included."""
    cells = ["%load_ext aichat_magic", LOG_ALL, "%%aichat\nhello", SHOWING]
    faults = ("401", "error in an event", "500 with all headers", "no JSON", "redirect")
    for mode, fault in zip(MODES, faults, strict=True):
        cells += [
            f"%xmode {mode}",
            f"%%aichat --debug --no-history\n{fault}",
            f"%%aichat\n{fault}",
            f"aichat_magic.ask({fault!r})",
            "aichat_magic.ask('hi', model='xai/m', base_url='http://127.0.0.1:9/v1')",
            "aichat_magic.ask('hi', model='nothing/m')",
        ]
    lines = ("", "providers", "models", "chats", "show", "usage", "store", "doctor", "search so",
             "export all.md", "export all.json", "export all.ipynb")  # fmt: skip
    cells += [f"%aichat {line}" for line in lines]
    cells += ["%config AIChat", "%xmode Verbose", "import os\nos.environ['AICHAT_API_KEY'] += ' x'"]
    cells += ["%%aichat --debug\nhello", "aichat_magic.ask('hi')", "get_ipython().history_manager.writeout_cache()"]
    return cells


def assert_no_file_holds_it(folder: Path) -> list[str]:
    """Every byte of every file below a folder is searched; returns their names."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in files:
        assert not found(path.read_bytes()), path
    return [path.name for path in files]


@pytest.mark.slow
def test_nothing_that_a_kernel_shows_logs_or_writes_holds_the_key() -> None:
    with ChatServer(answered) as server, Kernel(env=environment_of(server)) as kernel:
        for cell in session_cells():
            outcome = kernel.run(cell, timeout=120)
            assert not found(repr(outcome)), f"{cell}\n{outcome}"
        assert not found(kernel.log)
        keys = {received.headers.get("authorization") for received in server.requests}
        names = assert_no_file_holds_it(kernel.home)
        logged = (kernel.home / "all.log").read_text()
    assert f"Bearer {CANARY}" in keys  # the rest: `doctor` asks other servers whether they are there
    assert {"all.md", "all.json", "all.ipynb", "history.sqlite", "conversations.sqlite3"} <= set(names)
    assert "replies.sqlite3" in names
    assert "DEBUG" in logged


@pytest.mark.slow
def test_code_of_a_model_goes_into_the_next_cell_and_is_not_run() -> None:
    with ChatServer(answered) as server, Kernel(env=environment_of(server)) as kernel:
        kernel.run("%load_ext aichat_magic")
        for flags in ("", "--code", "--format code", "-o reply"):
            outcome = kernel.run(f"%%aichat {flags}\ncode")
            assert outcome.status == "ok", outcome
            assert ("ran = open" in outcome.next_cell) == (flags == "--code")
        assert kernel.value("'ran' in globals(), __import__('os').path.exists('ran')") == "(False, False)"


@pytest.mark.slow
def test_saved_notebook_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ChatServer(answered) as server:
        for name, value in {**clean_environment(tmp_path), **environment_of(server)}.items():
            monkeypatch.setenv(name, value)
        cells = [cell for cell in session_cells() if "export" not in cell][:14]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        NotebookClient(notebook, timeout=120, allow_errors=True, resources={"metadata": {"path": tmp_path}}).execute()
    nbformat.write(notebook, tmp_path / "saved.ipynb")
    assert "so be it" in (tmp_path / "saved.ipynb").read_text()
    assert "saved.ipynb" in assert_no_file_holds_it(tmp_path)
