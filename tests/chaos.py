"""A server that answers right, and misbehaves in every way of the list, mixed at random from a seed.

::

    chaos = Chaos(seed=7, elsewhere="http://127.0.0.1:1/")
    with ChatServer(chaos) as server: ...
    chaos.met        # the faults that each request met, in order

What it does to a request follows from the seed, the messages and the attempt, so that a seed does the same again
whatever the order in which requests arrive. A whole reply is `reply_to` its messages.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import itertools
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from servers import (
    Answer,
    Exchange,
    Received,
    bomb,
    chunked,
    drip,
    event_stream,
    hang,
    head,
    payload,
    raw,
    reset,
    sse,
    status,
)

Said = tuple[tuple[str, str], ...]
"""Role and content of messages."""
Made = Callable[[random.Random, str], Answer]
"""A misbehaviour, for the dice and the right reply."""

WORDS = (
    *("naïve", "日本語", "😀", "👩\u200d🚀", "e\u0301", "data: [DONE]", "</script>", "{name}", "\\n", '"', "null"),
    *("\u2028", "\u2029", "\u0085", "\x0b", "\x1c", "\r\n", "\r", "\n\n", "\t", "\x00", "\x1b[31m", "\u202e", "\ufeff"),
    *("one", "two", "three", "a longer piece of plain text", "x" * 3000),
)
LONE = ("\ud83d", "\udc00")
JSON = {"content-type": "application/json"}
STREAM = {"content-type": "text/event-stream"}
CHUNKED = {"transfer-encoding": "chunked"}
WRONG = "This is nobody's reply."
PAGE = b"<!doctype html><html><head><title>Bad gateway</title></head><body>" + b"<p>x</p>" * 500


def said(messages: Iterable[tuple[str, str]]) -> Said:
    """Messages as they arrive: what UTF-8 cannot hold goes out as a question mark."""
    return tuple((role, content.encode("utf-8", "replace").decode()) for role, content in messages)


def reply_to(messages: Said) -> str:
    """The right reply: it follows from all the messages, and no other messages have it."""
    digest = hashlib.sha256(json.dumps(messages).encode()).hexdigest()
    dice = random.Random(digest)
    words = [dice.choice(WORDS) for _ in range(dice.randint(1, 25))]
    if dice.random() < 0.1:
        words.insert(dice.randrange(len(words)), dice.choice(LONE))
    return f"{digest[:16]} {' '.join(words)} {digest[16:24]}"


# What a server sends -------------------------------------------------------------------------------------------------


def dumped(value: Any, dice: random.Random) -> bytes:
    """JSON, its text as it is or escaped."""
    try:
        return json.dumps(value, ensure_ascii=dice.random() < 0.5).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def whole(text: str) -> dict[str, Any]:
    """A reply as one object."""
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}


def body_of(dice: random.Random, text: str) -> bytes:
    return dumped(whole(text), dice)


def cuts(dice: random.Random, length: int, most: int) -> list[int]:
    """Places to cut at, in order, the ends among them."""
    return sorted({0, length, *(dice.randrange(length + 1) for _ in range(dice.randint(0, most)))})


def cut_up(dice: random.Random, whole_: bytes, most: int = 20) -> list[bytes]:
    at = cuts(dice, len(whole_), most)
    return [whole_[a:b] for a, b in itertools.pairwise(at)]


def events_of(dice: random.Random, text: str, *, is_ended: bool = True) -> list[bytes]:
    """A stream of the reply, one event each, in one of the forms that servers and the standard have."""
    at = cuts(dice, len(text), 8)
    deltas = [text[a:b] for a, b in itertools.pairwise(at)]
    end = dice.choice([b"\n", b"\r\n", b"\r"])
    is_odd = dice.random() < 0.5

    def event(data: bytes) -> bytes:
        lines = [b": keep alive", b"id: 1", b"retry: 10", b"event: message"] if is_odd else []
        lines = [line for line in lines if dice.random() < 0.3]
        at = data.find(b": ") + 2
        if is_odd and at > 1 and dice.random() < 0.5:
            lines += [b"data: " + data[:at], b"data:" + data[at:]]
        else:
            lines.append((b"data: " if dice.random() < 0.8 else b"data:") + data)
        return end.join([*lines, b"", b""])

    events = [event(dumped({"choices": [{"index": 0, "delta": {"content": piece}}]}, dice)) for piece in deltas]
    if is_ended:
        ending = dice.choice(["both", "reason", "done"])
        if ending != "done":
            events.append(event(b'{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'))
        if ending != "reason":
            events.append(event(b"[DONE]"))
    if is_odd and dice.random() < 0.5:
        events[0] = b"\xef\xbb\xbf" + events[0]
    return events


def in_pieces(dice: random.Random, headers: Mapping[str, str], content: bytes, *, is_closed: bool = False) -> Answer:
    """A body in chunks of any size with moments between them."""
    pieces = cut_up(dice, content)
    pause_s = dice.choice([0.0, 0.0, 0.001])

    async def play(exchange: Exchange) -> bool:
        await exchange.send(head(200, {**headers, **CHUNKED}))
        for piece in pieces:
            await exchange.send_chunk(piece)
            await asyncio.sleep(pause_s)
        await exchange.send(b"0\r\n\r\n")
        return not is_closed

    return Answer(play)


def framed(content: bytes, headers: Mapping[str, str] = JSON, *, code: int = 200, length: int | None = None) -> bytes:
    """Headers with a Content-Length, and the body."""
    return head(code, {**headers, "content-length": str(len(content) if length is None else length)}) + content


# The ways to answer right --------------------------------------------------------------------------------------------

GOOD: dict[str, tuple[int, Made]] = {
    "plain": (8, lambda dice, text: payload(body_of(dice, text))),
    "pieces": (4, lambda dice, text: in_pieces(dice, JSON, body_of(dice, text))),
    "gzip": (2, lambda dice, text: payload(gzip.compress(body_of(dice, text)), headers={"content-encoding": "gzip"})),
    "BOM": (1, lambda dice, text: payload(b"\xef\xbb\xbf" + body_of(dice, text))),
    "blanks around": (1, lambda dice, text: payload(b"\n\n  " + body_of(dice, text) + b"\r\n")),
    "early hints": (1, lambda dice, text: raw(head(103, {}) + framed(body_of(dice, text)), close=False)),
    "then closes": (2, lambda dice, text: raw(framed(body_of(dice, text)))),
    "then resets": (1, lambda dice, text: reset(framed(body_of(dice, text)))),
    "announces the close": (1, lambda dice, text: raw(framed(body_of(dice, text), {**JSON, "connection": "close"}))),
    "ends with the connection": (1, lambda dice, text: raw(head(200, JSON) + body_of(dice, text))),
    "a second answer": (
        1,
        lambda dice, text: raw(framed(body_of(dice, text)) + framed(body_of(dice, WRONG)), close=False),
    ),
}
GOOD_STREAMS: dict[str, tuple[int, Made]] = {
    "plain": (8, lambda dice, text: event_stream(events_of(dice, text))),
    "pieces": (8, lambda dice, text: in_pieces(dice, STREAM, b"".join(events_of(dice, text)))),
    "then closes": (
        2,
        lambda dice, text: in_pieces(dice, STREAM, b"".join(events_of(dice, text)), is_closed=True),
    ),
    "no stream": (1, lambda dice, text: payload(body_of(dice, text))),
    "ends with the connection": (1, lambda dice, text: raw(head(200, STREAM) + b"".join(events_of(dice, text)))),
}

# The ways to answer wrong --------------------------------------------------------------------------------------------

RETRY_AFTER = ("0.01", "0", "-10", "nan", "inf", "soon", "9" * 400, "Sun, 06 Nov 1994 08:49:37 GMT", "2")


def too_many(dice: random.Random, text: str) -> Answer:
    name = dice.choice(["retry-after", "retry-after", "retry-after-ms"])
    return status(429, headers={name: dice.choice(RETRY_AFTER)} if dice.random() < 0.8 else {})


def part(dice: random.Random, content: bytes) -> bytes:
    """A part of it, not the whole."""
    return content[: dice.randrange(len(content))]


def broken_chunks(dice: random.Random, text: str) -> Answer:
    ending = dice.choice([b"", b"zz\r\n", b"5\r\nab"])
    return raw(head(200, {**JSON, **CHUNKED}) + chunked(body_of(dice, text)) + ending)


def short_gzip(dice: random.Random, text: str) -> Answer:
    content = gzip.compress(body_of(dice, text))
    return payload(content[: -dice.randint(1, len(content) - 1)], headers={"content-encoding": "gzip"})


ODD_HEADS = (
    b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx: \x00\xff\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\n" + b"".join(b"x%d: %d\r\n" % (n, n) for n in range(20_000)) + b"\r\n",
    b"HTTP/1.1 200 OK\r\nx: " + b"x" * 300_000 + b"\r\n\r\n",
    *(b"HTTP/1.1 %d Odd\r\ncontent-length: 0\r\n\r\n" % code for code in (200, 201, 204, 206, 300, 304, 418, 451, 599)),
    b"HTTP/9.9 200 OK\r\n\r\n{}",
    b"HTTP/1.1 abc\r\n\r\n{}",
)
HOSTILE = (
    b"[" * 10_000,
    b'{"choices": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    b'{"choices": [{"message": {"content": "hi"}}], "n": ' + b"9" * 5000 + b"}",
    b'{"choices": [{"message": {"content": "\xff\xfe"}}]}',
    b'{"choices": [{"message": {"content": "hi"}}], "n": NaN}',
    b'{"choices": [{"message": {"content": "hi"}}], "n": 1e999}',
    *(b"", b"null", b"[]", b"{}", b'{"choices": []}', b'{"choices": [7]}', b'{"choices": [{"message": [1]}]}'),
    b'{"error": {"message": "the model is gone"}}',
    b'{"choices": [{"message": {"content": "half"}, "finish_reason": "error"}]}',
)
FAULTS: dict[str, tuple[int, Made]] = {
    "429": (10, too_many),
    "passing status": (8, lambda dice, text: status(dice.choice([408, 409, 425, 500, 502, 503, 504, 529]))),
    "bad request": (1, lambda dice, text: status(dice.choice([400, 413, 422]))),
    "long wait": (1, lambda dice, text: status(429, headers={"retry-after": "300"})),
    "page": (2, lambda dice, text: payload(PAGE, code=dice.choice([200, 502]), headers={"content-type": "text/html"})),
    "reset": (3, lambda dice, text: reset()),
    "hang-up": (3, lambda dice, text: raw(b"")),
    "reset in the headers": (1, lambda dice, text: reset(part(dice, head(200, JSON)))),
    "odd head": (3, lambda dice, text: raw(dice.choice(ODD_HEADS))),
    "no HTTP": (1, lambda dice, text: raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")),
    "redirect": (1, lambda dice, text: status(dice.choice([301, 302, 303, 307, 308]), headers={"location": "{}"})),
    "hang": (1, lambda dice, text: hang()),
    "hostile": (4, lambda dice, text: payload(dice.choice(HOSTILE))),
    "bomb": (1, lambda dice, text: bomb("gzip", megabytes=17)),
    "endless": (1, lambda dice, text: bomb("endless")),
    "no gzip": (1, lambda dice, text: payload(body_of(dice, text), headers={"content-encoding": "gzip"})),
    "other encoding": (1, lambda dice, text: payload(body_of(dice, text), headers={"content-encoding": "br"})),
}
FAULTS_OF_BODIES: dict[str, tuple[int, Made]] = {
    "short": (3, lambda dice, text: raw(framed(part(dice, whole_ := body_of(dice, text)), length=len(whole_)))),
    "reset inside": (
        3,
        lambda dice, text: reset(framed(part(dice, whole_ := body_of(dice, text)), length=len(whole_))),
    ),
    "longer than it says": (2, lambda dice, text: raw(framed(body_of(dice, text), length=20), close=False)),
    "closes inside": (3, lambda dice, text: raw(head(200, JSON) + part(dice, body_of(dice, text)))),
    "broken chunks": (3, broken_chunks),
    "short gzip": (3, short_gzip),
    "drip": (1, lambda dice, text: drip(every_s=0.02)),
}


def cut_stream(dice: random.Random, text: str) -> Answer:
    """A stream that ends too soon, between two events or inside one: gently, or with its connection."""
    events = b"".join(events_of(dice, text, is_ended=False))
    kept = dice.choice([events, part(dice, events)])
    if dice.random() < 0.3:
        return reset(head(200, {**STREAM, **CHUNKED}) + chunked(kept or b":"))
    if dice.random() < 0.3:
        return raw(head(200, STREAM) + kept)
    return event_stream([kept or b":"], abrupt=dice.random() < 0.5)


def spoiled_stream(dice: random.Random, text: str) -> Answer:
    """A stream with something in it that does not belong there."""
    events = events_of(dice, text)
    bad = dice.choice(
        [
            sse({"error": {"message": "out of memory"}}),
            b'event: error\ndata: {"message": "out of memory"}\n\n',
            b"data: " + dice.choice(HOSTILE[:6]) + b"\n\n",
            b"data: \xff\xfe\n\n",
            b"data: <html>\n\n",
            b"data: {\n\n",
            b'data: {"choices": [{"delta": {"content": 7}}]}\n\n',
        ]
    )
    # Before the last piece of text at the latest.
    events.insert(dice.randrange(max(len(events) - 2, 1)), b"\n\n" + bad)
    return event_stream(events)


def stalled_stream(dice: random.Random, text: str) -> Answer:
    """A stream that stops, or drips, after some events."""
    events = events_of(dice, text, is_ended=False)
    first = events[: dice.randrange(len(events) + 1)]
    is_dripping = dice.random() < 0.5

    async def play(exchange: Exchange) -> bool:
        await exchange.send(head(200, {**STREAM, **CHUNKED}))
        for event in first:
            await exchange.send_chunk(event)
        while is_dripping:
            await exchange.send_chunk(b":")
            await asyncio.sleep(0.02)
        await asyncio.Event().wait()
        return False

    return Answer(play)


FAULTS_OF_STREAMS: dict[str, tuple[int, Made]] = {
    "cut": (8, cut_stream),
    "spoiled": (6, spoiled_stream),
    "stalled": (1, stalled_stream),
}
QUOTA = {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}
FATAL: dict[str, tuple[int, Made]] = {
    "fatal status": (1, lambda dice, text: status(dice.choice([401, 402, 403, 404]))),
    "quota": (1, lambda dice, text: status(429, body=QUOTA)),
}


class Chaos:
    """The server's side of one seed; what it is for `ChatServer`.

    Attributes:
        met: By messages, what each attempt met, in order; ``"good: ..."`` for a right answer.
        is_calm: Set to answer right from now on.
    """

    def __init__(self, seed: int, *, elsewhere: str) -> None:
        """`elsewhere` is where redirects point."""
        dice = random.Random(seed)
        self.seed = seed
        self.share = dice.choice([0.1, 0.3, 0.6])
        self.fatal_share = dice.choice([0, 0, 0, 0.01])
        self.is_calm = False
        self.met: defaultdict[Said, list[str]] = defaultdict(list)
        self._elsewhere = elsewhere

    def __call__(self, received: Received, attempt: int) -> Answer:
        messages = tuple((message["role"], message["content"]) for message in received.json["messages"])
        is_streamed = bool(received.json.get("stream"))
        dice = random.Random(f"{self.seed} {json.dumps(messages)} {is_streamed} {attempt}")
        name, make = self._chosen(dice, is_streamed)
        self.met[messages].append(name)
        if name == "redirect":
            return status(dice.choice([301, 302, 307, 308]), headers={"location": self._elsewhere})
        return make(dice, reply_to(messages))

    def _chosen(self, dice: random.Random, is_streamed: bool) -> tuple[str, Made]:
        if dice.random() < self.fatal_share and not self.is_calm:
            return drawn(dice, FATAL)
        if dice.random() < self.share and not self.is_calm:
            return drawn(dice, FAULTS | (FAULTS_OF_STREAMS if is_streamed else FAULTS_OF_BODIES))
        name, make = drawn(dice, GOOD_STREAMS if is_streamed else GOOD)
        return f"good: {name}", make

    def faults(self, messages: Said) -> list[str]:
        """What went wrong on purpose with these messages."""
        return [name for name in self.met[messages] if not name.startswith("good")]


def drawn(dice: random.Random, table: Mapping[str, tuple[int, Made]]) -> tuple[str, Made]:
    """An entry of a table, by its weight."""
    name = dice.choices(list(table), [weight for weight, _ in table.values()])[0]
    return name, table[name][1]
