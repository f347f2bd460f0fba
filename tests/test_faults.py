"""A fault of the network, and what comes of it for a conversation, for a cell and for rows: the whole way at once."""

from __future__ import annotations

import datetime
import io
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from servers import (
    Answer,
    ChatServer,
    Received,
    bomb,
    chunked,
    completion,
    cut,
    drip,
    event_stream,
    gzipped,
    hang,
    head,
    payload,
    raw,
    reset,
    short_body,
    sse,
    status,
    text,
)
from users import WAYS, Clock, User

from aichat_magic.core import errors
from aichat_magic.core.messages import Reply
from aichat_magic.core.secrets import Secret
from aichat_magic.core.sync import run_sync as run
from aichat_magic.http.client import Auth, Cookie, HttpClient, HttpRequest
from aichat_magic.magic.live import StreamedView, UpdatedView
from aichat_magic.magic.session import Session
from aichat_magic.magic.views import LiveReply
from aichat_magic.store.conversations import SqliteConversations
from aichat_magic.store.sqlite import SqliteStore
from aichat_magic.text.characters import fit

NOW = 1_800_000_000.0
"""What the wall clock says, for HTTP dates."""
ADDRESS = "http://api.example/v1"

every_way = pytest.mark.parametrize("way", WAYS)


# Without a network: respx and httpx's mock transport stand in for it -----------------------------------------------

Script = Callable[[str, int], httpx.Response]
"""What the server answers to a prompt, the first time, the second time and so on."""


class Wire:
    """The network, as one function; keeps what was sent and when."""

    def __init__(self, script: Script, clock: Clock) -> None:
        self.script = script
        self.clock = clock
        self.attempts: Counter[str] = Counter()
        self.sent: list[tuple[float, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        prompt = json.loads(request.content)["messages"][-1]["content"]
        self.attempts[prompt] += 1
        self.sent.append((self.clock.now, prompt))
        return self.script(prompt, self.attempts[prompt])


def said(words: str = "hi") -> httpx.Response:
    choice = {"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}
    # ASCII only, so that a lone surrogate has a form.
    return httpx.Response(200, content=json.dumps({"choices": [choice]}), headers={"content-type": "application/json"})


def refused(code: int, body: Any = None, **headers: str) -> httpx.Response:
    content = {"error": {"message": "not now"}} if body is None else body
    return httpx.Response(code, json=content, headers={k.replace("_", "-"): v for k, v in headers.items()})


def once(bad: httpx.Response) -> Script:
    """Bad the first time, good the second."""
    return lambda prompt, attempt: bad if attempt == 1 else said()


def always(bad: httpx.Response) -> Script:
    return lambda prompt, attempt: httpx.Response(bad.status_code, headers=bad.headers, content=bad.content)


def wired(script: Script, **settings: Any) -> tuple[User, Wire]:
    clock = Clock()
    wire = Wire(script, clock)
    http = HttpClient(mock=httpx.MockTransport(wire), environ={}, wall_clock=lambda: NOW)
    return User(http, ADDRESS, clock, **settings), wire


def http_date(seconds: float) -> str:
    return format_datetime(datetime.datetime.fromtimestamp(NOW + seconds, datetime.UTC), usegmt=True)


@every_way
@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry_after": "2"}, 2),
        ({"retry_after": http_date(7)}, 7),
        ({"retry_after_ms": "250"}, 0.25),
        ({"retry_after_ms": "250", "retry_after": "60"}, 0.25),
    ],
    ids=["seconds", "date", "milliseconds", "both"],
)
def test_wait_that_a_server_asks_for_is_waited(way: str, headers: dict[str, str], wait_s: float) -> None:
    user, wire = wired(once(refused(429, **headers)))
    reply = user.tell(way)
    assert isinstance(reply, Reply)
    assert reply.text == "hi"
    (first, _), (second, _) = wire.sent
    assert wait_s <= second - first <= wait_s + 0.5  # half a second of jitter at most


@every_way
@pytest.mark.parametrize(
    "value",
    [
        http_date(-60),
        "0",
        "-10",
        "nan",
        "inf",
        "1e999",
        "Fri, 31 Dec 100000 23:59:59 GMT",
        "soon",
        "9" * 5000,
        "Mon, 99 Foo",
    ],
    ids=["past", "0", "-10", "nan", "inf", "1e999", "year", "word", "digits", "odd"],
)
def test_wait_that_makes_no_sense_is_the_usual_one(way: str, value: str) -> None:
    user, wire = wired(once(refused(429, retry_after=value)))
    assert str(user.tell(way)) == "hi"
    (first, _), (second, _) = wire.sent
    # A run that is refused without a Retry-After waits for itself, too.
    assert 0.2 <= second - first <= (0.3 if way != "rows" else 1.1)


@every_way
def test_wait_above_the_cap_is_named_and_not_waited(way: str) -> None:
    user, wire = wired(always(refused(429, retry_after="300")))
    error = user.fails(way, errors.RateLimitError)
    assert "300 s" in str(error)
    assert len(wire.sent) == 1


def test_every_worker_waits_while_a_server_asks_for_it() -> None:
    def script(prompt: str, attempt: int) -> httpx.Response:
        return refused(429, retry_after="2") if len(wire.sent) == 10 else said()

    user, wire = wired(script)
    made = user.rows([f"row {number}" for number in range(60)], concurrency=8)
    assert [str(outcome) for outcome in made.outcomes()] == ["hi"] * 60
    refused_s = wire.sent[9][0]
    early = [at_s for at_s, _ in wire.sent[10:] if at_s < refused_s + 2]
    assert len(early) < 8  # those that were on their way
    assert len(wire.sent) == 61


@every_way
@pytest.mark.parametrize("code", [408, 409, 425, 500, 502, 503, 504, 529])
def test_status_that_may_pass_is_tried_again(way: str, code: int) -> None:
    user, wire = wired(once(refused(code)))
    assert str(user.tell(way)) == "hi"
    assert len(wire.sent) == 2


@every_way
@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 422])
def test_status_that_stays_is_one_call(way: str, code: int) -> None:
    user, wire = wired(always(refused(code)))
    error = user.tell(way)
    assert isinstance(error, errors.StatusError)
    assert error.status == code
    assert len(wire.sent) == 1
    assert user.kept() == ([], [], 0)


