"""Decoders for the content codings of a response body, which work piece by piece.

`decoder_for` reads a Content-Encoding header and returns the decoder for it, or None when there is nothing to decode.
The decoded body is exactly what was encoded, or an error is raised: a body is never silently cut short.

Sources: RFC 9110, section 8.4 (codings and their order), RFC 1952, section 2.2 (a gzip file is a series of members),
RFC 1950, section 2.2 (how a zlib stream begins).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

# Largest piece of output, and of input given to zlib at once: each call of zlib copies the input that it leaves unread.
_PIECE_BYTES = 64 * 1024
_INPUT_BYTES = 8 * 1024
# Nobody encodes more than twice, and each further coding multiplies the size that a small body can grow to.
_MAX_CODINGS = 4
# How much larger than its output the input of a stream may be, for the headers of many small members and blocks.
_OVERHEAD_BYTES = 64 * 1024

_ZLIB_BITS = 15
_GZIP_BITS = 31
_RAW_BITS = -15


class UnknownCodingError(Exception):
    """The header names a coding that this module does not know.

    Attributes:
        coding: Its name, as the server sent it.
    """

    def __init__(self, coding: str) -> None:
        """Keep the name of the coding."""
        super().__init__(coding)
        self.coding = coding


class NotEncodedError(Exception):
    """The body is not encoded as its header says, or something follows its end."""


class EncodedTooLargeError(Exception):
    """The encoded body is larger than any body within the size limit."""


class TruncatedEncodingError(Exception):
    """The body ends inside an encoded stream."""


class Decoder:
    """A decoder of one or several codings.

    Feed it bytes as they arrive, take all that `feed` yields before the next call, and call `finish` at the end.
    """

    def __init__(self, codings: list[str], max_bytes: int) -> None:
        """Create a decoder.

        Args:
            codings: ``"gzip"`` or ``"deflate"``, in the order in which they were applied.
            max_bytes: Size limit of the decoded body, in bytes. At most twice as many encoded bytes, plus 64 KiB, are
                read.
        """
        most = 2 * max_bytes + _OVERHEAD_BYTES
        self._stages = [_Gzip(most) if coding == "gzip" else _Deflate(most) for coding in reversed(codings)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes, in pieces of 1 byte to 64 KiB.

        Raises:
            NotEncodedError: The data is not encoded as the header says.
            EncodedTooLargeError: The encoded body is larger than any body within the size limit.
        """
        return self._decode_from(0, data)

    def _decode_from(self, number: int, data: bytes) -> Iterator[bytes]:
        """Yield the data, decoded by the stage of this number and all after it."""
        if number + 1 == len(self._stages):
            yield from self._stages[number].feed(data)
            return
        for piece in self._stages[number].feed(data):
            yield from self._decode_from(number + 1, piece)

    def finish(self) -> None:
        """Check that the body is complete.

        Raises:
            TruncatedEncodingError: The body ends inside an encoded stream.
        """
        if not all(stage.is_at_end for stage in self._stages):
            raise TruncatedEncodingError


def decoder_for(content_encoding: str, max_bytes: int) -> Decoder | None:
    """Return the decoder for a Content-Encoding header; None when there is nothing to decode.

    Args:
        content_encoding: Value of the header: codings in the order in which they were applied; may be empty.
        max_bytes: Size limit of the decoded body, in bytes.

    Raises:
        UnknownCodingError: The header names a coding other than gzip, x-gzip, deflate and identity, or more than 4.
    """
    codings = []
    for word in content_encoding.split(","):
        coding = word.strip(" \t").lower()
        if coding in ("gzip", "x-gzip", "deflate"):
            codings.append(coding.removeprefix("x-"))
        elif coding not in ("", "identity"):
            raise UnknownCodingError(word.strip(" \t"))
    if len(codings) > _MAX_CODINGS:
        raise UnknownCodingError(content_encoding)
    return Decoder(codings, max_bytes) if codings else None


class _Stream:
    """The decoder of one coding: a series of zlib streams."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._inflate: zlib._Decompress | None = None  # None between two streams

    @property
    def is_at_end(self) -> bool:
        """Return whether the body may end here. An empty body has no stream, and is complete."""
        return self._inflate is None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes."""
        self._left -= len(data)
        if self._left < 0:
            raise EncodedTooLargeError
        for start in range(0, len(data), _INPUT_BYTES):
            yield from self._decode(data[start : start + _INPUT_BYTES])

    def _decode(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inflate is None:
                data = self._begin(data)
                if self._inflate is None:
                    return
            inflate = self._inflate
            # zlib can hold back output for input that it has read, so ask again as long as it returns full pieces.
            while True:
                try:
                    piece = inflate.decompress(data, _PIECE_BYTES)
                except zlib.error:
                    raise NotEncodedError from None
                if piece:
                    yield piece
                data = inflate.unconsumed_tail
                if inflate.eof:
                    data = inflate.unused_data
                    self._inflate = None
                    break
                if not data and len(piece) < _PIECE_BYTES:
                    return

    def _begin(self, data: bytes) -> bytes:
        """Begin the next stream if one can begin here, and return the data that belongs to it."""
        raise NotImplementedError


class _Gzip(_Stream):
    """The gzip decoder: any number of members, with zeros between and after them (gzip's own tools pad with zeros)."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._has_begun = False

    def _begin(self, data: bytes) -> bytes:
        if self._has_begun:
            data = data.lstrip(b"\0")
        if data:
            self._has_begun = True
            self._inflate = zlib.decompressobj(_GZIP_BITS)
        return data


class _Deflate(_Stream):
    """The deflate decoder: one zlib stream, or raw deflate as some servers send it, and nothing after it."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._held = b""
        self._has_begun = False

    @property
    def is_at_end(self) -> bool:
        """Return whether the body may end here."""
        return super().is_at_end and not self._held

    def _begin(self, data: bytes) -> bytes:
        if self._has_begun:
            raise NotEncodedError
        data = self._held + data
        # The two bytes of a zlib header are a multiple of 31 and name the method 8. As raw deflate they would be a
        # block whose padding bits are set, which no compressor writes.
        if len(data) < 2:
            self._held = data
            return b""
        self._held = b""
        self._has_begun = True
        has_header = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
        self._inflate = zlib.decompressobj(_ZLIB_BITS if has_header else _RAW_BITS)
        return data
