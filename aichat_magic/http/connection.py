"""A connection to a server, straight on asyncio: open it, write to it, read HTTP/1.1 responses from it, close it."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import cast

from .deadlines import DeadlineExpiredError
from .response import ResponseHead, ResponseReader, TruncatedResponseError

# Bytes that have arrived and are not read yet; above this, reading from the socket pauses. It is more than one turn of
# the loop brings, because uvloop loses the end of what was sent over TLS when the server closes the connection during
# the pause.
_MAX_UNREAD_BYTES = 4 * 2**20
# RFC 8305, section 5: "Connection Attempt Delay".
_NEXT_ADDRESS_S = 0.25

_Address = tuple[int, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


class ConnectTimeout(Exception):
    """No connection was established within the time to connect."""


class Connection(asyncio.BufferedProtocol):
    """A connection and the parser of its responses."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive_buffer: memoryview) -> None:
        """Create the protocol; asyncio connects it.

        Args:
            loop: The running loop.
            receive_buffer: Where arriving bytes are put. All connections of a loop share it, because each of them
                copies its bytes at once.
        """
        self.reader = ResponseReader()
        self._receive_buffer = receive_buffer
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._unread = 0
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._lost: asyncio.Future[None] = loop.create_future()
        self._has_unread: Callable[[], bool] = lambda: False

    # --- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport: the connection is established."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        self._has_unread = _readability_check(transport.get_extra_info("socket").fileno())

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the bytes that have arrived."""
        return self._receive_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that asyncio has put into the buffer."""
        self.feed(self._receive_buffer[:nbytes])

    def feed(self, data: bytes | memoryview) -> None:
        """Pass bytes that have arrived to the reader."""
        self.reader.feed(data)
        self._unread += len(data)
        if self._unread > _MAX_UNREAD_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Note that the server sends nothing more; asyncio then closes the connection."""
        self.reader.close()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """Note that the connection is closed, and why."""
        self._error = error
        self.reader.close()
        self._wake()
        if not self._lost.done():
            self._lost.set_result(None)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # --- called by the adapter

    @property
    def is_idle(self) -> bool:
        """Return whether a request can be sent now: both sides are open and nothing unexpected has arrived.

        This asks the socket, too: between two cells the loop stands still, and has not noticed yet that the server has
        closed the connection.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or not self.reader.is_clean:
            return False
        return not self._has_unread()

    @property
    def is_reusable(self) -> bool:
        """Return whether the response was read to its end and another request can follow."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._is_paused:
            return False
        return self.reader.is_reusable and transport.get_write_buffer_size() == 0

    def send(self, request: bytes) -> None:
        """Send a whole request. Errors surface when the response is read, because it may tell more about them."""
        if self._transport is not None:
            self._transport.write(request)

    async def read_head(self, deadline: float) -> ResponseHead:
        """Return status and headers of the response.

        Args:
            deadline: When to give up, in seconds of the loop's clock.

        Raises:
            DeadlineExpiredError: The deadline has passed.
            InvalidResponseError: See `ResponseReader.read_head`.
            TruncatedResponseError: See there.
        """
        while True:
            try:
                head = self.reader.read_head()
            except TruncatedResponseError as cut:
                raise cut from self._error
            if head is not None:
                return head
            await self._wait_for_more(deadline)

    async def read_body(self, deadline: float) -> bytes:
        """Return the next bytes of the body; empty at its end. Arguments and errors are those of `read_head`."""
        while True:
            try:
                piece = self.reader.read_body()
            except TruncatedResponseError as cut:
                raise cut from self._error
            if piece is not None:
                return piece
            await self._wait_for_more(deadline)

    async def _wait_for_more(self, deadline: float) -> None:
        """Wait until something arrives, or raise at the deadline."""
        if self._loop.time() >= deadline:  # the timer never fires while bytes arrive in every turn of the loop
            raise DeadlineExpiredError
        self._unread = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        waiter = self._waiter = self._loop.create_future()
        # Cheaper than `asyncio.timeout`, and it cancels no task.
        timer = self._loop.call_at(deadline, _expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Start TLS.

        Raises:
            OSError: The certificate is not accepted, the connection broke, or the server sent something before.
        """
        plain = self._transport
        assert plain is not None
        try:
            if not self.reader.is_clean:  # anybody could have sent it, so it must not pass for a response
                raise ssl.SSLError("the server sent something before the handshake")
            self._transport = await self._loop.start_tls(plain, _Decrypted(self), context, server_hostname=host)
        except BaseException:
            plain.abort()
            raise

    async def aclose(self) -> None:
        """Close the connection and wait until it is closed, which takes asyncio two turns of the loop."""
        if self._transport is not None:
            self._transport.abort()
            await self._lost


