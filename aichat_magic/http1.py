"""HTTP/1.1 as a client reads and writes it: bytes in, bytes out, no sockets.

One request at a time, whole before it is sent, so that there is little to keep: `request_bytes` words the request,
`ResponseReader` takes the bytes that come back and gives the head and the pieces of the body. What it cannot be sure of
it refuses: where a body ends decides what belongs to the next answer.

Source: RFC 9112. The tests hold it against h11, which costs three times as much for an answer of this size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

# As much as h11 and httpcore take for a head, a line of a chunk, or trailers.
MAX_HEAD_BYTES = 100 * 1024
_MAX_CHUNK_LINE_BYTES = 4096
# Nobody reads trailers, so that there is no use in taking many.
_MAX_TRAILER_BYTES = 8192

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# Spaces before the colon and lines that go on in the next one are refused: they are read in two ways.
_TEXT = rb"[^\0-\x08\n-\x1f\x7f]*"
_HEAD = re.compile(
    rb"HTTP/1\.([01]) (\d\d\d)(?: " + _TEXT + rb")?\r?\n((?:" + _TOKEN + rb":" + _TEXT + rb"\r?\n)*)\r?\n"
)
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;" + _TEXT + rb")?\r\n")
_LENGTH = re.compile(rb"\d{1,15}")

Headers = list[tuple[bytes, bytes]]


class NotHttpError(Exception):
    """What came is no HTTP/1.1, or leaves open where it ends."""


class CutShortError(Exception):
    """The other side closed the connection inside an answer."""


class NoAnswerError(CutShortError):
    """The other side closed the connection before an answer began."""


class Head(NamedTuple):
    """Status and headers of a response, names in lower case."""

    status: int
    headers: Headers


def request_bytes(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """A whole request.

    Args:
        method: ``b"POST"``.
        target: Path and query.
        headers: All of them, ``host`` and ``content-length`` too; the caller has checked that none holds a line end.
        body: The body, or nothing.
    """
    lines = [method + b" " + target + b" HTTP/1.1", *(name + b": " + value for name, value in headers), b"", body]
    return b"\r\n".join(lines)


class ResponseReader:
    """Reads one response after the other from the bytes of one connection.

    Feed it what arrives, `close` it when nothing more will; ask for the `head`, then for `piece` after `piece`; `reset`
    it for the next response.
    """

    __slots__ = (
        "_data", "_is_chunked", "_is_closed", "_is_kept", "_is_open_ended", "_is_whole", "_left", "_searched",
        "_trailer_bytes",
    )  # fmt: skip

    def __init__(self) -> None:
        """Begin with nothing."""
        self._data = b""
        self._is_closed = False
        self.reset()

    def reset(self) -> None:
        """Forget the last response; what follows is the next one."""
        self._searched = 0
        self._left = 0  # bytes until the end of the body, or of the chunk
        self._is_chunked = False
        self._is_open_ended = False  # the body ends with the connection
        self._is_whole = False
        self._is_kept = False
        self._trailer_bytes: int | None = None  # since the last chunk; None before it

    @property
    def is_whole(self) -> bool:
        """Whether the response was read to its end."""
        return self._is_whole

    @property
    def is_reusable(self) -> bool:
        """Whether another request can follow on this connection."""
        return self._is_whole and self._is_kept and not self._data and not self._is_closed

    @property
    def is_clean(self) -> bool:
        """Whether nothing came that no request has asked for."""
        return not self._data and not self._is_closed

    def feed(self, data: bytes) -> None:
        """Take bytes as they came."""
        self._data = self._data + data if self._data else data

    def close(self) -> None:
        """Nothing more will come."""
        self._is_closed = True

    def head(self) -> Head | None:
        """Status and headers; None when they have not come yet.

        Raises:
            NotHttpError: It is no HTTP/1.1, or too long.
            CutShortError: It broke off.
        """
        while data := self._data:
            end = _END_OF_HEAD.search(data, max(0, self._searched - 2))
            if end is None:
                if len(data) > MAX_HEAD_BYTES or not b"HTTP/1.".startswith(data[:7]):
                    raise NotHttpError("the head is too long or is none")
                if self._is_closed:
                    raise CutShortError
                self._searched = len(data)
                return None
            found = _HEAD.fullmatch(data, 0, end.end())
            if found is None or end.end() > MAX_HEAD_BYTES:
                raise NotHttpError("the head is malformed")
            self._data, self._searched = data[end.end() :], 0
            version, status, lines = found[1], int(found[2]), found[3]
            if status == 101 or status < 100:
                raise NotHttpError("it changes the protocol")
            if status < 200:
                continue  # 100 Continue, 103 Early Hints: the answer is still to come
            headers: Headers = []
            for line in lines.splitlines():
                name, _, value = line.partition(b":")
                headers.append((name.lower(), value.strip(b" \t")))
            self._frame(version, status, headers)
            return Head(status, headers)
        if self._is_closed:
            raise NoAnswerError
        return None

    def _frame(self, version: bytes, status: int, headers: Headers) -> None:
        """Find out where the body ends."""
        length: bytes | None = None
        coding: bytes | None = None
        connection = b""
        for name, value in headers:
            if name == b"content-length":
                # "5, 5" and two equal lines are one length; all else is two.
                for one in value.split(b","):
                    if not _LENGTH.fullmatch(one := one.strip(b" \t")) or length not in (None, one):
                        raise NotHttpError("it has no length or two")
                    length = one
            elif name == b"transfer-encoding":
                if coding is not None or value.lower() != b"chunked":
                    raise NotHttpError("it has a coding that was not asked for")
                coding = value
            elif name == b"connection":
                connection += b"," + value.lower()
        is_ending = b"close" in connection and b"close" in [word.strip() for word in connection.split(b",")]
        # With both a length and chunks somebody on the way may read it otherwise: not a connection to go on with.
        self._is_kept = version == b"1" and not is_ending and (length is None or coding is None)
        if status in (204, 304):
            self._is_whole = True
        elif coding is not None:
            self._is_chunked = True
        elif length is not None:
            self._left = int(length)
            self._is_whole = self._left == 0
        else:
            self._is_open_ended = True
            self._is_kept = False

    def piece(self) -> bytes | None:
        """The next bytes of the body: empty at its end, None when more must come first.

        Raises:
            NotHttpError: A chunk is malformed.
            CutShortError: The body broke off.
        """
        if self._is_whole:
            return b""
        piece = self._from_chunks() if self._is_chunked else self._from_length()
        if piece or self._is_whole:
            return piece
        if not self._is_closed:
            return None
        if not self._is_open_ended:
            raise CutShortError
        self._is_whole = True
        return b""

    def _from_length(self) -> bytes:
        data = self._data
        if self._is_open_ended:
            self._data = b""
            return data
        piece, self._data = (data, b"") if len(data) <= self._left else (data[: self._left], data[self._left :])
        self._left -= len(piece)
        self._is_whole = self._left == 0
        return piece

    def _from_chunks(self) -> bytes:
        """The bytes of all chunks that are there, joined."""
        data, at = self._data, 0
        pieces: list[bytes] = []
        while self._trailer_bytes is None:
            if self._left > 2:  # of a chunk, with the line end after it
                piece = data[at : at + self._left - 2]
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                continue
            if self._left:
                ending = data[at : at + 2]
                if not b"\r\n".startswith(ending):
                    raise NotHttpError("a chunk is longer than it says")
                if len(ending) < 2:
                    break
                at, self._left = at + 2, 0
            line = _CHUNK.match(data, at)
            if line is None:
                if b"\n" in data[at : at + _MAX_CHUNK_LINE_BYTES] or len(data) - at > _MAX_CHUNK_LINE_BYTES:
                    raise NotHttpError("the size of a chunk cannot be read")
                break
            size = int(line[1], 16)
            at, self._left = line.end(), size + 2 if size else 0
            if size == 0:
                self._trailer_bytes = 0
        if self._trailer_bytes is not None:
            at = self._pass_trailers(data, at)
        self._data = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _pass_trailers(self, data: bytes, at: int) -> int:
        """Drop the lines after the last chunk, which nobody reads; return where they end.

        Each line is looked at once, and only so many bytes are: a server must not keep this side busy with them.
        """
        assert self._trailer_bytes is not None
        while not self._is_whole and (end := data.find(b"\n", at)) >= 0:
            self._is_whole = data[at:end] in (b"", b"\r")
            self._trailer_bytes += end + 1 - at
            at = end + 1
        left = 0 if self._is_whole else len(data) - at
        if self._trailer_bytes + left > _MAX_TRAILER_BYTES:
            raise NotHttpError("there is no end to what follows the body")
        return at
