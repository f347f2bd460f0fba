"""Read HTTP/1.1 responses with httptools (llhttp, the parser of Node), within bounds of our own; no sockets here.

llhttp checks the syntax. What it lets pass and this package does not take is refused here: heads above 64 KiB or 100
headers, other protocols and versions, transfer codings other than chunked. It does not tell the end of a body that ends
with the connection, nor that a second response follows in the same read; both are found here.

Sources: RFC 9112; httptools 0.9 and llhttp 9.3, by experiment. The tests hold the reader against h11.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# As much as Node takes is 16 KiB, curl 300 KiB. It bounds whatever is no body, trailers and the lines of chunks, too.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
# Each byte of a body pays for so many others: a body of one-byte chunks has five.
_FRAMING_PER_BYTE = 16

_OPENING = b"HTTP/1."
_CONTROL = re.compile(rb"[\0-\x08\x0a-\x1f\x7f]")


class InvalidResponseError(Exception):
    """The response is no HTTP/1.1, or leaves open where it ends."""


class TruncatedResponseError(Exception):
    """The other side closed the connection inside a response."""


class NoResponseError(TruncatedResponseError):
    """The other side closed the connection before a response began."""


class ResponseHead(NamedTuple):
    """Status and headers of a response: names in lower case, several of one name joined by commas."""

    status: int
    headers: dict[str, str]


class ResponseReader:
    """Reads one response after the other from the bytes of one connection.

    Feed it what arrives, `close` it when nothing more will; ask for the `head`, then for `piece` after `piece`; `reset`
    it for the next response. The methods `on_...` are called by the parser, inside `feed`.
    """

    __slots__ = (
        "_body_bytes",
        "_errors",
        "_headers",
        "_is_begun",
        "_is_closed",
        "_is_kept",
        "_is_open_ended",
        "_is_whole",
        "_line_bytes",
        "_lines",
        "_opening",
        "_parser",
        "_pieces",
        "_problem",
        "_spare",
        "_status",
        "_surplus",
    )

    def __init__(self) -> None:
        """Begin with nothing. The first reader of a process loads httptools."""
        import httptools

        self._parser = httptools.HttpResponseParser(self)
        self._errors = (httptools.HttpParserError, httptools.HttpParserUpgrade)
        self._is_closed = False
        self.reset()

    def reset(self) -> None:
        """Forget the last response; what follows is the next one."""
        self._opening = b""  # the first bytes that came
        self._is_begun = False  # the response, or an interim one before it
        self._status = 0  # of the response, once its head is there; not of an interim one
        self._headers: dict[str, str] = {}
        self._lines = self._line_bytes = 0
        self._pieces: list[bytes] = []
        self._body_bytes = 0  # in the feed under way
        self._spare = MAX_HEAD_BYTES  # how many bytes more may be something else than a body
        self._problem = ""
        self._surplus = False
        self._is_open_ended = False  # the body ends with the connection
        self._is_whole = False
        self._is_kept = False

    @property
    def is_whole(self) -> bool:
        """Whether the response was read to its end."""
        return self._is_whole and not self._pieces

    @property
    def is_reusable(self) -> bool:
        """Whether another request can follow on this connection."""
        return self._is_whole and self._is_kept and not (self._pieces or self._surplus or self._is_closed)

    @property
    def is_clean(self) -> bool:
        """Whether nothing came that no request has asked for."""
        return not self._opening and not self._is_closed

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes as they came. What is wrong with them is raised by `head` and `piece`, after what came before."""
        if self._is_whole or self._problem:
            self._surplus = True
            return
        if len(self._opening) < len(_OPENING):
            # llhttp reads RTSP and ICE, too, and passes over blank lines.
            self._opening = (self._opening + bytes(data[: len(_OPENING)]))[: len(_OPENING)]
            if not _OPENING.startswith(self._opening):
                self._problem = "it does not begin like HTTP/1"
                return
        self._body_bytes = 0
        try:
            self._parser.feed_data(data)
        except self._errors:
            if self._is_whole:
                self._surplus = True
            else:
                self._problem = self._problem or "it is malformed"
        self._spare += (1 + _FRAMING_PER_BYTE) * self._body_bytes - len(data)
        if self._spare > MAX_HEAD_BYTES:
            self._spare = MAX_HEAD_BYTES
        elif self._spare < 0 and not self._is_whole:
            self._problem = "there is no end to what is not its body"

    def close(self) -> None:
        """Say that nothing more will come."""
        self._is_closed = True

    def head(self) -> ResponseHead | None:
        """Return status and headers; None when they have not come yet.

        Raises:
            InvalidResponseError: It is no HTTP/1.1, or too long.
            TruncatedResponseError: It broke off.
        """
        if self._status:
            return ResponseHead(self._status, self._headers)
        if self._problem:
            raise InvalidResponseError(self._problem)
        if self._is_closed:
            raise TruncatedResponseError if self._is_begun else NoResponseError
        return None

    def piece(self) -> bytes | None:
        """Return the next bytes of the body: empty at its end, None when more must come first.

        Raises:
            InvalidResponseError: A chunk is malformed.
            TruncatedResponseError: The body broke off.
        """
        if pieces := self._pieces:
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._pieces = []
            return piece
        if self._is_whole:
            return b""
        if self._problem:
            raise InvalidResponseError(self._problem)
        if not self._is_closed:
            return None
        if not self._is_open_ended:
            raise TruncatedResponseError
        self._is_whole = True
        return b""

    # --- the parser's side

    def on_message_begin(self) -> None:
        """Begin a response, or refuse one that nobody has asked for."""
        if self._is_whole:
            self._surplus = True
            raise InvalidResponseError
        self._is_begun = True
        self._headers = {}
        self._lines = self._line_bytes = 0

    def on_status(self, reason: bytes) -> None:
        """Refuse a line of status that no text is."""
        if reason != b"OK" and _CONTROL.search(reason):
            self._refuse("its status line is malformed")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. Those after the body are counted, and nobody reads them."""
        self._lines += 1
        self._line_bytes += len(name) + len(value)
        if self._lines > MAX_HEADERS or self._line_bytes > MAX_HEAD_BYTES:
            self._refuse("it has too many headers")
        if self._status:
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """Find out where the body ends, and refuse what is not plain about it."""
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if version not in ("1.1", "1.0") or status < 100:
            self._refuse("it is another version")
        if status == 101:
            self._refuse("it changes the protocol")
        if status < 200:
            return  # 100 Continue, 103 Early Hints: the response is still to come
        coding = self._headers.get("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":
            self._refuse("it has a coding that was not asked for")
        self._is_open_ended = coding is None and "content-length" not in self._headers and status not in (204, 304)
        self._is_kept = version == "1.1"
        self._lines = self._line_bytes = 0
        self._status = status

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        self._body_bytes += len(data)
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        """End the response. Only here the parser knows whether the connection stays open."""
        if self._status:
            self._is_whole = True
            self._is_kept = self._is_kept and self._parser.should_keep_alive()
        else:
            self._is_begun = False  # it was an interim one

    def _refuse(self, problem: str) -> None:
        """Stop the parser."""
        self._problem = problem
        raise InvalidResponseError
