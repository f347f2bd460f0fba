"""One request and its response: sent, read piece by piece within its time and size limits, and closed exactly once.

Exceptions of libraries are never chained to our errors, because their texts and their frames can hold a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

from ..core.errors import (
    AichatError,
    DeadlineError,
    IncompleteReplyError,
    MalformedReplyError,
    RedirectError,
    TooLargeError,
    TooManyOpenFilesError,
)
from ..core.secrets import Scrubber, Secret
from ..core.urls import is_loopback, proxy_name, without_password
from ..text.words import shorten
from .adapters import Adapter, RawResponse
from .deadlines import DeadlineExpiredError, await_until
from .decoding import (
    Decoder,
    EncodedTooLargeError,
    NotEncodedError,
    TruncatedEncodingError,
    UnknownCodingError,
    decoder_for,
)
from .errors import connection_error, status_error
from .pool import Pool
from .request import HttpRequest
from .sse import ServerSentEvent
from .urls import Destination

_T = TypeVar("_T")

MAX_ERROR_BYTES = 64 * 1024
# How long, in seconds, and how much to read of a response that nobody wants any more. Mostly its end has arrived
# already, and after it the connection can be used again.
_DRAIN_S = 0.1
_DRAIN_BYTES = 64 * 1024
# How long a request waits for a file descriptor when this process has none left, and how often it tries, in seconds.
_DESCRIPTOR_PATIENCE_S = 5.0
_DESCRIPTOR_RETRY_S = 0.1


class Exchange:
    """One request and its response.

    Attributes:
        status: The HTTP status, after `open`; 0 before it.
        headers: Headers, names in lower case.
    """

    def __init__(
        self,
        request: HttpRequest,
        destination: Destination,
        pool: Pool,
        wall_clock: Callable[[], float],
        is_stream: bool,
    ) -> None:
        """Start the time limit; nothing is sent yet."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self._scrubber = _scrubber_for(request, destination)
        self._request = request
        self._destination = destination
        self._pool = pool
        self._wall_clock = wall_clock
        self._is_stream = is_stream
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + request.timeout_s
        self._adapter: Adapter | None = None
        self._response: RawResponse | None = None
        self._decoder: Decoder | None = None
        self._decoded: Iterator[bytes] | None = None
        self._read_bytes = 0
        self._is_complete = False
        self._has_failed = False

    @property
    def is_framed(self) -> bool:
        """Return whether the headers tell where the body ends; otherwise it ends with the connection."""
        return "content-length" in self.headers or "chunked" in self.headers.get("transfer-encoding", "").lower()

    async def open(self) -> None:
        """Send the request and read status and headers; raise for a status of 300 or more."""
        response = await self._send()
        self._response = response
        self.status, self.headers = response.status, response.headers
        if self.status >= 300:
            await self._raise_for_status()
        self._choose_decoder()

    def _choose_decoder(self) -> None:
        """Create the decoder for the body, if it is encoded."""
        if self._destination.impersonate:
            return  # curl has decoded it already
        unknown = ""
        try:
            self._decoder = decoder_for(self.headers.get("content-encoding", ""), self._request.max_bytes)
        except UnknownCodingError as error:
            unknown = error.coding
        if unknown:
            self._fail(
                MalformedReplyError,
                f"sent its answer in the encoding {shorten(unknown, 20)!r}, which was not asked for. "
                "A proxy or gateway in between may have chosen it.",
            )

    async def _send(self) -> RawResponse:
        """Send the request over a connection and return the raw response.

        When the system has no descriptor for a connection, this tries again for 5 s: other requests may free one.
        """
        patience_at = self._loop.time() + _DESCRIPTOR_PATIENCE_S
        while True:
            try:
                adapter = self._acquire_nowait()
                if adapter is None:
                    adapter = await self._wait(self._acquire)
                self._adapter = adapter
                return await self._wait(partial(self._send_over, adapter))
            except TooManyOpenFilesError:
                await self._discard_unopened()
                if self._loop.time() > patience_at:
                    raise
            await self._wait(self._pause)

    async def _send_over(self, adapter: Adapter, deadline: float) -> RawResponse:
        """Send the request over this connection."""
        return await adapter.send(self._request, is_stream=self._is_stream, deadline=deadline)

    async def _acquire(self, deadline: float) -> Adapter:
        """Return a connection as soon as the limit allows one."""
        return await await_until(deadline, self._pool.acquire(self._destination))

    async def _pause(self, deadline: float) -> None:
        """Wait before trying again to get a descriptor."""
        await await_until(deadline, asyncio.sleep(_DESCRIPTOR_RETRY_S))

    def _acquire_nowait(self) -> Adapter | None:
        """Return a connection; None when the limit is reached."""
        error: AichatError | None = None
        try:
            return self._pool.acquire_nowait(self._destination)
        except OSError as caught:  # the certificates cannot be read
            error = self._transport_error(caught)
        raise error

    async def _discard_unopened(self) -> None:
        """Discard a connection that could not be opened, because the system has no descriptor for it."""
        adapter, self._adapter, self._has_failed = self._adapter, None, False
        if adapter is not None:
            await self._pool.discard(adapter)
        self._pool.limit.lower()

    async def _raise_for_status(self) -> None:
        """Raise for a status of 300 or more."""
        self.headers = {name: self._scrubber.error(value) for name, value in self.headers.items()}
        if self._response is not None:
            self._response.headers = self.headers  # an error keeps the response among its variables
        if self.status < 400:
            self._refuse_redirect()
        error = status_error(
            self.status,
            self.headers,
            self._scrubber.error(await self._read_error_body()),
            provider=self._request.provider,
            wall_clock=self._wall_clock,
            no_key="" if self._request.auth else self._request.no_key,
        )
        raise error

    async def read(self) -> bytes:
        """Return the rest of the body, without the secrets of the request."""
        pieces = []
        while piece := await self.next_piece():
            pieces.append(piece)
        return self._scrubber.reply(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def scrub(self, event: ServerSentEvent) -> ServerSentEvent:
        """Return an event without the secrets of the request."""
        data = self._scrubber.reply(event.data)
        return event if data == event.data else ServerSentEvent(event.event, data)

    async def next_piece(self) -> bytes:
        """Return the next decoded bytes; empty at the end."""
        while True:
            piece = self._next_decoded() if self._decoded is not None else b""
            if not piece:
                raw = await self._next_raw()
                if self._decoder is None:
                    piece = raw
                elif raw:
                    self._decoded = self._decoder.feed(raw)
                    continue
                else:
                    self._finish_decoding(self._decoder)
            self._read_bytes += len(piece)
            if self._read_bytes > self._request.max_bytes:
                self._fail_as_too_large()
            return piece

    def _next_decoded(self) -> bytes:
        """Return the next bytes from the decoder; empty when it needs more input."""
        assert self._decoded is not None
        error_type: type[Exception] | None = None
        try:
            return next(self._decoded, b"")
        except (NotEncodedError, EncodedTooLargeError) as error:
            error_type = type(error)
        if error_type is EncodedTooLargeError:
            self._fail_as_too_large()
        return self._fail(MalformedReplyError, "sent a body that is not compressed as its header says.")

    def _finish_decoding(self, decoder: Decoder) -> None:
        """Raise when a compressed body is not complete."""
        is_truncated = False
        try:
            decoder.finish()
        except TruncatedEncodingError:
            is_truncated = True
        if is_truncated:
            self._fail(IncompleteReplyError, "sent a compressed body that breaks off.")

    async def close(self) -> None:
        """Return the connection to the pool when the response was read to its end; otherwise close it."""
        adapter, self._adapter = self._adapter, None
        if adapter is None:
            return
        try:
            if self._response is not None and not self._is_complete and not self._has_failed:
                await self._drain(self._response)
        finally:
            is_closed = False
            try:
                if self._response is not None:
                    await self._response.aclose()
                is_closed = True
            finally:  # also when it was cancelled meanwhile: the adapter holds a slot
                if is_closed and self._is_complete:
                    await self._pool.release(self._destination, adapter)
                else:
                    await self._pool.discard(adapter)

    async def _drain(self, response: RawResponse) -> None:
        """Read the rest of the response, if it is short and arrives at once."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return
        left = _DRAIN_BYTES
        deadline = self._loop.time() + _DRAIN_S
        try:
            while left > 0 and (piece := await response.read(deadline)):
                left -= len(piece)
            self._is_complete = left > 0
        except Exception:
            return  # the only consequence is that the connection is not used again

    async def _read_error_body(self) -> bytes:
        """Return the body of an error response, or as much of it as can be read, up to 64 KiB."""
        pieces: list[bytes] = []
        size = 0
        try:
            self._choose_decoder()
            while size < MAX_ERROR_BYTES and (piece := await self.next_piece()):
                pieces.append(piece)
                size += len(piece)
        except AichatError:
            pass  # the status tells more than a broken body
        return b"".join(pieces)[:MAX_ERROR_BYTES]

    async def _next_raw(self) -> bytes:
        """Return the next bytes off the wire; empty at the end."""
        response = self._response
        if response is None or self._is_complete:
            return b""
        piece = response.read_nowait()
        if piece is None:
            piece = await self._wait(response.read)
        self._is_complete = not piece
        return piece

    async def _wait(self, step: Callable[[float], Awaitable[_T]]) -> _T:
        """Await one step within the total and the idle time limit, and raise failures as our own errors."""
        # Before the headers only the total limit counts: a model may think for as long as the caller allows.
        idle_end = self._loop.time() + self._request.idle_timeout_s if self._response is not None else self._deadline
        error: AichatError
        try:
            return await step(min(self._deadline, idle_end))
        except DeadlineExpiredError:
            error = self._timeout_error(idle_end)
        except (Exception, BaseExceptionGroup) as caught:
            error = self._transport_error(caught)
        except BaseException:
            self._has_failed = True
            raise
        self._has_failed = True
        raise error

    def _timeout_error(self, idle_end: float) -> AichatError:
        request = self._request
        if self._adapter is None:
            text = (
                f"No connection to {self._server} was free within {request.timeout_s:g} s: this process has as many "
                f"open as it may ({self._pool.limit.max_connections}, a quarter of its file descriptors). Raise "
                "`ulimit -n`, or send fewer requests at once."
            )
        elif idle_end < self._deadline:
            text = f"{self._server} was silent for {request.idle_timeout_s:g} s."
        else:
            text = f"{self._server} did not finish within {request.timeout_s:g} s. Allow more with --timeout."
        return DeadlineError(text, provider=request.provider)

    def _transport_error(self, caught: BaseException) -> AichatError:
        return connection_error(
            caught,
            provider=self._request.provider,
            url=without_password(self._request.url),
            server=self._server,
            proxy=proxy_name(self._destination.proxy) if self._destination.proxy is not None else "",
            has_begun=self._response is not None,
            connect_timeout_s=self._request.connect_timeout_s,
            is_this_machine=is_loopback(self._destination.host),
            start_command=self._request.start,
        )

    @property
    def _server(self) -> str:
        """Return the name of the server, for messages: its host, with the port unless it is 80 or 443."""
        host, port = self._destination.host, self._destination.port
        return host if port in (80, 443) else f"{host}:{port}"

    def _fail(self, error: type[MalformedReplyError | TooLargeError | IncompleteReplyError], what: str) -> NoReturn:
        self._has_failed = True
        raise error(f"{self._request.provider or self._server} {what}", provider=self._request.provider)

    def _fail_as_too_large(self) -> NoReturn:
        self._fail(TooLargeError, f"sent more than {self._request.max_bytes} bytes; reading stopped.")

    def _refuse_redirect(self) -> NoReturn:
        where = without_password(self.headers.get("location", ""))
        to = f" to {where}" if where else ""
        raise RedirectError(
            f"{self._server} redirected the request{to} ({self.status}). The redirect was not followed, so that the "
            "key is sent nowhere else. If the address is right, make it the base URL.",
            provider=self._request.provider,
        )


def _scrubber_for(request: HttpRequest, destination: Destination) -> Scrubber:
    """Return a scrubber that removes the secrets of a request from its response."""
    secrets = [cookie.value for cookie in request.cookies]
    secrets += [auth.secret for auth in (request.auth, *request.secret_headers) if auth is not None]
    if destination.proxy is not None:
        secrets.append(Secret(urlsplit(destination.proxy.reveal()).password or ""))
    return Scrubber(secrets)
