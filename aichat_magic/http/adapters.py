"""Connection adapters: each sends a request and returns the raw response.

Direct connections are our own (`connection`, `response`): they take a fraction of the CPU of httpx or aiohttp; see
`benchmarks/RESULTS.md` for the figures. Proxies, the TLS fingerprint of a browser, and mocks or instrumentation of
httpx are handled by `httpx_adapter`.
"""

from __future__ import annotations

import errno
import os
import ssl
import sys
import time
from abc import ABC, abstractmethod
from asyncio import timeout
from collections.abc import Awaitable, Mapping
from functools import lru_cache
from urllib.parse import quote, urlsplit

from ..core.errors import ConfigError
from ..core.urls import PORTS
from ..text.words import shorten
from .connection import Connection, connect
from .request import HttpRequest, headers_of, request_bytes
from .response import InvalidResponseError, ResponseHead, TruncatedResponseError
from .urls import Destination, is_address

KEEPALIVE_S = 60.0
_CLOSING_S = 0.2
_RECEIVE_BUFFER_BYTES = 64 * 1024
# Variables that name certificates to trust, a file or a folder: OpenSSL's own, then those of requests and of curl.
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# Characters that a path and a query keep; all others are percent-encoded.
_PATH_CHARACTERS = "/?%:@!$&'()*+,;=~-._"


class RawResponse(ABC):
    """A response as it comes off the wire.

    Attributes:
        status: The HTTP status.
        headers: Headers, names in lower case; several of one name joined by commas.
    """

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        """Take status and headers; the body is not read yet."""
        self.status = status
        self.headers = headers

    def read_nowait(self) -> bytes | None:
        """Return what `read` would return at once; None when it would wait or raise."""
        return None

    @abstractmethod
    async def read(self, deadline: float) -> bytes:
        """Return the next bytes of the body, as they were sent; empty at its end. Raises what `Adapter.send` does."""

    async def aclose(self) -> None:
        """Release the response, in whatever state it is. Its adapter is closed or reused after that."""
        return


class Adapter(ABC):
    """A connection, or something that carries any number of requests at once (`is_shared`)."""

    is_shared = False

    @abstractmethod
    async def send(self, request: HttpRequest, *, is_stream: bool, deadline: float) -> RawResponse:
        """Send a request and wait for status and headers.

        Args:
            request: The request.
            is_stream: Whether to ask for server-sent events.
            deadline: When to give up, in seconds of the loop's clock.

        Raises:
            DeadlineExpiredError: The deadline has passed.
            Exception: Whatever the library raises.
        """

    @property
    def is_reusable(self) -> bool:
        """Return whether another request can follow, after a response that was read to its end."""
        return True

    @abstractmethod
    async def aclose(self) -> None:
        """Close what is open, at once."""


async def close_quietly(closing: Awaitable[None]) -> None:
    """Close, ignoring errors and waiting 0.2 s at most: curl would wait until the server closes its side."""
    try:
        async with timeout(_CLOSING_S):
            await closing
    except Exception:
        return  # whatever went wrong, the connection is gone


def new_receive_buffer() -> memoryview:
    """Return the buffer that the direct connections of one loop read into.

    Without it asyncio allocates 256 KiB for each read; the system has to find that memory and take it back, which is a
    sixth of the CPU of a row.
    """
    return memoryview(bytearray(_RECEIVE_BUFFER_BYTES))


