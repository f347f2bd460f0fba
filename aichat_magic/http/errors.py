"""Failures of HTTP in words: statuses, Retry-After, bodies that are not JSON, connections that break.

Pure functions of bytes, headers and exceptions; the room `transport` calls them and raises.
"""

from __future__ import annotations

import codecs
import errno
import json
import math
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from ..core.errors import (
    AichatError,
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    HostNotFoundError,
    IncompleteReplyError,
    MalformedReplyError,
    NotFoundError,
    NotRunningError,
    PermissionDeniedError,
    QuotaError,
    RateLimitError,
    ServerError,
    StatusError,
    TLSError,
    TooManyOpenFilesError,
    UnexpectedError,
)
from ..text.words import shorten
from .response import InvalidResponseError, NoResponseError, TruncatedResponseError

_CLASSES: dict[int, type[StatusError]] = {
    401: AuthenticationError,
    402: QuotaError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServerError,
    409: ServerError,
    425: ServerError,
    429: RateLimitError,
}
_ADVICE: dict[type[StatusError], str] = {
    AuthenticationError: "Check the key of provider {provider!r}.",
    PermissionDeniedError: "The key of provider {provider!r} may not do this: check its rights.",
    NotFoundError: "Check the model's name and the base URL: %aichat models.",
    QuotaError: "Check plan and billing of the account at {provider!r}.",
    RateLimitError: "Wait, or send less at once.",
    ServerError: "Try again later.",
}
# `error.code` and `error.type` of OpenAI and the servers that speak its dialect (read 2026-11). Their words in
# `message` are no guide: Gemini speaks of quota and billing when only the minute is used up.
_QUOTA_CODE = re.compile(r"insufficient_quota|insufficient_(balance|credits?)|billing", re.IGNORECASE)
# Anthropic says it with status 400 and type invalid_request_error (read 2026-11).
_QUOTA_WORDS = re.compile(r"insufficient_quota|credit balance is too low", re.IGNORECASE)
_HTML = re.compile(rb"\s*<(!doctype|html|head|body|\?xml)", re.IGNORECASE)
_TITLE = re.compile(rb"<title[^>]*>(.{1,400}?)</title", re.IGNORECASE | re.DOTALL)


def parse_json(data: bytes, provider: str = "", *, is_framed: bool = True) -> Any:
    """The JSON value in a body that may be hostile.

    Args:
        data: The body, UTF-8, with or without a BOM.
        provider: Name of the provider, for the error.
        is_framed: Whether HTTP said where the body ends, so that what is missing was never sent.

    Returns:
        The value. Numbers in it are finite.

    Raises:
        MalformedReplyError: It is not JSON, or nests or counts higher than can be read.
        IncompleteReplyError: It breaks off at its end, and HTTP did not say where that is.
    """
    reason, breaks_off = "", False
    try:
        return _DECODER.decode(data.removeprefix(codecs.BOM_UTF8).decode())
    except UnicodeDecodeError as error:
        reason, breaks_off = "text that is not UTF-8", error.end >= len(data)
    except json.JSONDecodeError as error:
        reason = f"no JSON ({error.msg} at character {error.pos})"
        # What is left after the fault: nothing, an open text, or the first letters of a word or an escape.
        is_at_end = len(error.doc.rstrip()) - error.pos < 6 and not error.msg.startswith("Extra data")
        breaks_off = is_at_end or error.msg.startswith("Unterminated")
    except (ValueError, RecursionError):
        reason = "JSON that nests too deep or holds a number that cannot be read"
    if breaks_off and not is_framed:
        raise IncompleteReplyError(f"The answer of {_named(provider)} broke off.", provider=provider)
    if page := html_note(data):
        reason = f"{page} instead of JSON"
        raise MalformedReplyError(f"{_named(provider)} sent {reason}. Check the base URL.", provider=provider)
    raise MalformedReplyError(f"{_named(provider)} sent {reason}: {_excerpt(data)}", provider=provider)


def _refuse(constant: str) -> NoReturn:
    """NaN and Infinity are not JSON."""
    raise ValueError(constant)


def _finite(text: str) -> float:
    """A number, unless it is too large for one."""
    value = float(text)
    if math.isinf(value):
        raise ValueError("out of range")
    return value


# Made once: `json.loads` makes a new one for each text that it reads with arguments.
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def html_note(body: bytes) -> str:
    """``an HTML page ("title")`` when the body is one; empty when it is not."""
    if not _HTML.match(body[:1000]):
        return ""
    title = _TITLE.search(body[:65536])
    words = shorten(title[1].decode("utf-8", "replace"), 80) if title else ""
    return f'an HTML page ("{words}")' if words else "an HTML page"


