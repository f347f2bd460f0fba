"""One connection to a server, straight on asyncio: opened, written to, read as HTTP/1.1, closed at once."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import cast

from .response import ResponseHead, ResponseReader, TruncatedResponseError

# Arrived and not yet read; above it the socket is left alone until somebody reads. It is more than one turn of the loop
# brings, because uvloop loses the end of what was sent over TLS when the other side closes while it is left alone.
_MOST_UNREAD_BYTES = 4 * 2**20
# RFC 8305, section 5: "Connection Attempt Delay".
_NEXT_ADDRESS_S = 0.25

_Address = tuple[int, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


class ConnectTimeout(Exception):
    """There was no connection within the time to connect."""


class OverdueError(Exception):
    """The time until which the caller would wait is over."""


class Connection(asyncio.BufferedProtocol):
    """The two ends of one connection, and the reader of what comes back."""

    def __init__(self, loop: asyncio.AbstractEventLoop, inbox: memoryview) -> None:
        """Wait for the connection.

        Args:
            loop: The running loop.
            inbox: Where bytes are put when they come. All lines of a loop share it, because each takes them at once.
        """
        self.reader = ResponseReader()
        self._inbox = inbox
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._unread = 0
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._lost: asyncio.Future[None] = loop.create_future()
        self._has_unread: Callable[[], bool] = lambda: False

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        self._has_unread = _looks_at(transport.get_extra_info("socket").fileno())

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where bytes that have come are to be put."""
        return self._inbox

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        self.take(self._inbox[:nbytes])

    def take(self, data: bytes | memoryview) -> None:
        """Give these bytes to the reader."""
        self.reader.feed(data)
        self._unread += len(data)
        if self._unread > _MOST_UNREAD_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """The other side sends no more; asyncio closes this side then."""
        self.reader.close()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is closed."""
        self._error = error
        self.reader.close()
        self._wake()
        if not self._lost.done():
            self._lost.set_result(None)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # --- our side

    @property
    def is_idle(self) -> bool:
        """Whether a request can be sent now: nothing came unasked, and both sides are open.

        The loop may not have heard yet that the server has closed the connection: between two cells it stands still.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or not self.reader.is_clean:
            return False
        return not self._has_unread()

    @property
    def is_reusable(self) -> bool:
        """Whether the response was read to its end, and another request can follow."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._is_paused:
            return False
        return self.reader.is_reusable and transport.get_write_buffer_size() == 0

    def send(self, request: bytes) -> None:
        """Send a whole request. What goes wrong shows when the response is read, which may say more."""
        if self._transport is not None:
            self._transport.write(request)

    async def head(self, until: float) -> ResponseHead:
        """Return status and headers of the response.

        Args:
            until: How long to wait, in seconds of the loop's clock.

        Raises:
            OverdueError: It takes longer.
            InvalidResponseError: See `ResponseReader.head`.
            TruncatedResponseError: See there.
        """
        while True:
            try:
                head = self.reader.head()
            except TruncatedResponseError as cut:
                raise cut from self._error
            if head is not None:
                return head
            await self._more(until)

    async def piece(self, until: float) -> bytes:
        """Return the next bytes of the body; empty at its end. Takes and raises what `head` does."""
        while True:
            try:
                piece = self.reader.piece()
            except TruncatedResponseError as cut:
                raise cut from self._error
            if piece is not None:
                return piece
            await self._more(until)

    async def _more(self, until: float) -> None:
        """Wait until something comes, or the time is over."""
        self._unread = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        waiter = self._waiter = self._loop.create_future()
        # Cheaper than `asyncio.timeout`, and it cancels nobody.
        timer = self._loop.call_at(until, _expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()

    async def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Begin TLS.

        Raises:
            OSError: The certificate is not accepted, the connection broke, or the other side spoke before.
        """
        plain = self._transport
        assert plain is not None
        try:
            if not self.reader.is_clean:  # whoever wrote it, it must not be taken for an answer
                raise ssl.SSLError("the server sent something before the handshake")
            self._transport = await self._loop.start_tls(plain, _Decrypted(self), context, server_hostname=host)
        except BaseException:
            plain.abort()
            raise

    async def aclose(self) -> None:
        """Close, and wait until it is closed: asyncio does it two turns of the loop from now."""
        if self._transport is not None:
            self._transport.abort()
            await self._lost


