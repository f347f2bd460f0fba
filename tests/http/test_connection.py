"""Opening connections: which of several addresses is used, within which time, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import warnings

import pytest
from effort import PATIENCE_S

from aichat_magic.http.connection import ConnectTimeout, connect
from aichat_magic.http.deadlines import DeadlineExpiredError
from aichat_magic.http.response import TruncatedResponseError

pytestmark = pytest.mark.anyio
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def soon():
    """Return a deadline that a test reaches only when it hangs."""
    return asyncio.get_running_loop().time() + PATIENCE_S


@contextlib.contextmanager
def listening(host="127.0.0.1", *, backlog=5):
    """Listen with a socket that accepts connections and never reads; yield its port."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.bind((host, 0))
        listener.listen(backlog)
        yield listener.getsockname()[1]


@pytest.fixture
def addresses(monkeypatch):
    """Return the list of addresses that every host name resolves to; empty at first."""
    found = []

    async def getaddrinfo(self, host, port, **kwargs):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in found]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return found


async def opened(
    timeout_s=PATIENCE_S, scheme="http", host="name.example", port=80, *, deadline=None, buffer_bytes=4096
):
    receive_buffer = memoryview(bytearray(buffer_bytes))
    deadline = soon() if deadline is None else deadline
    return await connect(
        scheme,
        host,
        port,
        NO_TLS,
        receive_buffer=receive_buffer,
        timeout_s=timeout_s,
        deadline=deadline,
        is_literal=host != "name.example",
    )


def peer(connection):
    return connection._transport.get_extra_info("peername")


async def test_an_address_that_refuses_gives_way_to_the_next(addresses):
    with listening() as port:
        addresses += [("127.0.0.1", 1), ("127.0.0.1", port)]
        connection = await opened()
        assert peer(connection) == ("127.0.0.1", port)
        await connection.aclose()


async def test_an_address_that_does_not_answer_gives_way_to_the_next(addresses, monkeypatch):
    loop = asyncio.get_running_loop()
    reach = loop.sock_connect
    closed = []

    async def sock_connect(sock, address):
        if address[1] == 1:
            try:
                await asyncio.sleep(3600)
            finally:
                closed.append(address)
        await reach(sock, address)

    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    with listening() as port:
        addresses += [("127.0.0.1", 1), ("127.0.0.1", port)]
        connection = await opened()
        assert peer(connection) == ("127.0.0.1", port)
        await asyncio.sleep(0)
        assert closed == [("127.0.0.1", 1)]
        await connection.aclose()


async def test_of_two_that_answer_one_is_kept_and_the_other_closed(addresses, monkeypatch):
    loop = asyncio.get_running_loop()
    reach = loop.sock_connect
    both = asyncio.Event()
    sockets = []

    async def sock_connect(sock, address):
        await reach(sock, address)
        sockets.append(sock)
        if len(sockets) == 2:
            both.set()
        await both.wait()

    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    with listening() as one, listening() as other:
        addresses += [("127.0.0.1", one), ("127.0.0.1", other)]
        connection = await opened()
        for _ in range(10):
            await asyncio.sleep(0)
        assert sorted(sock.fileno() >= 0 for sock in sockets) == [False, True]
        await connection.aclose()


async def test_when_all_addresses_refuse_each_refusal_is_told(addresses):
    addresses += [("127.0.0.1", 1), ("127.0.0.1", 2)]
    with pytest.raises(ExceptionGroup) as caught:
        await opened()
    assert [type(error) for error in caught.value.exceptions] == [ConnectionRefusedError] * 2


async def test_one_address_that_refuses_is_that_error(addresses):
    addresses += [("127.0.0.1", 1)]
    with pytest.raises(ConnectionRefusedError):
        await opened()


@pytest.mark.slow
@pytest.mark.parametrize("is_deadline", [True, False])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_time_to_connect_holds_and_nothing_is_left(addresses, monkeypatch, scheme, is_deadline):
    if scheme == "http":

        async def sock_connect(sock, address):
            await asyncio.sleep(3600)

        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", sock_connect)
    with listening() as port, warnings.catch_warnings():
        warnings.simplefilter("error")
        addresses += [("127.0.0.1", port), ("127.0.0.1", port)]
        before = asyncio.all_tasks()
        deadline = asyncio.get_running_loop().time() + 0.3 if is_deadline else None
        with pytest.raises(DeadlineExpiredError if is_deadline else ConnectTimeout):
            await opened(30 if is_deadline else 0.3, scheme, deadline=deadline)
        for _ in range(5):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == before
        gc.collect()


async def test_what_is_written_after_the_other_side_has_left_is_no_error(addresses):
    with listening() as port:
        addresses += [("127.0.0.1", port)]
        connection = await opened()
    await asyncio.sleep(0.05)
    connection.send(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(TruncatedResponseError):
        await connection.read_head(soon())
    assert not connection.is_idle
    await connection.aclose()


async def test_connections_that_share_a_receive_buffer_do_not_mix_what_arrives(addresses):
    """Pieces of two responses arrive in turn, each larger than the buffer that they are read into."""
    receive_buffer = memoryview(bytearray(64))
    bodies = [bytes([letter]) * 5_000 for letter in b"ab"]
    met_writers = asyncio.Queue()

    async def met(reader, writer):
        met_writers.put_nowait(writer)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n")

    async with await asyncio.start_server(met, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        connections, writers = [], []
        for _ in bodies:
            connections.append(
                await connect(
                    "http",
                    *address,
                    NO_TLS,
                    receive_buffer=receive_buffer,
                    timeout_s=PATIENCE_S,
                    deadline=soon(),
                    is_literal=True,
                )
            )
            writers.append(await met_writers.get())
        for connection in connections:
            assert (await connection.read_head(soon())).status == 200
        for start in range(0, 5_000, 100):
            for writer, body in zip(writers, bodies, strict=True):
                writer.write(body[start : start + 100])
            await asyncio.sleep(0)
        for connection, body in zip(connections, bodies, strict=True):
            came = b""
            while piece := await connection.read_body(soon()):
                came += piece
            assert came == body
            await connection.aclose()
        for writer in writers:
            writer.close()


async def test_what_came_in_the_clear_is_no_answer_over_tls():
    """Anybody in between could have sent it."""

    async def forges(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(forges, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        connection = await connect(
            "http",
            *address,
            NO_TLS,
            receive_buffer=memoryview(bytearray(64)),
            timeout_s=PATIENCE_S,
            deadline=soon(),
            is_literal=True,
        )
        await connection._wait_for_more(soon())
        with pytest.raises(ssl.SSLError, match="before the handshake"):
            async with asyncio.timeout(PATIENCE_S):
                await connection.start_tls(NO_TLS, "127.0.0.1")
        await connection.aclose()
