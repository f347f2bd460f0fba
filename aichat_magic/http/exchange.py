"""One request and its response: read in pieces, within its times and its size, and closed exactly once.

What libraries raise is never chained to our errors, because their texts and their frames can hold a key.
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
from ..core.urls import proxy_name, without_password
from ..text.words import shorten
from .adapters import Adapter, Answer
from .connection import OverdueError
from .decoding import CutOffError, Decoder, EncodedTooLargeError, NotEncodedError, UnknownCodingError, decoder_for
from .errors import connection_error, status_error
from .pool import Pool
from .request import HttpRequest
from .sse import ServerSentEvent
from .urls import Route, is_loopback

_T = TypeVar("_T")

MAX_ERROR_BYTES = 64 * 1024
# How long the end of a response may take after its reader has left. It mostly has arrived by then, and a connection
# read to its end can be used again.
_DRAIN_S = 0.1
_DRAIN_BYTES = 64 * 1024
# How long a request waits for a file descriptor when this process has none left, and how often it looks, in seconds.
_DESCRIPTOR_PATIENCE_S = 5.0
_NEXT_DESCRIPTOR_S = 0.1


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
        self._way: Adapter | None = None
        self._answer: Answer | None = None
        self._decoder: Decoder | None = None
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
        answer = await self._sent()
        self._answer = answer
        self.status, self.headers = answer.status, answer.headers
        if self.status >= 300:
            await self._refuse()
        self._decode()

    def _decode(self) -> None:
        """Find out how the body is encoded."""
        if self._route.impersonate:
            return  # curl has undone it already
        unknown = ""
        try:
            self._decoder = decoder_for(self.headers.get("content-encoding", ""), self._request.max_bytes)
        except UnknownCodingError as error:
            unknown = error.coding
        if unknown:
            self._fail(
                MalformedReplyError,
                f"sent its answer in the encoding {shorten(unknown, 20)!r}, which was not asked for. "
                "A proxy or gateway on the way may have chosen it.",
            )

    async def _sent(self) -> Answer:
        """Send the request over a connection, and return what comes of it.

        When the system has no descriptor for one, a place is waited for again: others give theirs back, or nobody does.
        """
        patience_at = self._loop.time() + _DESCRIPTOR_PATIENCE_S
        while True:
            try:
                way = self._taken()
                if way is None:
                    way = await self._wait(self._next_way)
                self._way = way
                return await self._wait(partial(self._send, way))
            except TooManyOpenFilesError:
                await self._let_go()
                if self._loop.time() > patience_at:
                    raise
            await self._wait(self._pause)

    async def _send(self, way: Adapter, until: float) -> Answer:
        """Send the request over this connection."""
        return await way.send(self._request, is_stream=self._is_stream, until=until)

    async def _next_way(self, until: float) -> Adapter:
        """A connection, as soon as there is a place for one."""
        return await _within(until, self._pool.wait(self._route))

    async def _pause(self, until: float) -> None:
        """Leave the system time to find a descriptor."""
        await _within(until, asyncio.sleep(_NEXT_DESCRIPTOR_S))

    def _taken(self) -> Adapter | None:
        """A connection; None where one has to be waited for."""
        error: AichatError | None = None
        try:
            return self._pool.take(self._route)
        except OSError as caught:  # the certificates cannot be read
            error = self._broken(caught)
        raise error

    async def _let_go(self) -> None:
        """Close what was to be a connection: the system has no descriptor for it."""
        way, self._way, self._has_failed = self._way, None, False
        if way is not None:
            await self._pool.drop(way)
        self._pool.limit.fall()

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
            piece = self._next_decoded() if self._decoded is not None else b""
            if not piece:
                raw = await self._next_raw()
                if self._decoder is None:
                    piece = raw
                elif raw:
                    self._decoded = self._decoder.feed(raw)
                    continue
                else:
                    self._finish(self._decoder)
            self._read_bytes += len(piece)
            if self._read_bytes > self._request.max_bytes:
                self._fail_as_too_large()
            return piece

    def _next_decoded(self) -> bytes:
        """The next bytes of what was fed to the decoder; empty when it wants more."""
        assert self._decoded is not None
        problem: type[Exception] | None = None
        try:
            return next(self._decoded, b"")
        except (NotEncodedError, EncodedTooLargeError) as error:
            problem = type(error)
        if problem is EncodedTooLargeError:
            self._fail_as_too_large()
        return self._fail(MalformedReplyError, "sent a body that is not compressed as its header says.")

    def _finish(self, decoder: Decoder) -> None:
        """Make sure that a compressed body came to its end."""
        is_cut = False
        try:
            decoder.finish()
        except CutOffError:
            is_cut = True
        if is_cut:
            self._fail(IncompleteReplyError, "sent a compressed body that breaks off.")

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
        until = self._loop.time() + _DRAIN_S
        try:
            while left > 0 and (piece := await answer.piece(until)):
                left -= len(piece)
            self._is_whole = left > 0
        except Exception:
            return  # then the connection is not used again, and that is all there is to it

    async def _beginning(self) -> bytes:
        """The first bytes of an error's body, as far as they come."""
        pieces: list[bytes] = []
        size = 0
        try:
            self._decode()
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

    async def _wait(self, begin: Callable[[float], Awaitable[_T]]) -> _T:
        """Await one step within the deadline and the idle time; raise what goes wrong as one of our errors."""
        # Before the headers only the deadline counts: a model may think for as long as the caller lets it.
        idle_end = self._loop.time() + self._request.idle_timeout_s if self._answer is not None else self._deadline
        error: AichatError
        try:
            return await begin(min(self._deadline, idle_end))
        except OverdueError:
            error = self._late(idle_end)
        except (Exception, BaseExceptionGroup) as caught:
            error = self._broken(caught)
        except BaseException:
            self._has_failed = True
            raise
        self._has_failed = True
        raise error

    def _late(self, idle_end: float) -> AichatError:
        request = self._request
        if self._way is None:
            text = (
                f"No connection to {self._place} was free within {request.timeout_s:g} s: this process has as many "
                f"open as it may ({self._pool.limit.most}, a quarter of its file descriptors). Raise `ulimit -n`, or "
                "ask less at once."
            )
        elif idle_end < self._deadline:
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

    def _fail(self, kind: type[MalformedReplyError | TooLargeError | IncompleteReplyError], what: str) -> NoReturn:
        self._has_failed = True
        raise kind(f"{self._request.provider or self._place} {what}", provider=self._request.provider)

    def _fail_as_too_large(self) -> NoReturn:
        self._fail(TooLargeError, f"sent more than {self._request.max_bytes} bytes; reading stopped.")

    def _refuse_redirect(self) -> NoReturn:
        where = without_password(self.headers.get("location", ""))
        to = f" to {where}" if where else ""
        raise RedirectError(
            f"{self._place} redirected the request{to} ({self.status}). It was not followed, so that the key goes "
            "nowhere else. If the address is right, make it the base URL.",
            provider=self._request.provider,
        )


async def _within(until: float, step: Awaitable[_T]) -> _T:
    """Await a step that knows of no time.

    Raises:
        OverdueError: The time is over.
        Exception: What the step raises.
    """
    timer = asyncio.timeout_at(until)
    try:
        async with timer:
            return await step
    except TimeoutError:
        if not timer.expired():
            raise
    raise OverdueError


def _scrubber(request: HttpRequest, route: Route) -> Scrubber:
    """What keeps the secrets that go out from coming back."""
    held = [cookie.value for cookie in request.cookies]
    if request.auth is not None:
        held.append(request.auth.secret)
    if route.proxy is not None:
        held.append(Secret(urlsplit(route.proxy.reveal()).password or ""))
    return Scrubber(held)