class _Decrypted(asyncio.Protocol):
    """Hands a line what TLS has decrypted.

    It is not the line itself: for a protocol that brings its own buffer asyncio decrypts no more than fits into it at a
    time, and drops the rest when the other side closes.
    """

    def __init__(self, line: Connection) -> None:
        self._line = line

    def data_received(self, data: bytes) -> None:
        self._line.take(data)

    def eof_received(self) -> None:
        self._line.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._line.connection_lost(error)


def _expire(waiter: asyncio.Future[None]) -> None:
    """Wait no longer."""
    if not waiter.done():
        waiter.set_exception(OverdueError())


def _looks_at(descriptor: int) -> Callable[[], bool]:
    """Looks whether a socket has something to read, or its end; reads nothing."""
    if not hasattr(select, "poll"):  # as on Windows, where `select` takes any descriptor
        return lambda: bool(select.select([descriptor], [], [], 0)[0])
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return lambda: bool(poller.poll(0))


async def connect(
    scheme: str,
    host: str,
    port: int,
    context: ssl.SSLContext,
    *,
    inbox: memoryview,
    timeout_s: float,
    until: float,
    is_literal: bool,
) -> Connection:
    """Open a connection.

    Args:
        scheme: ``"http"`` or ``"https"``.
        host: Host name or address.
        port: The port.
        context: What TLS is checked with.
        inbox: Where what arrives is put; see `Connection`.
        timeout_s: Longest time, in seconds.
        until: How long to wait at most, whatever `timeout_s` says, in seconds of the loop's clock.
        is_literal: Whether the host is an address and need not be looked up.

    Raises:
        ConnectTimeout: It took longer than `timeout_s`.
        OverdueError: It took until `until`.
        OSError: There is no such host, nobody listens there, or TLS failed.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    timer = asyncio.timeout_at(min(end, until))
    try:
        async with timer:
            addresses = await _addresses(loop, host, port, is_literal)
            sock = await (_reach(loop, addresses[0]) if len(addresses) == 1 else _reach_any(loop, addresses))
            line = Connection(loop, inbox)
            await loop.create_connection(lambda: line, sock=sock)
            if scheme == "https":
                await line.secure(context, host)
            return line
    except TimeoutError as error:
        if not timer.expired():
            raise  # the system's own time is over
        raise (OverdueError if until <= end else ConnectTimeout) from error


async def _addresses(loop: asyncio.AbstractEventLoop, host: str, port: int, is_literal: bool) -> list[_Address]:
    """The addresses of a host; those of IPv6 and IPv4 in turn, beginning with the kind that the system prefers."""
    if is_literal:
        return [(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port))]
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "no name that can be looked up") from error
    except socket.gaierror:
        socket.socket().close()  # without a descriptor there is no host to be found: that is the error then
        raise
    addresses: list[_Address] = [(family, address) for family, _, _, _, address in found]
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    mixed = [address for pair in zip(first, others, strict=False) for address in pair]
    shorter = min(len(first), len(others))
    return [*mixed, *first[shorter:], *others[shorter:]]


async def _reach(loop: asyncio.AbstractEventLoop, address: _Address) -> socket.socket:
    """A socket connected to one address."""
    sock = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, address[1])
    except BaseException:
        sock.close()
        raise
    return sock


async def _reach_any(loop: asyncio.AbstractEventLoop, addresses: Sequence[_Address]) -> socket.socket:
    """A socket connected to whichever address answers first; each has a head start of a quarter of a second.

    Source: RFC 8305 ("Happy Eyeballs"). asyncio's own hides from Python 3.11 why every address failed.
    """
    tasks: list[asyncio.Task[socket.socket]] = []
    errors: list[Exception] = []
    winner: asyncio.Task[socket.socket] | None = None
    try:
        for number, address in enumerate(addresses, 1):
            tasks.append(loop.create_task(_reach(loop, address)))
            timeout_s = _NEXT_ADDRESS_S if number < len(addresses) else None
            waiting = {task for task in tasks if not task.done()}
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
                winner = next((task for task in done if task.exception() is None), None)
                if winner is not None:
                    return winner.result()
                errors += [error for task in done if isinstance(error := task.exception(), Exception)]
                if timeout_s is not None:
                    break
    finally:
        for task in tasks:
            if task is not winner:
                task.cancel()
                task.add_done_callback(_close_unwanted)
    if len(errors) == 1:
        raise errors[0]
    raise ExceptionGroup("no address answers", errors)


def _close_unwanted(task: asyncio.Task[socket.socket]) -> None:
    """Close the socket of an attempt that came second."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
