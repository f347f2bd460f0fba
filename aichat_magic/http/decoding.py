"""Undo the content codings of a response body, piece by piece.

`decoder_for` reads a Content-Encoding header and returns the decoder for it, or None where there is nothing to undo.
What comes out is what was encoded, byte for byte, or an error: a body is never silently shorter than the one sent.

Sources: RFC 9110, section 8.4 (codings and their order), RFC 1952, section 2.2 (a gzip file is a series of members),
RFC 1950, section 2.2 (what begins a zlib stream).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

# Most bytes of one piece that comes out, and most bytes that are looked at at once: what zlib leaves unread is copied.
_PIECE_BYTES = 64 * 1024
_BITE_BYTES = 8 * 1024
# Nobody encodes more than twice; each further coding multiplies what a small body can grow to.
_MAX_CODINGS = 4
# A stream takes so much more than it may give out, for the headers of many small members and blocks.
_SLACK_BYTES = 64 * 1024

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
    """The encoded body is larger than the decoded one may be."""


class CutOffError(Exception):
    """The body ends inside an encoded stream."""


class Decoder:
    """Undoes one or several codings.

    Feed it the bytes as they come, take all that `feed` yields before the next call, and call `finish` at the end.
    """

    def __init__(self, codings: list[str], max_bytes: int) -> None:
        """Begin with nothing.

        Args:
            codings: ``"gzip"`` or ``"deflate"``, in the order in which they were applied.
            max_bytes: How many bytes the decoded body may have. More than twice as many are not read for it.
        """
        most = 2 * max_bytes + _SLACK_BYTES
        self._stages = [_Gzip(most) if coding == "gzip" else _Deflate(most) for coding in reversed(codings)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the bytes that `data` stands for: at most 64 KiB at a time, never none.

        Raises:
            NotEncodedError: It is not encoded as the header says.
            EncodedTooLargeError: More came than the decoded body may have.
        """
        return self._through(0, data)

    def _through(self, number: int, data: bytes) -> Iterator[bytes]:
        """Yield what `data` becomes in this stage and those after it."""
        if number + 1 == len(self._stages):
            yield from self._stages[number].feed(data)
            return
        for piece in self._stages[number].feed(data):
            yield from self._through(number + 1, piece)

    def finish(self) -> None:
        """Say that nothing more comes.

        Raises:
            CutOffError: More should have come.
        """
        if not all(stage.is_at_end for stage in self._stages):
            raise CutOffError


def decoder_for(content_encoding: str, max_bytes: int) -> Decoder | None:
    """Return the decoder for a Content-Encoding header; None when nothing is to be undone.

    Args:
        content_encoding: The header's value: codings in the order in which they were applied, or nothing.
        max_bytes: How many bytes the decoded body may have.

    Raises:
        UnknownCodingError: It names a coding other than gzip, x-gzip, deflate and identity, or too many.
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
    """One coding of a body: streams of zlib's, one after the other."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._inflate: zlib._Decompress | None = None  # None between two streams

    @property
    def is_at_end(self) -> bool:
        """Whether the body may end here. One without a byte has no stream, and is whole."""
        return self._inflate is None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` stands for."""
        self._left -= len(data)
        if self._left < 0:
            raise EncodedTooLargeError
        for start in range(0, len(data), _BITE_BYTES):
            yield from self._bite(data[start : start + _BITE_BYTES])

    def _bite(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inflate is None:
                data = self._begin(data)
                if self._inflate is None:
                    return
            inflate = self._inflate
            # zlib can hold back what it has read, so that it is asked again as long as pieces come out full.
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
        """Begin the next stream if one can begin here, and return what belongs to it."""
        raise NotImplementedError


class _Gzip(_Stream):
    """Members of gzip, any number of them, and zeros between and after them (gzip's own tools pad with zeros)."""

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
    """One stream of zlib's, or one of deflate without its frame, as some servers send it; nothing after it."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._held = b""
        self._has_begun = False

    @property
    def is_at_end(self) -> bool:
        """Whether the body may end here."""
        return super().is_at_end and not self._held

    def _begin(self, data: bytes) -> bytes:
        if self._has_begun:
            raise NotEncodedError
        data = self._held + data
        # The first two bytes of zlib's frame are a multiple of 31 and name the method 8. Without the frame they would
        # be a block whose padding bits are set, which nobody writes.
        if len(data) < 2:
            self._held = data
            return b""
        self._held = b""
        self._has_begun = True
        is_framed = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
        self._inflate = zlib.decompressobj(_ZLIB_BITS if is_framed else _RAW_BITS)
        return data
