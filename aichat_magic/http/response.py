"""The reader of HTTP/1.1 responses, over httptools (llhttp, the parser of Node); it knows no sockets.

llhttp checks the syntax. The reader also refuses what llhttp accepts and this package does not: heads above 64 KiB or
100 headers, other protocols and versions, transfer codings other than chunked. And it finds what llhttp does not
report: the end of a body that ends with the connection, and a second response in the same read.

Sources: RFC 9112; httptools 0.9 and llhttp 9.3, by experiment. The tests compare the reader with h11.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Node accepts 16 KiB, curl 300 KiB. The bound holds for everything except the body: trailers and chunk lines, too.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
# Bytes of framing that each byte of a body allows for: a body of one-byte chunks has five.
_FRAMING_PER_BYTE = 16

_OPENING = b"HTTP/1."
_CONTROL = re.compile(rb"[\0-\x08\x0a-\x1f\x7f]")


class InvalidResponseError(Exception):
    """The response is not HTTP/1.1, or it is not clear where it ends."""


class TruncatedResponseError(Exception):
    """The server closed the connection during a response."""


class NoResponseError(TruncatedResponseError):
    """The server closed the connection before a response began."""


class ResponseHead(NamedTuple):
    """Status and headers of a response: names in lower case, several of one name joined by commas."""

    status: int
    headers: dict[str, str]


class ResponseReader:
    """A reader of the responses on one connection.

    `feed` it the bytes that arrive, and `close` it when no more will. Call `read_head`, then `read_body` until the body
    ends, then `reset` for the next response. The parser calls the methods `on_...` during `feed`.
    """

    __slots__ = (
        "_body_bytes",
        "_errors",
        "_framing_left",
        "_has_surplus",
        "_header_bytes",
        "_header_count",
        "_headers",
        "_is_begun",
        "_is_closed",
        "_is_complete",
        "_is_open_ended",
        "_keeps_alive",
        "_opening",
        "_parser",
        "_pieces",
        "_problem",
        "_status",
    )

    def __init__(self) -> None:
        """Create a reader. The first one of a process loads httptools."""
        import httptools

        self._parser = httptools.HttpResponseParser(self)
        self._errors = (httptools.HttpParserError, httptools.HttpParserUpgrade)
        self._is_closed = False
        self.reset()

    def reset(self) -> None:
        """Prepare for the next response."""
        self._opening = b""  # the first bytes that arrived
        self._is_begun = False  # the response, or an interim one before it
        self._status = 0  # of the response, once its head is read; not of an interim one
        self._headers: dict[str, str] = {}
        self._header_count = self._header_bytes = 0
        self._pieces: list[bytes] = []
        self._body_bytes = 0  # in the current call of `feed`
        self._framing_left = MAX_HEAD_BYTES  # how many bytes more may be something else than a body
        self._problem = ""
        self._has_surplus = False  # bytes came after the response
        self._is_open_ended = False  # the body ends with the connection
        self._is_complete = False
        self._keeps_alive = False

    @property
    def is_reusable(self) -> bool:
        """Return whether the response was read to its end and another request can follow on this connection."""
        return self._is_complete and self._keeps_alive and not (self._pieces or self._has_surplus or self._is_closed)

    @property
    def is_clean(self) -> bool:
        """Return whether nothing has arrived since the last `reset`, and the connection is open."""
        return not self._opening and not self._is_closed

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes. Errors are raised by `read_head` and `read_body`, after what arrived before them."""
        if self._is_complete or self._problem:
            self._has_surplus = True
            return
        if len(self._opening) < len(_OPENING):
            # llhttp also accepts RTSP and ICE, and skips blank lines.
            self._opening = (self._opening + bytes(data[: len(_OPENING)]))[: len(_OPENING)]
            if not _OPENING.startswith(self._opening):
                self._problem = "it does not begin like HTTP/1"
                return
        self._body_bytes = 0
        try:
            self._parser.feed_data(data)
        except self._errors:
            if self._is_complete:
                self._has_surplus = True
            else:
                self._problem = self._problem or "it is malformed"
        self._framing_left += (1 + _FRAMING_PER_BYTE) * self._body_bytes - len(data)
        if self._framing_left > MAX_HEAD_BYTES:
            self._framing_left = MAX_HEAD_BYTES
        elif self._framing_left < 0 and not self._is_complete:
            self._problem = "it has too much that is not its body"

    def close(self) -> None:
        """Note that no more bytes will arrive."""
        self._is_closed = True

    def read_head(self) -> ResponseHead | None:
        """Return status and headers; None when they have not arrived yet.

        Raises:
            InvalidResponseError: The response is not HTTP/1.1, or its head is too long.
            TruncatedResponseError: The connection was closed before the head was complete.
        """
        if self._status:
            return ResponseHead(self._status, self._headers)
        if self._problem:
            raise InvalidResponseError(self._problem)
        if self._is_closed:
            raise TruncatedResponseError if self._is_begun else NoResponseError
        return None

    def read_body(self) -> bytes | None:
        """Return the next bytes of the body: empty at its end, None when more must arrive first.

        Raises:
            InvalidResponseError: The body is malformed.
            TruncatedResponseError: The connection was closed before the body was complete.
        """
        if pieces := self._pieces:
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._pieces = []
            return piece
        if self._is_complete:
            return b""
        if self._problem:
            raise InvalidResponseError(self._problem)
        if not self._is_closed:
            return None
        if not self._is_open_ended:
            raise TruncatedResponseError
        self._is_complete = True
        return b""

    # --- called by the parser

    def on_message_begin(self) -> None:
        """Begin a response, or refuse a second one: no request has asked for it."""
        if self._is_complete:
            self._has_surplus = True
            raise InvalidResponseError
        self._is_begun = True
        self._headers = {}
        self._header_count = self._header_bytes = 0

    def on_status(self, reason: bytes) -> None:
        """Refuse a status line that contains control characters."""
        if reason != b"OK" and _CONTROL.search(reason):
            self._refuse("its status line is malformed")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. Trailers are counted, but not kept."""
        self._header_count += 1
        self._header_bytes += len(name) + len(value)
        if self._header_count > MAX_HEADERS or self._header_bytes > MAX_HEAD_BYTES:
            self._refuse("it has too many headers")
        if self._status:
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """Determine where the body ends, and refuse a head that this package does not accept."""
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if version not in ("1.1", "1.0") or status < 100:
            self._refuse("its version of HTTP is not supported")
        if status == 101:
            self._refuse("it changes the protocol")
        if status < 200:
            return  # 100 Continue, 103 Early Hints: the response is still to come
        coding = self._headers.get("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":
            self._refuse("its transfer coding was not asked for")
        self._is_open_ended = coding is None and "content-length" not in self._headers and status not in (204, 304)
        self._keeps_alive = version == "1.1"
        self._header_count = self._header_bytes = 0
        self._status = status

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        self._body_bytes += len(data)
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        """End the response. Only now the parser knows whether the connection stays open."""
        if self._status:
            self._is_complete = True
            self._keeps_alive = self._keeps_alive and self._parser.should_keep_alive()
        else:
            self._is_begun = False  # it was an interim response

    def _refuse(self, problem: str) -> None:
        """Stop the parser and keep the reason."""
        self._problem = problem
        raise InvalidResponseError
