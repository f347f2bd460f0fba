"""Error mapping: statuses, bodies that are not JSON and broken connections become typed errors.

These are pure functions of bytes, headers and exceptions; `exchange` and the providers raise what they return.
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
from typing import Any, NoReturn

from ..core.errors import (
    AichatError,
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    ContextLengthError,
    FlaggedPromptError,
    HostNotFoundError,
    IncompleteReplyError,
    MalformedReplyError,
    ModelLoadingError,
    NoCapacityError,
    NotFoundError,
    NotRunningError,
    PermissionDeniedError,
    QuotaError,
    RateLimitError,
    ServerError,
    StatusError,
    StreamError,
    TLSError,
    TooManyOpenFilesError,
    UnexpectedError,
    UnsupportedOptionError,
)
from ..text.numbers import time_span
from ..text.words import shorten
from .error_bodies import ErrorBody
from .response import InvalidResponseError, NoResponseError, TruncatedResponseError
from .waits import limits_of, retry_after_s

_ERROR_TYPES: dict[int, type[StatusError]] = {
    401: AuthenticationError,
    402: QuotaError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServerError,
    409: ServerError,
    425: ServerError,
    429: RateLimitError,
    498: NoCapacityError,  # Groq, for its flex tier (read 2026-11)
}
_VERBS: dict[type[StatusError], str] = {
    AuthenticationError: "refused the key",
    NoCapacityError: "has no capacity now",
    ModelLoadingError: "is loading the model",
    ServerError: "failed",
}
_ADVICE: dict[type[StatusError], str] = {
    AuthenticationError: "Check the key of provider {provider!r}.",
    PermissionDeniedError: "The key of provider {provider!r} may not do this: check its rights.",
    NotFoundError: "Check the model's name and the base URL: %aichat models.",
    QuotaError: "Check plan and billing of the account at {provider!r}.",
    RateLimitError: "Wait, or send fewer requests at once.",
    NoCapacityError: "Try again later, or choose another tier or model.",
    ServerError: "Try again later.",
    ModelLoadingError: "Wait until it is ready.",
    ContextLengthError: "Shorten the messages, or choose a model that takes more.",
    FlaggedPromptError: "Change the prompt.",
}
# Google's quotas of a day begin anew at midnight in California ("Rate limits" of the Gemini API, read 2026-11). In
# summer that is an hour earlier than this.
_GOOGLES_MIDNIGHT_S = 8 * 3600
_DAY_S = 24 * 3600
_TOO_LARGE_TO_EVER_FIT = re.compile(r"request (?:is )?too large", re.IGNORECASE)  # OpenAI, Groq: 429 and 413
_HTML = re.compile(rb"\s*<(!doctype|html|head|body|\?xml)", re.IGNORECASE)
_TITLE = re.compile(rb"<title[^>]*>(.{1,400}?)</title", re.IGNORECASE | re.DOTALL)


def parse_json(data: bytes, provider: str = "", *, is_framed: bool = True) -> Any:
    """Return the JSON value in a body from a server that is not trusted.

    Args:
        data: The body, UTF-8, with or without a BOM.
        provider: Name of the provider, for the error.
        is_framed: Whether the headers tell where the body ends, so that it is known to be complete.

    Returns:
        The value. All numbers in it are finite.

    Raises:
        MalformedReplyError: The body is not JSON, nests too deep, or holds a number that cannot be read.
        IncompleteReplyError: The JSON breaks off, and the headers do not tell where the body ends.
    """
    reason, breaks_off = "", False
    try:
        return _value_of(data.removeprefix(codecs.BOM_UTF8).decode())
    except UnicodeDecodeError as error:
        reason, breaks_off = "text that is not UTF-8", error.end >= len(data)
    except json.JSONDecodeError as error:
        reason = f"no JSON ({error.msg} at character {error.pos})"
        # Truncated JSON has nothing after the error, an open string, or the first letters of a literal or an escape.
        is_at_end = len(error.doc.rstrip()) - error.pos < 6 and not error.msg.startswith("Extra data")
        breaks_off = is_at_end or error.msg.startswith("Unterminated")
    except (ValueError, RecursionError):
        reason = "JSON that nests too deep or holds a number that cannot be read"
    if breaks_off and not is_framed:
        raise IncompleteReplyError(f"The answer from {_named(provider)} broke off.", provider=provider)
    if page := html_note(data):
        reason = f"{page} instead of JSON"
        raise MalformedReplyError(f"{_named(provider)} sent {reason}. Check the base URL.", provider=provider)
    raise MalformedReplyError(f"{_named(provider)} sent {reason}: {_excerpt(data)}", provider=provider)


def _value_of(text: str) -> Any:
    """Return the value that a text consists of."""
    try:
        value, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError:
        end = -1
    # `decode` looks for white space around the value, too, which few servers send.
    return value if end == len(text) else _DECODER.decode(text)


def _refuse(constant: str) -> NoReturn:
    """Raise for NaN and Infinity: they are not JSON."""
    raise ValueError(constant)


def _finite(text: str) -> float:
    """Return a number, or raise when it is too large for a float."""
    value = float(text)
    if math.isinf(value):
        raise ValueError("out of range")
    return value


# Made once, because `json.loads` makes a new decoder each time it is called with such arguments.
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def html_note(body: bytes) -> str:
    """Return ``an HTML page ("title")`` when the body is one; an empty string when it is not."""
    if not _HTML.match(body[:1000]):
        return ""
    title = _TITLE.search(body[:65536])
    words = shorten(title[1].decode("utf-8", "replace"), 80) if title else ""
    return f'an HTML page ("{words}")' if words else "an HTML page"


def status_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    provider: str,
    wall_clock: Callable[[], float],
    no_key: str = "",
) -> AichatError:
    """Return the error for a response with a status of 400 or more.

    Args:
        status: The HTTP status.
        headers: Its headers, names in lower case.
        body: Its body, or the beginning of it.
        provider: Name of the provider.
        wall_clock: Returns seconds since 1970.
        no_key: If the request had no key: to which server none was sent, and how to set one.

    Returns:
        The error, to be raised.
    """
    if status == 407:
        return ConnectionFailedError(
            "The proxy refused the request (407). Check the user name and the password in its URL.",
            provider=provider,
        )
    told = ErrorBody.read(body)
    message = html_note(body) or told.message
    return _error_for(status, headers, told, message, provider, wall_clock(), no_key=no_key)


def _error_for(
    status: int,
    headers: Mapping[str, str],
    told: ErrorBody,
    message: str,
    provider: str,
    now: float,
    no_key: str = "",
) -> StatusError:
    """Return the error for a status and what the server wrote about it."""
    limits = limits_of(headers, told, now)
    wait_s = retry_after_s(headers, told, limits, now)
    error_type, details = _kind(status, told)
    if error_type is QuotaError:
        wait_s = _quota_wait_s(told, wait_s, now)
    message = shorten(message, 300)
    reason = f": {message}" if message else "."
    if message and message[-1] not in ".!?…":
        reason += "."
    verb = _VERBS.get(error_type, "refused the request")
    advice = _ADVICE.get(error_type, "").format(provider=provider)
    if error_type is QuotaError and wait_s is not None:
        advice = f"The quota is free again in {time_span(wait_s)}."
    if no_key and error_type in (AuthenticationError, PermissionDeniedError):
        verb, advice = "wants a key", no_key
    return error_type(
        f"{_named(provider)} {verb} ({status}){reason} {advice}".rstrip(),
        status=status,
        provider=provider,
        retry_after_s=wait_s,
        rate_limits=limits,
        **details,
    )


def _quota_wait_s(told: ErrorBody, wait_s: float | None, now: float) -> float | None:
    """Return when a quota that is used up is there again; None where only money helps, or it is not known."""
    from .refusals import is_out_of_money  # loaded when it is used

    if told.has_google_details:  # its retryDelay is always that of the minute
        return None if is_out_of_money(told) else _DAY_S - (now - _GOOGLES_MIDNIGHT_S) % _DAY_S
    # Headers are about the pace, whatever else is used up; of money only the server's words tell.
    return retry_after_s({}, told, None, now) if is_out_of_money(told) else wait_s


def reported_error(content: Any, *, provider: str, has_text: bool, wall_clock: Callable[[], float]) -> AichatError:
    """Return the error for one that a server reports inside a response of status 200, whole or streamed.

    Before any text it is the error that its status would have made, which may be worth a retry.

    Args:
        content: What the server wrote about it: an object, or only words.
        provider: Name of the provider.
        has_text: Whether text of the reply has arrived before it.
        wall_clock: Returns seconds since 1970.

    Returns:
        The error, to be raised.
    """
    told = ErrorBody(content)
    if told.status is not None and not has_text:
        return _error_for(told.status, {}, told, told.message, provider, wall_clock())
    where = "in the middle of the reply" if has_text else "instead of a whole reply"
    return StreamError(
        f"Provider {provider!r} reported an error {where}: {shorten(told.message or 'no details')} Run the cell again.",
        provider=provider,
    )


def _kind(status: int, told: ErrorBody) -> tuple[type[StatusError], dict[str, Any]]:
    """Return the class of an error, and what only this class has."""
    from .refusals import (  # loaded when they are used: their patterns take as long as a twelfth of all imports
        has_no_capacity,
        is_daily_limit,
        is_flagged,
        is_loading,
        is_out_of_money,
        too_long,
        unsupported_option,
    )

    if (400 <= status < 500 and is_out_of_money(told)) or (status in (403, 429) and is_daily_limit(told)):
        return QuotaError, {}
    is_too_large = status == 429 and any(_TOO_LARGE_TO_EVER_FIT.search(text) for text in told.words)
    if (is_too_large or status in (400, 413, 422, 500)) and (length := too_long(told)) is not None:
        return ContextLengthError, {"limit_tokens": length.limit_tokens, "sent_tokens": length.sent_tokens}
    if status in (400, 422) and (refused := unsupported_option(told)) is not None:
        return UnsupportedOptionError, {"option": refused.option, "instead": refused.instead}
    if status in (400, 403, 422, 451) and is_flagged(told):
        return FlaggedPromptError, {}
    if status == 429 and has_no_capacity(told):
        return NoCapacityError, {}
    if status >= 500 and is_loading(told):
        return ModelLoadingError, {}
    return _ERROR_TYPES.get(status, ServerError if status >= 500 else BadRequestError), {}


def _excerpt(data: bytes) -> str:
    """Return the beginning of a body, for an error message."""
    return repr(shorten(data[:400].decode("utf-8", "replace"), 80)) if data.strip() else "an empty body."


def _named(provider: str) -> str:
    """Return the name of the provider, or ``The server`` when it is empty."""
    return provider or "The server"


# --- exceptions of libraries

# No descriptor is left in this process, or in the whole system.
OUT_OF_DESCRIPTORS = frozenset((errno.EMFILE, errno.ENFILE))
# The server closed the connection without ending TLS (close_notify): a broken connection, not a bad certificate.
_TLS_ENDS = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
# By name, because which of them are loaded depends on the adapter, and none is imported for this.
_LIBRARIES = frozenset(("httpx", "httpcore", "h11", "anyio", "curl_cffi"))
_OURS = (TruncatedResponseError, InvalidResponseError)
_CURL_CODE = re.compile(r"curl: \((\d+)\)")
_REFUSED = "connection refused"
_NO_HOST = "there is no host of this name"
# Error numbers of libcurl (libcurl-errors, read 2026-11).
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
    server: str,
    proxy: str,
    has_begun: bool,
    connect_timeout_s: float,
    is_this_machine: bool = False,
    start_command: str = "",
) -> AichatError:
    """Return the error for an exception of httpx, httpcore, anyio, asyncio or curl. It does not repeat their texts.

    Args:
        caught: The exception.
        provider: Name of the provider.
        url: URL of the request, without anything secret.
        server: Name of the server, for messages.
        proxy: The proxy without its password; empty when there is none.
        has_begun: Whether the response had begun.
        connect_timeout_s: Longest time to connect, in seconds.
        is_this_machine: Whether the server is on this machine.
        start_command: The command that starts the server; empty when it is not known.

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
            return UnexpectedError(f"Reading from {server} failed: {type(caught).__name__}.")
        why = cause or "the connection ended before the answer did"
        return IncompleteReplyError(f"The answer from {server} broke off: {why}.", provider=provider)
    if any(isinstance(e, OSError) and e.errno in OUT_OF_DESCRIPTORS for e in chain):
        return TooManyOpenFilesError(
            f"No connection to {server}: this process has too many files and connections open. Close some, raise "
            "`ulimit -n`, or send fewer requests at once.",
            provider=provider,
        )
    if (why_tls := _tls_cause(chain, codes)) is not None:
        return TLSError(
            f"TLS with {server} failed: {why_tls}. Nothing was sent. "
            "Check the address, the clock and the certificate (your own authority: SSL_CERT_FILE=/path/to/ca.pem).",
            provider=provider,
        )
    if proxy and (cause or "ProxyError" in names):
        answer = next((str(e) for e in chain if type(e).__name__ == "ProxyError"), "")
        why = cause or (f"it answered {shorten(answer, 60)}" if answer[:3].isdigit() else "it refused the connection")
        return ConnectionFailedError(
            f"Cannot reach {server} through the proxy {proxy}: {why}. Check --proxy and the variables HTTPS_PROXY, "
            "HTTP_PROXY, ALL_PROXY and NO_PROXY.",
            provider=provider,
        )
    if not cause and names & {"RemoteProtocolError", "InvalidResponseError"}:
        return MalformedReplyError(f"{server} does not speak HTTP. Check the base URL.", provider=provider)
    if not cause and not is_network:
        return UnexpectedError(f"The request to {server} failed: {type(caught).__name__}.")
    error_type = HostNotFoundError if cause == _NO_HOST else ConnectionFailedError
    advice = ""
    if cause == _REFUSED:
        error_type = NotRunningError if is_this_machine else error_type
        advice = " Is the server running?"
        if start_command:
            advice += f" Start it with `{start_command}`."
    return error_type(f"Cannot reach {url}: {cause or 'the connection broke'}.{advice}", provider=provider)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its causes and contexts, and the members of groups among them; at most 30 in all."""
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
    """Return why TLS failed; None when it did not."""
    is_tls = any(isinstance(e, ssl.SSLError) and not isinstance(e, _TLS_ENDS) for e in chain)
    if not is_tls and not any(code in _CURL_TLS for code in codes):
        return None
    # Subclasses of SSLError may lack the attributes of the class.
    texts = [getattr(e, name, None) for e in chain for name in ("verify_message", "reason")]
    why = next((text for text in texts if isinstance(text, str) and text), "the certificate or the handshake is bad")
    return shorten(why.replace("_", " ").lower(), 120)


def _cause(chain: list[BaseException], names: set[str], codes: list[str], connect_timeout_s: float) -> str:
    """Return why there is no connection, in our own words; empty when none of the known causes fits."""
    if any(isinstance(e, socket.gaierror) for e in chain):
        return _NO_HOST
    if any(isinstance(e, ConnectionRefusedError) for e in chain):
        return _REFUSED
    if any(isinstance(e, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)) for e in chain):
        return "the connection was reset"
    if any(isinstance(e, NoResponseError) for e in chain) or any("without sending a response" in str(e) for e in chain):
        return "the server closed the connection without an answer"
    if any(isinstance(e, _TLS_ENDS) for e in chain):
        return "the connection ended during the TLS handshake"
    for code in codes:
        if code in _CURL_CAUSES:
            return _CURL_CAUSES[code]
    if any(isinstance(e, ssl.SSLError) for e in chain):
        return ""
    if names & {"ConnectTimeout", "PoolTimeout"}:
        return f"no connection within {connect_timeout_s:g} s"
    number = next((e.errno for e in chain if isinstance(e, OSError) and e.errno), None)
    return os.strerror(number).lower() if number is not None and number > 0 else ""
