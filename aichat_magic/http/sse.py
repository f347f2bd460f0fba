"""Server-sent events, parsed from bytes as they arrive."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import MalformedReplyError, TooLargeError

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """An event of a stream: its name (empty when the server gives none) and its data."""

    event: str
    data: str


class EventParser:
    """A parser that takes bytes in pieces of any size and returns each event as soon as its blank line has arrived.

    Lines end at CR, LF or CRLF and nowhere else, because a JSON string may contain U+2028 and U+0085. Text that is not
    UTF-8 is an error; replacing characters would change the reply without anybody noticing.

    Source: HTML Living Standard, section 9.2.6 "Interpreting an event stream" (read 2026-11).
    """

    def __init__(self, provider: str = "", *, max_event_bytes: int = 8 * 2**20) -> None:
        """Create a parser for one stream.

        Args:
            provider: Name of the provider, for errors.
            max_event_bytes: Largest event, in bytes, without line ends.
        """
        self._provider = provider
        self._max_event_bytes = max_event_bytes
        self._line: list[bytes] = []  # pieces of the unfinished line
        self._data: list[bytes] = []  # the data lines of the unfinished event
        self._event = b""
        self._size = 0
        self._is_first_line = True
        self._follows_cr = False

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """Take the next bytes.

        Args:
            piece: Bytes as they arrived.

        Returns:
            The events that they complete, in order.

        Raises:
            MalformedReplyError: An event is not UTF-8.
            TooLargeError: An event is larger than `max_event_bytes`.
        """
        if not piece:
            return []
        # Skip the LF of a CRLF that was split between two pieces.
        start = 1 if self._follows_cr and piece.startswith(b"\n") else 0
        self._follows_cr = piece.endswith(b"\r")
        events: list[ServerSentEvent] = []
        for line in piece[start:].splitlines(keepends=True):  # of bytes: at CR, LF and CRLF only
            content = line.rstrip(b"\r\n")
            self._size += len(content)
            if self._size > self._max_event_bytes:
                raise TooLargeError(
                    f"One event of the stream is larger than {self._max_event_bytes} bytes.",
                    provider=self._provider,
                )
            self._line.append(content)
            if len(content) < len(line) and (event := self._end_line()):
                events.append(event)
        return events

    def finish(self) -> list[ServerSentEvent]:
        """Return the last event of a server that sends no blank line after it.

        Call this only for a stream that is known to be complete; what is left of a truncated one is half an event.

        Raises:
            MalformedReplyError: The event is not UTF-8.
        """
        last = [self._end_line()] if self._line else []
        return [event for event in (*last, self._dispatch()) if event]

    def _end_line(self) -> ServerSentEvent | None:
        """Process a complete line. Return the event that it ends, if it is blank and ends one."""
        line = b"".join(self._line)
        self._line.clear()
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value
        else:
            self._size -= len(line)  # a comment, or a field that nothing here needs
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        """Return the complete event, if it has data."""
        data, event = self._data, self._event
        self._data, self._event, self._size = [], b"", 0
        if not data:
            return None
        try:
            return ServerSentEvent(event.decode(), b"\n".join(data).decode())
        except UnicodeDecodeError:
            pass
        raise MalformedReplyError("The stream holds text that is not UTF-8.", provider=self._provider)