QUOTA = {"error": {"message": "You exceeded your current quota.", "type": "insufficient_quota"}}


@every_way
def test_exhausted_quota_is_one_call(way: str) -> None:
    user, wire = wired(always(refused(429, QUOTA)))
    user.fails(way, errors.QuotaError)
    assert len(wire.sent) == 1


def test_exhausted_quota_stops_a_run_and_keeps_what_is_finished() -> None:
    user, wire = wired(lambda prompt, attempt: said(prompt) if len(wire.sent) <= 100 else refused(429, QUOTA))
    made = user.rows([f"row {number}" for number in range(1000)], concurrency=4)
    assert isinstance(made.stopped_by, errors.QuotaError)
    assert sum(isinstance(outcome, Reply) for outcome in made.outcomes()) == 100
    assert user.store.summary().rows == 100
    assert len(wire.sent) <= 104


def test_server_that_always_fails_costs_a_run_no_more_than_its_retry_budget() -> None:
    user, wire = wired(always(refused(500)))
    made = user.rows([f"row {number}" for number in range(1000)], concurrency=8)
    assert isinstance(made.stopped_by, errors.ServerError)
    assert "500" in str(made.stopped_by)
    assert sum(count - 1 for count in wire.attempts.values()) <= 20
    assert len(wire.sent) < 100


@every_way
@pytest.mark.parametrize("code", [200, 502])
def test_page_in_place_of_a_reply_is_a_short_error(way: str, code: int) -> None:
    page = b"<!doctype html><html><head><title>Log in</title></head>" + b"<p>x</p>" * 10_000
    bad = httpx.Response(code, content=page, headers={"content-type": "text/html"})
    user, wire = wired(always(bad))
    error = user.fails(way, errors.MalformedReplyError if code == 200 else errors.ServerError)
    assert 'an HTML page ("Log in")' in str(error)
    assert "<p>" not in str(error)
    assert len(wire.sent) == (1 if code == 200 else 5)