def retry_after_s(headers: Mapping[str, str], wall_clock: Callable[[], float]) -> float | None:
    """How long the server asks to wait.

    Args:
        headers: Headers of the response, names in lower case.
        wall_clock: Seconds since 1970, to read an HTTP date against.

    Returns:
        Seconds, > 0 and finite; None when the server did not say or what it said makes no sense.

    Source: RFC 9110, section 10.2.3; ``retry-after-ms`` as OpenAI sends it (read 2026-11).
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if not text:
            continue
        try:
            wait_s = float(text) * unit_s
        except ValueError:
            wait_s = _date(text) - wall_clock()
        if 0 < wait_s < math.inf:
            return wait_s
    return None


def _date(text: str) -> float:
    """An HTTP date as seconds since 1970; NaN when it is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError, OSError):
        return math.nan


def status_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    provider: str,
    wall_clock: Callable[[], float],
) -> AichatError:
    """The error for a response of status 400 or more.

    Args:
        status: The HTTP status.
        headers: Its headers, names in lower case.
        body: Its body, or the beginning of it.
        provider: Name of the provider.
        wall_clock: Seconds since 1970.

    Returns:
        The error, to be raised.
    """
    if status == 407:
        return ConnectionFailedError(
            "The proxy refused the request (407). Check the user name and the password in its URL.",
            provider=provider,
        )
    value = _json_or_none(body)
    words = shorten(_words(value) or html_note(body) or _plain(body), 300)
    kind = _CLASSES.get(status, ServerError if status >= 500 else BadRequestError)
    if 400 <= status < 500 and (_QUOTA_CODE.search(_codes(value)) or _QUOTA_WORDS.search(words)):
        kind = QuotaError
    what = {AuthenticationError: "refused the key", ServerError: "is in trouble"}.get(kind, "refused the request")
    advice = _ADVICE.get(kind, "").format(provider=provider)
    said = f": {words}" if words else "."
    if words and words[-1] not in ".!?…":
        said += "."
    return kind(
        f"{_named(provider)} {what} ({status}){said} {advice}".rstrip(),
        status=status,
        provider=provider,
        retry_after_s=retry_after_s(headers, wall_clock),
    )


def _json_or_none(body: bytes) -> Any:
    """The body as JSON, or None."""
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _words(value: Any, depth: int = 0) -> str:
    """The server's message, wherever its dialect keeps it.

    OpenAI, Anthropic and llama.cpp ``error.message``; Ollama ``error``; vLLM ``message``; FastAPI ``detail``, a text or
    a list of ``msg``; Gemini a list of one.
    """
    if isinstance(value, str):
        return value
    if depth > 4:
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, (_words(item, depth + 1) for item in value[:3])))
    if isinstance(value, dict):
        for name in ("error", "message", "detail", "msg", "errors"):
            if words := _words(value.get(name), depth + 1):
                return words
    return ""


def _codes(value: Any) -> str:
    """`code` and `type` of the error, for a search."""
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict) and isinstance(value.get("error"), dict):
        value = value["error"]
    if not isinstance(value, dict):
        return ""
    return " ".join(str(value[name]) for name in ("code", "type") if isinstance(value.get(name), str))


def _plain(body: bytes) -> str:
    """A body that is a short text of its own."""
    return "" if body.lstrip()[:1] in (b"{", b"[") else body[:2000].decode("utf-8", "replace")


def _excerpt(data: bytes) -> str:
    """The beginning of a body, for an error."""
    return repr(shorten(data[:400].decode("utf-8", "replace"), 80)) if data.strip() else "an empty body."


def _named(provider: str) -> str:
    """The provider's name, or what stands for it."""
    return provider or "The server"


# --- exceptions of the libraries

# In this process, and in the whole system.
OUT_OF_DESCRIPTORS = frozenset((errno.EMFILE, errno.ENFILE))
# The other side closed without TLS's goodbye: a broken connection, and no doubt about a certificate.
_TLS_ENDS = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
# By name: which of them are there differs with the transport, and none is imported for this.
_LIBRARIES = frozenset(("httpx", "httpcore", "h11", "anyio", "curl_cffi"))
_OURS = (TruncatedResponseError, InvalidResponseError)
_CURL_CODE = re.compile(r"curl: \((\d+)\)")
# libcurl's own numbers (libcurl-errors, read 2026-11).
_REFUSED = "connection refused"
_NO_HOST = "there is no host of this name"
_CURL_CAUSES = {
    "5": "there is no proxy of this name",
    "6": _NO_HOST,
    "7": _REFUSED,
    "52": "the server closed the connection without an answer",
    "56": "the connection was reset",
    "97": "the proxy refused the connection",
}
_CURL_TLS = ("35", "51", "58", "60", "77")


