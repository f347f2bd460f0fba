"""Ways to a server: a `Adapter` carries a request there and brings back an `Answer`.

Direct connections are our own (`sockets`, `response`): they cost a fraction of the CPU that httpx takes, or aiohttp;
`benchmarks/RESULTS.md` has the figures. Proxies, the TLS fingerprint of a browser, and whatever stands in for httpx are
the business of `by_httpx`.
"""

from __future__ import annotations

import errno
import ssl
import time
from abc import ABC, abstractmethod
from asyncio import timeout
from collections.abc import Awaitable, Mapping
from functools import lru_cache
from urllib.parse import quote, urlsplit

from ..core.errors import ConfigError
from .connection import Connection, connect
from .request import HttpRequest, headers_of, request_bytes
from .response import InvalidResponseError, ResponseHead, TruncatedResponseError
from .urls import Route, is_address

KEEPALIVE_S = 60.0
_CLOSING_S = 0.2
_INBOX_BYTES = 64 * 1024
_DEFAULT_PORTS = {"http": 80, "https": 443}
# What may stand in a path and a query as it is.
_PATH_CHARACTERS = "/?%:@!$&'()*+,;=~-._"


class Answer(ABC):
    """A response as it comes off the wire.

    Attributes:
        status: The HTTP status.
        headers: Headers, names in lower case; several of one name joined by commas.
    """

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        """Read nothing yet."""
        self.status = status
        self.headers = headers

    def at_hand(self) -> bytes | None:
        """Return what `piece` would give at once; None when it would wait, or raise."""
        return None

    @abstractmethod
    async def piece(self, until: float) -> bytes:
        """Return the next bytes of the body, as they were sent; empty at its end. Raises what `Adapter.send` does."""

    async def aclose(self) -> None:
        """Let go of it, in whatever state it is. Its `Adapter` is closed after it, or given back."""
        return


class Adapter(ABC):
    """One connection, or what carries any number of requests at once (`is_shared`)."""

    is_shared = False

    @abstractmethod
    async def send(self, request: HttpRequest, *, is_stream: bool, until: float) -> Answer:
        """Send, and wait for the headers.

        Args:
            request: What to send.
            is_stream: Whether events are wanted.
            until: How long to wait, in seconds of the loop's clock.

        Raises:
            OverdueError: It takes longer.
            Exception: Whatever the library raises.
        """

    @property
    def is_reusable(self) -> bool:
        """Whether it can be used again after a response that was read to its end."""
        return True

    @abstractmethod
    async def aclose(self) -> None:
        """Close what is open, at once."""


async def close_quietly(closing: Awaitable[None]) -> None:
    """Close, whatever the other side has done to the connection; curl would wait for the other side's end."""
    try:
        async with timeout(_CLOSING_S):
            await closing
    except Exception:
        return  # closed is closed


def new_receive_buffer() -> memoryview:
    """Return where the direct connections of one loop read to.

    Without it asyncio asks for 256 KiB at each read, which is memory that the system has to find and to take back: a
    sixth of the CPU of a row.
    """
    return memoryview(bytearray(_INBOX_BYTES))


class DirectAdapter(Adapter):
    """A connection of our own, opened with the first request and again when the server has closed it."""

    def __init__(self, route: Route, context: ssl.SSLContext, inbox: memoryview) -> None:
        """Open nothing yet."""
        self._route = route
        self._context = context
        self._inbox = inbox
        self._line: Connection | None = None
        self._used_at = 0.0
        self._host = route.host if route.host.isascii() else route.host.encode("idna").decode("ascii")
        port = "" if route.port == _DEFAULT_PORTS[route.scheme] else f":{route.port}"
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._host_header = (b"host", f"{host}{port}".encode("ascii"))

    async def send(self, request: HttpRequest, *, is_stream: bool, until: float) -> Answer:
        """Send, and wait for the headers."""
        line = self._line
        if line is None or not line.is_idle or time.monotonic() - self._used_at > KEEPALIVE_S:
            await self.aclose()
            line = self._line = await connect(
                self._route.scheme,
                self._host,
                self._route.port,
                self._context,
                inbox=self._inbox,
                timeout_s=request.connect_timeout_s,
                until=until,
                is_literal=is_address(self._host),
            )
        # The secrets go from their closures into the socket, past every local variable.
        body = request.body
        if body is None:
            line.send(
                request_bytes(
                    b"GET", _target(request.url), [self._host_header, *headers_of(request, is_stream=is_stream)], b""
                )
            )
        else:
            line.send(
                request_bytes(
                    b"POST",
                    _target(request.url),
                    [
                        self._host_header,
                        *headers_of(request, is_stream=is_stream),
                        (b"content-length", b"%d" % len(body)),
                    ],
                    body,
                )
            )
        return _DirectAnswer(line, await line.head(until))

    @property
    def is_reusable(self) -> bool:
        """Whether another request can follow on this connection."""
        if self._line is None:
            return True
        if not self._line.is_reusable:
            return False
        self._line.reader.reset()
        self._used_at = time.monotonic()
        return True

    async def aclose(self) -> None:
        """Close the connection, if one is open."""
        line, self._line = self._line, None
        if line is not None:
            await line.aclose()


class _DirectAnswer(Answer):
    """A response over a line."""

    def __init__(self, line: Connection, head: ResponseHead) -> None:
        super().__init__(head.status, head.headers)
        self._line = line

    def at_hand(self) -> bytes | None:
        """Return what `piece` would give at once."""
        try:
            return self._line.reader.piece()
        except (InvalidResponseError, TruncatedResponseError):
            return None

    async def piece(self, until: float) -> bytes:
        """Return the next bytes of the body."""
        return await self._line.piece(until)


@lru_cache(maxsize=64)  # every request of a run asks for the same one
def _target(url: str) -> bytes:
    """Return path and query of a URL as a request names them."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return quote(target, safe=_PATH_CHARACTERS).encode("ascii")


def tls_context(verify: bool, environ: Mapping[str, str]) -> ssl.SSLContext:
    """Certificates from SSL_CERT_FILE, SSL_CERT_DIR or certifi, as httpx has it; none when they are not checked.

    Raises:
        ConfigError: The variables name no certificates.
    """
    context: ssl.SSLContext | None = None
    if not verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        return context
    try:
        if environ.get("SSL_CERT_FILE"):
            context = ssl.create_default_context(cafile=environ["SSL_CERT_FILE"])
        elif environ.get("SSL_CERT_DIR"):
            context = ssl.create_default_context(capath=environ["SSL_CERT_DIR"])
        else:
            import certifi

            context = ssl.create_default_context(cafile=certifi.where())
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
    if context is None:
        raise ConfigError("SSL_CERT_FILE or SSL_CERT_DIR names no certificates that can be read.")
    context.set_alpn_protocols(["http/1.1"])
    return context
