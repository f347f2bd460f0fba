"""The server's side of the messages dialect."""

from __future__ import annotations

import json
import re
from typing import Any

from servers import Answer, Exchange, Received, event_stream, payload

COUNTS = {"input_tokens": 3, "output_tokens": 2}


def message(content: Any = "hi", *, stop: str | None = "end_turn", usage: Any = COUNTS, **more: Any) -> dict[str, Any]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {"type": "message", "model": "m-1", "content": blocks, "stop_reason": stop, "usage": usage, **more}


def event(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"


def begins(**usage: int) -> str:
    return event(
        "message_start", message=message([], stop=None, usage=usage or {"input_tokens": 3, "output_tokens": 1})
    )


def piece(text: str) -> str:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def ends(stop: str | None = "end_turn", usage: Any = None, **more: Any) -> str:
    return event("message_delta", delta={"stop_reason": stop, **more}, usage=usage or {"output_tokens": 2})


STOP = event("message_stop")


def claude(content: str, *, stop: str = "end_turn") -> Answer:
    """`content` as one message, or word by word when the request asks for a stream; `stop` is its stop reason."""

    async def play(exchange: Exchange) -> bool:
        if not exchange.received.json.get("stream"):
            return await payload(message(content, stop=stop)).play(exchange)
        block = {"index": 0, "content_block": {"type": "text", "text": ""}}
        pieces = [piece(word) for word in re.findall(r"\S*\s*", content)[:-1]]
        opening = [begins(), event("content_block_start", **block), event("ping")]
        closing = [event("content_block_stop", index=0), ends(stop), STOP]
        return await event_stream([*opening, *pieces, *closing]).play(exchange)

    return Answer(play)


def echo(received: Received, attempt: int) -> Answer:
    """The text of the last message, said again."""
    return claude("echo: " + received.json["messages"][-1]["content"][-1]["text"])