def connection_error(
    caught: BaseException,
    *,
    provider: str,
    url: str,
    place: str,
    proxy: str,
    has_begun: bool,
    connect_timeout_s: float,
    is_this_machine: bool = False,
    start: str = "",
) -> AichatError:
    """The error for whatever httpx, httpcore, anyio, asyncio or curl raised. Their texts are not repeated.

    Args:
        caught: What was raised.
        provider: Name of the provider.
        url: Where the request went, without anything secret.
        place: The server, for messages.
        proxy: The proxy without its password; empty when there is none.
        has_begun: Whether the response had begun.
        connect_timeout_s: Longest time to connect, in seconds.
        is_this_machine: Whether the server is on this machine.
        start: How the server is started, as a command; empty when that is not known.

    Returns:
        The error, to be raised.
    """
    if isinstance(caught, AichatError):
        return caught
    chain = list(_chain(caught))
    names = {type(e).__name__ for e in chain}
    codes = [found[1] for e in chain if (found := _CURL_CODE.search(str(e)))]
    cause = _cause(chain, names, codes, connect_timeout_s)
    is_network = any(isinstance(e, _OURS) or type(e).__module__.partition(".")[0] in _LIBRARIES for e in chain)
    if has_begun:
        if not cause and not is_network:
            return UnexpectedError(f"Reading from {place} failed: {type(caught).__name__}.")
        why = cause or "the connection ended before the answer did"
        return IncompleteReplyError(f"The answer of {place} broke off: {why}.", provider=provider)
    if any(isinstance(e, OSError) and e.errno in OUT_OF_DESCRIPTORS for e in chain):
        return TooManyOpenFilesError(
            f"No connection to {place}: this process has too many files and connections open. Close some, raise "
            "`ulimit -n`, or ask less at once.",
            provider=provider,
        )
    if (why_tls := _tls_cause(chain, codes)) is not None:
        return TLSError(
            f"TLS with {place} failed: {why_tls}. Nothing was sent. "
            "Check the address, the clock and the certificate (SSL_CERT_FILE).",
            provider=provider,
        )
    if proxy and (cause or "ProxyError" in names):
        said = next((str(e) for e in chain if type(e).__name__ == "ProxyError"), "")
        why = cause or (f"it answered {shorten(said, 60)}" if said[:3].isdigit() else "it refused the connection")
        return ConnectionFailedError(
            f"No way to {place} through the proxy {proxy}: {why}. Check --proxy and the variables HTTPS_PROXY, "
            "HTTP_PROXY, ALL_PROXY, NO_PROXY.",
            provider=provider,
        )
    if not cause and names & {"RemoteProtocolError", "InvalidResponseError"}:
        return MalformedReplyError(f"{place} does not answer in HTTP. Check the base URL.", provider=provider)
    if not cause and not is_network:
        return UnexpectedError(f"The request to {place} failed: {type(caught).__name__}.")
    kind = HostNotFoundError if cause == _NO_HOST else ConnectionFailedError
    advice = ""
    if cause == _REFUSED:
        kind = NotRunningError if is_this_machine else kind
        advice = f" Is the server running? Start it with `{start}`." if start else " Is the server running?"
    return kind(f"Cannot reach {url}: {cause or 'the connection broke'}.{advice}", provider=provider)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, what it was raised from, and the members of groups among them; at most 30."""
    waiting, seen = [error], 0
    while waiting and seen < 30:
        current = waiting.pop(0)
        seen += 1
        yield current
        if isinstance(current, BaseExceptionGroup):
            waiting.extend(current.exceptions)
        if (further := current.__cause__ or current.__context__) is not None:
            waiting.append(further)


def _tls_cause(chain: list[BaseException], codes: list[str]) -> str | None:
    """Why TLS failed; None when it did not."""
    is_tls = any(isinstance(e, ssl.SSLError) and not isinstance(e, _TLS_ENDS) for e in chain)
    if not is_tls and not any(code in _CURL_TLS for code in codes):
        return None
    # Subclasses of SSLError may lack the attributes of the class.
    said = [getattr(e, name, None) for e in chain for name in ("verify_message", "reason")]
    why = next((text for text in said if isinstance(text, str) and text), "the certificate or the handshake is bad")
    return shorten(why.replace("_", " ").lower(), 120)


def _cause(chain: list[BaseException], names: set[str], codes: list[str], connect_timeout_s: float) -> str:
    """Why there is no connection, in words of ours; empty when it is something else."""
    if any(isinstance(e, socket.gaierror) for e in chain):
        return _NO_HOST
    if any(isinstance(e, ConnectionRefusedError) for e in chain):
        return _REFUSED
    if any(isinstance(e, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)) for e in chain):
        return "the connection was reset"
    if any(isinstance(e, NoResponseError) for e in chain) or any("without sending a response" in str(e) for e in chain):
        return "the server closed the connection without an answer"
    if any(isinstance(e, _TLS_ENDS) for e in chain):
        return "the connection ended inside the TLS handshake"
    for code in codes:
        if code in _CURL_CAUSES:
            return _CURL_CAUSES[code]
    if any(isinstance(e, ssl.SSLError) for e in chain):
        return ""
    if names & {"ConnectTimeout", "PoolTimeout"}:
        return f"no connection within {connect_timeout_s:g} s"
    number = next((e.errno for e in chain if isinstance(e, OSError) and e.errno), None)
    return os.strerror(number).lower() if number is not None and number > 0 else ""