HOSTILE = {
    "deep": b"[" * 10_000,
    "deep and closed": b'{"choices": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "digits": b'{"a": ' + b"9" * 5000 + b"}",
    "bytes": b'{"choices": [{"message": {"content": "\xff"}}]}',
    "nan": b'{"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": NaN}}',
}


@every_way
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_hostile_json_is_a_typed_error(way: str, body: bytes, kind: str) -> None:
    if kind == "text/event-stream":
        body = b"data: " + body + b"\n\ndata: [DONE]\n\n"
    bad = httpx.Response(200, content=body, headers={"content-type": kind})
    user, _ = wired(always(bad))
    user.fails(way, errors.MalformedReplyError)


STRANGE = "half \ud83d a pair, \udc00 the other, a NUL \x00, \u2028 \u0085 \x1b[31m \u202e end"


@pytest.mark.parametrize("place", ["notebook", "terminal"])
def test_strange_characters_are_shown_stored_and_sent_again(place: str, tmp_path: Path) -> None:
    user, _ = wired(lambda prompt, attempt: said(STRANGE))
    screen = io.TextIOWrapper(io.BytesIO(), "utf-8")
    bundles: list[bytes] = []

    def publish(bundle: dict[str, str], display_id: str, is_update: bool) -> None:
        bundles.append(json.dumps(bundle, ensure_ascii=False).encode())  # as it goes to the front end

    def view(is_streamed: bool) -> LiveReply:
        return LiveReply(UpdatedView(publish) if place == "notebook" else StreamedView(screen.write))

    with_file = SqliteConversations(tmp_path / "c.sqlite")
    session = Session(user.chat, {}, view=view, shown=lambda reply: None, store=lambda: with_file)
    assert session.cell("", "one").text == STRANGE  # type: ignore[union-attr]  # a reply, for a prompt
    session.cell("", "two")
    screen.flush()
    shown = b"".join(bundles) or screen.buffer.getvalue()  # type: ignore[attr-defined]  # BytesIO
    assert b"a pair" in shown
    assert b"\x00" not in shown
    again = SqliteConversations(tmp_path / "c.sqlite").load("here", "main")
    assert again is not None
    assert [turn.reply.text for turn in again.turns] == [STRANGE, STRANGE]


def test_strange_characters_are_stored_for_rows(tmp_path: Path) -> None:
    user, wire = wired(lambda prompt, attempt: said(STRANGE))
    for _ in range(2):
        store = SqliteStore(tmp_path / "r.sqlite")
        user.chat._store = store
        assert str(user.rows(["one"]).outcome(0)) == fit(STRANGE)
        store.close()
    assert len(wire.sent) == 1


def stream_bytes(words: str, end: bytes) -> bytes:
    """The words as a stream in every form that the standard allows, its lines ended by `end`."""
    lines = []
    for word in words:
        chunk = json.dumps({"choices": [{"delta": {"content": word}}]}, ensure_ascii=False)
        front, back = chunk[:12], chunk[12:]
        lines += [f"data: {front}", f"data:{back}", ": a comment", "retry: 1", "id: 7", "event: message", ""]
    lines += ['data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}', "", "data: [DONE]", "", ""]
    return b"\xef\xbb\xbf" + end.join(line.encode() for line in lines)


class Pieces(httpx.AsyncByteStream):
    """A body that arrives in pieces of so many bytes."""

    def __init__(self, content: bytes, size: int) -> None:
        self.content = content
        self.size = size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for begin in range(0, len(self.content), self.size):
            yield self.content[begin : begin + self.size]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"], ids=["LF", "CR", "CRLF"])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_stream_in_any_form_is_the_same_text(end: bytes, size: int) -> None:
    words = "Grüße 😀👩\u200d🚀 a\u2028b\u2029c\u0085d\x0be\x0cf"
    headers = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
    body = stream_bytes(words, end)
    user, _ = wired(lambda prompt, attempt: httpx.Response(200, headers=headers, stream=Pieces(body, size)))
    assert str(user.tell("cell")) == words
    assert "".join(user.conversation.stream("hello")) == words
    assert user.kept()[:2] == ([("hello", words)], [("hello", words)])


@every_way
@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/v1", "ftp://127.0.0.1/v1", "127.0.0.1:1234/v1", "http://"])
def test_address_that_is_none_is_one_line(way: str, url: str) -> None:
    user = User(HttpClient(environ={}), url, Clock())
    user.fails(way, errors.ConfigError)


# Over real sockets -------------------------------------------------------------------------------------------------


@pytest.fixture
def http() -> Iterator[HttpClient]:
    """Connections of one's own, and nothing of the environment."""
    http = HttpClient(environ={})
    yield http
    run(http.aclose())


def at(server: ChatServer, http: HttpClient, **settings: Any) -> User:
    return User(http, server.url, Clock(), **settings)


def first(bad: Answer) -> Callable[[Received, int], Answer]:
    """Bad the first time, good the second."""
    return lambda received, attempt: bad if attempt == 1 else text("hi")


@every_way
def test_closed_port_is_tried_again_and_then_named(way: str, http: HttpClient) -> None:
    user = User(http, "http://127.0.0.1:1/v1", Clock(), max_retries=4)
    error = user.fails(way, errors.NotRunningError)
    assert "http://127.0.0.1:1/v1/chat/completions" in str(error)
    assert "refused" in str(error)
    assert len([slept for slept in user.clock.slept if slept]) == 1  # who has to start a server waits for the error


@every_way
@pytest.mark.parametrize("bad", [reset(), raw(b"")], ids=["reset", "hangs up"])
def test_break_before_the_headers_is_tried_again(way: str, bad: Answer, http: HttpClient) -> None:
    with ChatServer(first(bad)) as server:
        assert str(at(server, http).tell(way)) == "hi"
        assert len(server.requests) == 2


def whole(received: Received) -> bytes:
    return json.dumps(completion("the whole of a reply", received)).encode()


def closing(received: Received) -> Answer:
    """A body whose end is the end of the connection, and comes too soon."""
    return raw(head(200, {"content-type": "application/json"}) + whole(received)[:-30])


SHORT: dict[str, Callable[[Received], Answer]] = {
    "short": lambda received: short_body(),
    "gzip": lambda received: gzipped(completion("the whole of a reply", received), missing=4),
    "reset": lambda received: reset(
        head(200, {"content-type": "application/json", "content-length": "1000"}) + whole(received)
    ),
    "chunked": lambda received: raw(
        head(200, {"content-type": "application/json", "transfer-encoding": "chunked"}) + chunked(whole(received))
    ),
    "closed": closing,
}


@every_way
@pytest.mark.parametrize("bad", SHORT.values(), ids=SHORT)
def test_body_that_breaks_off_is_an_error_and_no_short_reply(
    way: str, bad: Callable[[Received], Answer], http: HttpClient
) -> None:
    with ChatServer(lambda received, attempt: bad(received)) as server:
        at(server, http, max_retries=1).fails(way, errors.IncompleteReplyError)


@every_way
@pytest.mark.parametrize("bad", SHORT.values(), ids=SHORT)
def test_body_that_breaks_off_once_is_asked_for_again(
    way: str, bad: Callable[[Received], Answer], http: HttpClient
) -> None:
    with ChatServer(lambda received, attempt: bad(received) if attempt == 1 else text("hi")) as server:
        assert str(at(server, http).tell(way)) == "hi"
        assert len(server.requests) == 2


@pytest.mark.slow
@every_way
@pytest.mark.parametrize("bad", [hang(), drip(), drip(stream=True)], ids=["hang", "drip", "stream"])
def test_deadline_holds_for_the_whole_of_a_request(way: str, bad: Answer, http: HttpClient) -> None:
    with ChatServer(lambda received, attempt: bad) as server:
        error = at(server, http, timeout_s=0.5, max_retries=0).fails(way, errors.DeadlineError)
        assert server.closed_early == 1 or server.wait_until(lambda s: s.closed_early == 1)  # it never comes to an end
        assert "0.5 s" in str(error)
        assert server.wait_until(lambda s: s.open_connections == 0)


@pytest.mark.parametrize("is_abrupt", [False, True])
def test_text_of_a_stream_that_is_cut_stays_visible_and_marked_and_is_not_kept(
    is_abrupt: bool, http: HttpClient
) -> None:
    with ChatServer(lambda received, attempt: cut(after_chunks=2, abrupt=is_abrupt)) as server:
        user = at(server, http)
        user.fails("cell", errors.IncompleteReplyError)
        assert user.view.texts[-1] == "word0 word1 "
        assert user.view.last is not None
        assert (user.view.last.text, user.view.last.finish_reason) == ("word0 word1 ", "truncated")
        pieces: list[str] = []
        with pytest.raises(errors.IncompleteReplyError):
            pieces.extend(user.conversation.stream("hello"))
        assert user.kept() == ([], [], 0)
        assert len(server.requests) == 2  # what was shown is not begun again


def test_stream_that_reports_an_error_keeps_its_text_visible_and_enters_no_history(http: HttpClient) -> None:
    delta = {"choices": [{"index": 0, "delta": {"content": "half an answer"}, "finish_reason": None}]}
    events = [sse(delta), sse({"error": {"message": "out of memory", "code": 500}}), sse("[DONE]")]
    with ChatServer(lambda received, attempt: event_stream(events)) as server:
        user = at(server, http)
        error = user.fails("cell", errors.StreamError)
    assert "out of memory" in str(error)
    assert user.view.last is not None
    assert (user.view.last.text, user.view.last.finish_reason) == ("half an answer", "truncated")


@every_way
@pytest.mark.parametrize("kind", ["gzip", "endless"])
def test_bomb_is_a_typed_error_and_one_call(way: str, kind: str, http: HttpClient) -> None:
    with ChatServer(lambda received, attempt: bomb(kind, megabytes=40)) as server:
        user = at(server, http)
        user.fails(way, errors.TooLargeError)
        assert len(server.requests) == 1
        assert server.wait_until(lambda s: s.in_flight == 0)


# Redirects and TLS -------------------------------------------------------------------------------------------------

KEY = "sk-canary-redirect"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certified(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def with_secrets(url: str) -> HttpRequest:
    return HttpRequest(
        provider="vllm",
        url=f"{url}/chat/completions",
        body=b"{}",
        auth=Auth(header="x-api-key", secret=Secret(KEY)),
        cookies=(Cookie(name="a", value=Secret(KEY)),),
        timeout_s=10,
    )


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_redirect_to_another_server_reaches_nobody(code: int, http: HttpClient) -> None:
    with ChatServer() as other:
        elsewhere = {"location": f"{other.url}/chat/completions"}
        with ChatServer(lambda received, attempt: status(code, headers=elsewhere)) as server:
            with pytest.raises(errors.RedirectError):
                run(http.send(with_secrets(server.url)))
            for way in WAYS:
                at(server, http).fails(way, errors.RedirectError)
            assert len(server.requests) == 4
        assert (other.connections, other.requests) == (0, [])


def test_redirect_out_of_tls_reaches_nobody(authority: trustme.CA, certified: ssl.SSLContext, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    http = HttpClient(environ={"SSL_CERT_FILE": str(tmp_path / "ca.pem")})
    with ChatServer() as other:
        elsewhere = {"location": f"{other.url}/chat/completions"}
        with ChatServer(lambda received, attempt: status(307, headers=elsewhere), tls_context=certified) as server:
            with pytest.raises(errors.RedirectError):
                run(http.send(with_secrets(server.url)))
            assert len(server.requests) == 1
            run(http.aclose())
        assert other.connections == 0


@every_way
def test_redirect_to_itself_is_one_call(way: str, http: HttpClient) -> None:
    with ChatServer(lambda received, attempt: status(307, headers={"location": received.path})) as server:
        at(server, http).fails(way, errors.RedirectError)
        assert len(server.requests) == 1


@every_way
def test_certificate_of_nobody_is_tried_once_and_named(way: str, certified: ssl.SSLContext, http: HttpClient) -> None:
    with ChatServer(tls_context=certified) as server:
        user = at(server, http)
        error = user.fails(way, errors.TLSError)
        assert server.requests == []
    assert "TLS" in str(error)
    assert [slept for slept in user.clock.slept if slept] == []


@every_way
@pytest.mark.parametrize("is_dead", [True, False], ids=["dead", "refuses"])
def test_password_of_a_proxy_is_in_no_error(way: str, is_dead: bool, http: HttpClient) -> None:
    with ChatServer(lambda received, attempt: status(407)) as proxy:
        port = 1 if is_dead else proxy.port
        through = Secret(f"http://user:{KEY}@127.0.0.1:{port}")
        user = User(http, ADDRESS, Clock(), proxy=through, max_retries=1)
        error = user.fails(way, errors.ConnectionFailedError)
        assert is_dead or proxy.requests
    assert "proxy" in str(error)
    assert KEY not in "".join(map(str, (error, repr(error), vars(error))))


def test_payload_of_the_tests_is_read() -> None:
    """What the tests above call bad is bad: the same way, a good one gives its text."""
    with ChatServer(lambda received, attempt: payload(completion("good", received))) as server:
        http = HttpClient(environ={})
        for way in WAYS:
            assert str(at(server, http).tell(way)) == "good"
        run(http.aclose())