class DirectAdapter(Adapter):
    """A connection of our own, opened with the first request and again once the server has closed it."""

    def __init__(self, destination: Destination, context: ssl.SSLContext, receive_buffer: memoryview) -> None:
        """Create the adapter; nothing is opened yet."""
        self._destination = destination
        self._context = context
        self._receive_buffer = receive_buffer
        self._connection: Connection | None = None
        self._used_at = 0.0
        host = destination.host
        self._host = _ascii_host(host)
        port = "" if destination.port == PORTS[destination.scheme] else f":{destination.port}"
        name = f"[{self._host}]" if ":" in self._host else self._host
        self._host_header = (b"host", f"{name}{port}".encode("ascii"))

    async def send(self, request: HttpRequest, *, is_stream: bool, deadline: float) -> RawResponse:
        """Send a request and wait for status and headers."""
        connection = self._connection
        if connection is None or not connection.is_idle or time.monotonic() - self._used_at > KEEPALIVE_S:
            await self.aclose()
            connection = self._connection = await connect(
                self._destination.scheme,
                self._host,
                self._destination.port,
                self._context,
                receive_buffer=self._receive_buffer,
                timeout_s=request.connect_timeout_s,
                deadline=deadline,
                is_literal=is_address(self._host),
            )
        # The secrets go from their closures into the socket, past every local variable.
        body = request.body
        if body is None:
            connection.send(
                request_bytes(
                    b"GET",
                    _request_target(request.url),
                    [self._host_header, *headers_of(request, is_stream=is_stream)],
                    b"",
                )
            )
        else:
            connection.send(
                request_bytes(
                    b"POST",
                    _request_target(request.url),
                    [
                        self._host_header,
                        *headers_of(request, is_stream=is_stream),
                        (b"content-length", b"%d" % len(body)),
                    ],
                    body,
                )
            )
        return _DirectResponse(connection, await connection.read_head(deadline))

    @property
    def is_reusable(self) -> bool:
        """Return whether another request can follow on this connection, and prepare for it."""
        if self._connection is None:
            return True
        if not self._connection.is_reusable:
            return False
        self._connection.reader.reset()
        self._used_at = time.monotonic()
        return True

    async def aclose(self) -> None:
        """Close the connection, if one is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()


def _ascii_host(host: str) -> str:
    """Return a host as DNS has it.

    Raises:
        ConfigError: It is no name that DNS can have.
    """
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        pass
    raise ConfigError(f"The host {shorten(host, 80)!r} is no name that can be looked up. Check the base URL.")


class _DirectResponse(RawResponse):
    """A response that arrives over a connection of our own."""

    def __init__(self, connection: Connection, head: ResponseHead) -> None:
        super().__init__(head.status, head.headers)
        self._connection = connection

    def read_nowait(self) -> bytes | None:
        """Return what `read` would return at once."""
        try:
            return self._connection.reader.read_body()
        except (InvalidResponseError, TruncatedResponseError):
            return None

    async def read(self, deadline: float) -> bytes:
        """Return the next bytes of the body."""
        return await self._connection.read_body(deadline)


@lru_cache(maxsize=64)  # every request of a run asks for the same one
def _request_target(url: str) -> bytes:
    """Return path and query of a URL, as the first line of a request has them."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return quote(target, safe=_PATH_CHARACTERS).encode("ascii")


def tls_context(verify: bool, environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return a TLS context with the certificates that the environment names, or those of the system.

    Args:
        verify: Whether to check certificates. If not, none are loaded.
        environ: The environment.

    Raises:
        ConfigError: A variable names no certificates that can be read.
        OSError: No file descriptor is left to read them with.
    """
    if verify:
        context = _verifying_context(environ)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def no_tls_context() -> ssl.SSLContext:
    """Return a context for connections without TLS: it trusts nobody, and needs no certificates."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _verifying_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return a context with the certificates of the first variable that is set, or else with those of the system."""
    for name in CERTIFICATE_VARIABLES:
        path = environ.get(name, "").strip()
        if not path:
            continue
        problem = ""
        try:
            if os.path.isdir(path):
                return ssl.create_default_context(capath=path)
            return ssl.create_default_context(cafile=path)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            problem = "it does not exist" if error.errno == errno.ENOENT else "no certificate in it can be read"
        raise ConfigError(
            f"{name} names the certificates in {shorten(path, 200)!r}, but {problem}. Correct it, or unset it to trust "
            f"the certificates of the system."
        )
    return _system_context()


def _system_context() -> ssl.SSLContext:
    """Return a context with the certificates of the system; where it has none, with those of certifi."""
    if sys.platform in ("darwin", "win32"):
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Here the system's certificates are files that OpenSSL knows. (truststore reads them again for each connection.)
    paths = ssl.get_default_verify_paths()
    if paths.cafile or (paths.capath and any(os.scandir(paths.capath))):
        return ssl.create_default_context()
    import certifi

    return ssl.create_default_context(cafile=certifi.where())