class _Decrypted(asyncio.Protocol):
    """The protocol that passes decrypted bytes to a connection.

    The connection does not do it itself: for a protocol with a buffer of its own, asyncio decrypts no more than fits
    into the buffer at a time, and drops the rest when the server closes the connection.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def data_received(self, data: bytes) -> None:
        self._connection.feed(data)

    def eof_received(self) -> None:
        self._connection.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._connection.connection_lost(error)


def _expire(waiter: asyncio.Future[None]) -> None:
    """End the wait with an error."""
    if not waiter.done():
        waiter.set_exception(DeadlineExpiredError())


def _readability_check(descriptor: int) -> Callable[[], bool]:
    """Return a function that tells, without reading, whether a socket has bytes or its end to read."""
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
    receive_buffer: memoryview,
    timeout_s: float,
    deadline: float,
    is_literal: bool,
) -> Connection:
    """Open a connection.

    Args:
        scheme: ``"http"`` or ``"https"``.
        host: Host name or address.
        port: The port.
        context: The TLS context.
        receive_buffer: Where arriving bytes are put; see `Connection`.
        timeout_s: Longest time to connect, in seconds.
        deadline: When to give up in any case, in seconds of the loop's clock.
        is_literal: Whether the host is an address and needs no lookup.

    Raises:
        ConnectTimeout: Connecting took longer than `timeout_s`.
        DeadlineExpiredError: The deadline has passed.
        OSError: There is no such host, nobody listens there, or TLS failed.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    timer = asyncio.timeout_at(min(end, deadline))
    try:
        async with timer:
            addresses = await _addresses(loop, host, port, is_literal)
            sock = await (_reach(loop, addresses[0]) if len(addresses) == 1 else _reach_any(loop, addresses))
            connection = Connection(loop, receive_buffer)
            await loop.create_connection(lambda: connection, sock=sock)
            if scheme == "https":
                await connection.start_tls(context, host)
            return connection
    except TimeoutError as error:
        if not timer.expired():
            raise  # the system's own timeout
        raise (DeadlineExpiredError if deadline <= end else ConnectTimeout) from error


async def _addresses(loop: asyncio.AbstractEventLoop, host: str, port: int, is_literal: bool) -> list[_Address]:
    """Return the addresses of a host, IPv6 and IPv4 in turn, beginning with the family that the system prefers."""
    if is_literal:
        return [(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port))]
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "no name that can be looked up") from error
    except socket.gaierror:
        socket.socket().close()  # raises when no descriptor is left: then that is why the lookup failed
        raise
    addresses: list[_Address] = [(family, address) for family, _, _, _, address in found]
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    mixed = [address for pair in zip(first, others, strict=False) for address in pair]
    shorter = min(len(first), len(others))
    return [*mixed, *first[shorter:], *others[shorter:]]


async def _reach(loop: asyncio.AbstractEventLoop, address: _Address) -> socket.socket:
    """Return a socket connected to one address."""
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
    """Return a socket connected to the first address that answers; each has a head start of 0.25 s over the next.

    Source: RFC 8305 ("Happy Eyeballs"). asyncio's own does not tell, on Python 3.11, why each address failed.
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
    """Close the socket of an attempt that succeeded too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
