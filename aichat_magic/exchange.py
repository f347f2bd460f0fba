"""One request and its response: read in pieces, within its times and its size, and closed exactly once.

What libraries raise is never chained to our errors, because their texts and their frames can hold a key.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar
from urllib.parse import urlsplit

from .connections import Pool
from .errors import (
    AichatError,
    DeadlineError,
    IncompleteReplyError,
    MalformedReplyError,
    RedirectError,
    TooLargeError,
    shorten,
)
from .failures import connection_error, status_error
from .outgoing import HttpRequest
from .routes import Route, is_loopback
from .secret import Scrubber, Secret
from .sse import ServerSentEvent
from .urls import proxy_name, without_password
from .ways import Answer, Way

_T = TypeVar("_T")

MAX_ERROR_BYTES = 64 * 1024
# How long the end of a response may take after its reader has left. It mostly has arrived by then, and a connection
# read to its end can be used again.
_DRAIN_S = 0.1
_DRAIN_BYTES = 64 * 1024
_PIECE_BYTES = 64 * 1024


class Exchange:
    """One request and its response.

    Attributes:
        status: The HTTP status, once it is open.
        headers: Headers, names in lower case.
    """

    def __init__(
        self,
        request: HttpRequest,
        route: Route,
        pool: Pool,
        wall_clock: Callable[[], float],
        is_stream: bool,
    ) -> None:
        """Begin the deadline; send nothing yet."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self._scrubber = _scrubber(request, route)
        self._request = request
        self._route = route
        self._pool = pool
        self._wall_clock = wall_clock
        self._is_stream = is_stream
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + request.timeout_s
        self._way: Way | None = None
        self._answer: Answer | None = None
        self._decoder: _Inflater | None = None
        self._decoded: Iterator[bytes] | None = None
        self._read_bytes = 0
        self._is_whole = False
        self._has_failed = False

    @property
    def is_framed(self) -> bool:
        """Whether HTTP says where the body ends."""
        return "content-length" in self.headers or "chunked" in self.headers.get("transfer-encoding", "").lower()

    async def open(self) -> None:
        """Send the request and read status and headers; raise for a status of 300 or more."""
        request = self._request
        way = self._way = self._pool.take(self._route)
        answer = await self._wait(lambda: way.send(request, is_stream=self._is_stream))
        self._answer = answer
        self.status, self.headers = answer.status, answer.headers
        # curl has undone the encoding already.
        encoding = "" if self._route.impersonate else self.headers.get("content-encoding", "").lower().strip()
        if encoding in ("gzip", "x-gzip", "deflate"):
            self._decoder = _Inflater()
        elif encoding not in ("", "identity"):
            self._fail(MalformedReplyError, f"sent {shorten(encoding, 20)!r} encoding, which was not asked for.")
        if self.status >= 300:
            await self._refuse()

    async def _refuse(self) -> None:
        """Raise for a status of 300 or more."""
        self.headers = {name: self._scrubber.error(value) for name, value in self.headers.items()}
        if self.status < 400:
            self._refuse_redirect()
        error = status_error(
            self.status,
            self.headers,
            self._scrubber.error(await self._beginning()),
            provider=self._request.provider,
            wall_clock=self._wall_clock,
        )
        raise error

    async def read(self) -> bytes:
        """The rest of the body, without what it must not repeat."""
        pieces = []
        while piece := await self.next_piece():
            pieces.append(piece)
        return self._scrubber.reply(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def cleaned(self, event: ServerSentEvent) -> ServerSentEvent:
        """An event without what it must not repeat."""
        data = self._scrubber.reply(event.data)
        return event if data == event.data else ServerSentEvent(event.event, data)

    async def next_piece(self) -> bytes:
        """The next decoded bytes; empty at the end."""
        while True:
            piece = self._next_decoded() if self._decoder is not None else b""
            if not piece:
                raw = await self._next_raw()
                if not raw:
                    if self._decoder is not None and not self._decoder.is_at_end:
                        self._fail(IncompleteReplyError, "sent a compressed body that breaks off.")
                    return b""
                if self._decoder is not None:
                    self._decoded = self._decoder.feed(raw)
                    continue
                piece = raw
            self._read_bytes += len(piece)
            if self._read_bytes > self._request.max_bytes:
                self._fail(TooLargeError, f"sent more than {self._request.max_bytes} bytes; reading stopped.")
            return piece

    def _next_decoded(self) -> bytes:
        """The next bytes of what was fed to the decoder; empty when it wants more."""
        piece: bytes | None = None
        try:
            piece = next(self._decoded, b"") if self._decoded is not None else b""
        except zlib.error:
            pass
        if piece is None:
            self._fail(MalformedReplyError, "sent a body that is not compressed as its header says.")
        return piece or b""

    async def close(self) -> None:
        """Give the connection back when the response was read to its end, else close it."""
        way, self._way = self._way, None
        if way is None:
            return
        try:
            if self._answer is not None and not self._is_whole and not self._has_failed:
                await self._drain(self._answer)
        finally:
            if self._answer is not None:
                await self._answer.aclose()
            if self._is_whole:
                await self._pool.give_back(self._route, way)
            else:
                await self._pool.drop(way)

    async def _drain(self, answer: Answer) -> None:
        """Read what is left, if it is little and there already."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return
        left = _DRAIN_BYTES
        try:
            async with asyncio.timeout(_DRAIN_S):
                while left > 0 and (piece := await answer.piece()):
                    left -= len(piece)
            self._is_whole = left > 0
        except Exception:
            return  # then the connection is not used again, and that is all there is to it

    async def _beginning(self) -> bytes:
        """The first bytes of an error's body, as far as they come."""
        pieces: list[bytes] = []
        size = 0
        try:
            while size < MAX_ERROR_BYTES and (piece := await self.next_piece()):
                pieces.append(piece)
                size += len(piece)
        except AichatError:
            pass  # the status says more than the broken body does
        return b"".join(pieces)[:MAX_ERROR_BYTES]

    async def _next_raw(self) -> bytes:
        """The next bytes off the wire; empty at the end."""
        answer = self._answer
        if answer is None or self._is_whole:
            return b""
        piece = answer.at_hand()
        if piece is None:
            piece = await self._wait(answer.piece)
        self._is_whole = not piece
        return piece

    async def _wait(self, begin: Callable[[], Awaitable[_T]]) -> _T:
        """Await one step within the deadline and the idle time; raise what goes wrong as one of our errors."""
        # Before the headers only the deadline counts: a model may think for as long as the caller lets it.
        idle_end = self._loop.time() + self._request.idle_timeout_s if self._answer is not None else self._deadline
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        timer = asyncio.timeout_at(min(self._deadline, idle_end))
        error: AichatError | None = None
        try:
            async with timer:
                return await begin()
        except (Exception, BaseExceptionGroup) as caught:
            self._has_failed = True
            # anyio can turn a cancel during connect into another exception: then neither is reported.
            if task is None or task.cancelling() <= before:
                error = self._late(idle_end) if timer.expired() else self._broken(caught)
        except BaseException:
            self._has_failed = True
            raise
        if error is None:
            raise asyncio.CancelledError
        raise error

    def _late(self, idle_end: float) -> AichatError:
        request = self._request
        if idle_end < self._deadline:
            text = f"{self._place} was silent for {request.idle_timeout_s:g} s."
        else:
            text = f"{self._place} did not finish within {request.timeout_s:g} s. Allow more with --timeout."
        return DeadlineError(text, provider=request.provider)

    def _broken(self, caught: BaseException) -> AichatError:
        return connection_error(
            caught,
            provider=self._request.provider,
            url=without_password(self._request.url),
            place=self._place,
            proxy=proxy_name(self._route.proxy) if self._route.proxy is not None else "",
            has_begun=self._answer is not None,
            connect_timeout_s=self._request.connect_timeout_s,
            is_this_machine=is_loopback(self._route.host),
            start=self._request.start,
        )

    @property
    def _place(self) -> str:
        """The server, for messages."""
        return self._route.host if self._route.port in (80, 443) else f"{self._route.host}:{self._route.port}"

    def _fail(self, kind: type[MalformedReplyError | TooLargeError | IncompleteReplyError], what: str) -> None:
        self._has_failed = True
        raise kind(f"{self._request.provider or self._place} {what}", provider=self._request.provider)

    def _refuse_redirect(self) -> None:
        where = without_password(self.headers.get("location", ""))
        to = f" to {where}" if where else ""
        raise RedirectError(
            f"{self._place} redirected the request{to} ({self.status}). It was not followed, so that the key goes "
            "nowhere else. If the address is right, make it the base URL.",
            provider=self._request.provider,
        )


class _Inflater:
    """Undoes gzip and deflate in pieces of bounded size."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=47)  # 32 + 15: the header says whether gzip or zlib
        self._has_begun = False

    @property
    def is_at_end(self) -> bool:
        """Whether what came so far is whole."""
        return self._inflate.eof or not self._has_begun

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bytes that `data` stands for, at most 64 KiB at a time."""
        while data:
            if self._inflate.eof:
                self._inflate = zlib.decompressobj(wbits=47)  # gzip may go on with another member
            self._has_begun = True
            yield self._inflate.decompress(data, _PIECE_BYTES)
            data = self._inflate.unconsumed_tail or self._inflate.unused_data


def _scrubber(request: HttpRequest, route: Route) -> Scrubber:
    """What keeps the secrets that go out from coming back."""
    held = [cookie.value for cookie in request.cookies]
    if request.auth is not None:
        held.append(request.auth.secret)
    if route.proxy is not None:
        held.append(Secret(urlsplit(route.proxy.reveal()).password or ""))
    return Scrubber(held)
