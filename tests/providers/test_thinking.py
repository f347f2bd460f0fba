"""Thinking is told apart from the answer, wherever a server puts it, whole and in any pieces."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from servers import Answer, ChatServer, Received, event_stream, payload

from aichat_magic.core.messages import ChatRequest, Chunk, Message, PartialReply, Reply
from aichat_magic.core.secrets import Secret
from aichat_magic.core.settings import Endpoint
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.anthropic import Anthropic
from aichat_magic.providers.openai import OpenAI
from aichat_magic.providers.thinking import ThinkingReader, whole

HELLO = (Message("user", "hello"),)

# Text as it arrives, its thinking and its answer.
TEXTS = {
    "at the beginning": ("<think>Hm.\nYes.</think>\n\nFour.", "Hm.\nYes.", "Four."),
    "on lines of its own": ("<think>\nHm.\n</think>\n\nFour.", "Hm.", "Four."),
    "after blanks": ("\n <think>Hm.</think>Four.", "Hm.", "Four."),
    "before code": ("<think>Hm.</think>\n\n    x = 1", "Hm.", "    x = 1"),
    "eaten, before code": ("Hm.\n</think>\n \n    x = 1", "Hm.", "    x = 1"),
    "empty": ("<think>\n\n</think>\n\nFour.", "", "Four."),
    "twice": ("<think>Hm.</think>\n<think>Yes.</think>Four.", "Hm.\n\nYes.", "Four."),
    "Gemini": ("<thought>Hm.</thought>Four.", "Hm.", "Four."),
    "Magistral": ("[THINK]Hm.[/THINK]Four.", "Hm.", "Four."),
    "Kimi": ("◁think▷Hm.◁/think▷Four.", "Hm.", "Four."),
    "Seed": ("<seed:think>Hm.</seed:think>Four.", "Hm.", "Four."),
    "another tag inside": ("<think>Not [/THINK] nor </thought>.</think>Four.", "Not [/THINK] nor </thought>.", "Four."),
    "cut before its end": ("<think>Hm. The user wants", "Hm. The user wants", ""),
    "cut inside of the closing tag": ("<think>Hm.</thi", "Hm.</thi", ""),
    "cut inside of the opening tag": ("<thi", "", "<thi"),
    "a fence in the thinking": ("<think>```\nx\n</think>Four.", "```\nx", "Four."),
    "a fence that the answer has": ("<think>Hm.</think>```html\n<think>\n```", "Hm.", "```html\n<think>\n```"),
    "the opening tag eaten by the template": ("Hm.\nYes.\n</think>\n\nFour.", "Hm.\nYes.", "Four."),
    "eaten, a line of its own": ("Hm.\n</think>\nFour.", "Hm.", "Four."),
    "eaten, at the end of a line": ("So it is 4.</think>\n\nFour.", "So it is 4.", "Four."),
    "eaten, with nothing thought": ("</think>\n\nFour.", "", "Four."),
    "eaten, and a closed fence": ("```\nx\n```\n</think>\n\nFour.", "```\nx\n```", "Four."),
    # No thinking.
    "none": ("Four.", "", "Four."),
    "none, with blanks": ("\n Four.\n", "", "\n Four.\n"),
    "nothing": ("", "", ""),
    "blank": ("\n\n", "", "\n\n"),
    "in prose": ("Write <think> first, then </think>\n\nand so on.", "", None),
    "closed in prose": ("Close it with </think> at last.", "", None),
    "closed at the end of a line of prose": ("Close it with </think>\nat last.", "", None),
    "closed at the end of all": ("It ends with\n</think>\n", "", None),
    "closed twice": ("With </think> or\n</think>\n\nFour.", "", None),
    "in code": ("Use `<think>`:\n```html\n<think>\nHm\n</think>\n\nFour\n```", "", None),
    "closed in code": ("Use it:\n```html\nHm\n</think>\n\nFour\n```", "", None),
    "in quotes at the beginning": ("`<think>` begins it.", "", None),
    "another word": ("<thinking>Hm.</thinking>Four.", "", None),
    "angle brackets": ("a < b, and <b>bold</b>", "", None),
}


def read(pieces: list[str], **first: Any) -> tuple[str, str]:
    """Read pieces as a stream does, and return thinking and text."""
    reader, draft = ThinkingReader(), PartialReply()
    for number, piece in enumerate(pieces):
        draft.add(reader.read(Chunk(text=piece, **(first if number == 0 else {}))))
    draft.add(reader.end("stop"))
    return draft.thinking, draft.text


@pytest.mark.parametrize("name", TEXTS)
def test_thinking_between_tags_is_no_text(name: str) -> None:
    text, thinking, answer = TEXTS[name]
    expected = (thinking, text if answer is None else answer)
    chunk = whole(Chunk(text=text, finish_reason="stop"))
    assert (chunk.thinking, chunk.text) == expected
    assert read([text]) == expected
    assert read(list(text)) == expected  # one character at a time


@given(st.lists(st.sampled_from([*"ab {}\n", "<think>", "</think>", "<thi", "[/THINK]", "```", "\n\n", "</", ">"])))
@example(["a", "\n", "</think>", "\n", "\n", "b"])
@example(["</think>", "\n", "<think>", "a", "</think>", "b"])
def test_pieces_do_not_matter_and_nothing_is_lost(pieces: list[str]) -> None:
    text = "".join(pieces)
    chunk = whole(Chunk(text=text, finish_reason="stop"))
    assert read(pieces) == read(list(text)) == (chunk.thinking, chunk.text)
    letters = [letter for letter in text if letter in "ab{}"]
    assert [letter for letter in chunk.thinking + chunk.text if letter in "ab{}"] == letters


def test_thinking_is_shown_as_it_arrives_and_not_only_at_its_end() -> None:
    reader = ThinkingReader()
    assert reader.read(Chunk(text="<think>Hm, ")).thinking == "Hm,"
    assert reader.read(Chunk(text="yes")).thinking == " yes"
    assert reader.read(Chunk(text="</think>")) == Chunk()
    assert reader.read(Chunk(text="Four")).text == "Four"


def test_text_is_yielded_at_once_while_nothing_looks_like_a_tag() -> None:
    reader = ThinkingReader()
    assert [reader.read(Chunk(text=piece)).text for piece in ("a ", "< b", " <", "/b>", "c")] == [
        "a ", "< b", " ", "</b>", "c",
    ]  # fmt: skip


def test_closing_tag_is_text_where_the_server_tells_thinking_apart_itself() -> None:
    text = "One\n</think>\n\ntwo"
    assert read([text], thinking="Hm.") == ("Hm.", text)
    assert whole(Chunk(text=text, thinking="Hm.")).text == text


# JSON that is only in the thinking ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ['{"n": 1}', ' [1, {"a": []}]\n'])
def test_json_that_is_only_in_the_thinking_is_the_answer(text: str) -> None:
    chunk = whole(Chunk(thinking=text, finish_reason="stop"))
    assert (chunk.text, chunk.thinking) == (text, "")
    reader, draft = ThinkingReader(), PartialReply()
    for letter in text:
        draft.add(reader.read(Chunk(thinking=letter)))
    draft.add(reader.read(Chunk(text="\n")))
    draft.add(reader.end("stop"))
    assert (draft.text, draft.thinking) == (text, "")


@pytest.mark.parametrize(
    ("thinking", "text", "reason"),
    [
        ('{"n": 1}', "Four.", "stop"),  # there is an answer
        ('{"n": 1}', "", "length"),  # it would have gone on
        ('{"n": 1', "", "stop"),
        ('I take {"n": 1}', "", "stop"),
        ("4", "", "stop"),
        ("[THINK", "", "stop"),
        ("[" * 100_000 + "]", "", "stop"),
    ],
)
def test_other_thinking_is_no_answer(thinking: str, text: str, reason: Any) -> None:
    chunk = whole(Chunk(thinking=thinking, text=text, finish_reason=reason))
    assert (chunk.text, chunk.thinking) == (text, thinking)


# On the wire ------------------------------------------------------------------------------------------------------

FIELDS: dict[str, list[dict[str, Any]]] = {
    "DeepSeek": [{"reasoning_content": "Hm. "}, {"reasoning_content": "Yes."}, {"content": "Four."}],
    "Groq, Ollama": [{"reasoning": "Hm. "}, {"reasoning": "Yes.", "content": ""}, {"content": "Four."}],
    "two fields with the same": [
        {"reasoning": "Hm. Yes.", "reasoning_content": "Hm. Yes.", "content": None},
        {"content": "Four."},
    ],
    "OpenRouter": [
        {"reasoning": "Hm. Yes.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm. Yes."}]},
        {"content": "Four."},
    ],
    "OpenRouter, details only": [
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm. "}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Yes.", "signature": "s"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "AAAA"}]},
        {"content": "Four."},
    ],
    "Mistral": [
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm. Yes."}]}]},
        {"content": [{"type": "text", "text": "Four."}]},
    ],
    "Databricks": [
        {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm. Yes."}]}]},
        {"content": [{"type": "text", "text": "Four."}]},
    ],
    "Gemini": [
        {"content": "<thought>Hm. ", "extra_content": {"google": {"thought": True}}},
        {"content": "Yes.", "extra_content": {"google": {"thought": True}}},
        {"content": "</thought>Four."},
    ],
    "Gemini, without tags": [
        {"content": "Hm. Yes.", "extra_content": {"google": {"thought": True}}},
        {"content": "Four.", "extra_content": {"google": {"thought_signature": "AAAA"}}},
    ],
    "tags in the text": [{"content": "<th"}, {"content": "ink>Hm. Yes.</"}, {"content": "think>Four."}],
    "strange": [{"reasoning": {"effort": "low"}, "reasoning_content": "Hm. Yes.", "content": ""}, {"content": "Four."}],
}


def openai_answer(received: Received, deltas: list[dict[str, Any]]) -> Answer:
    if received.json.get("stream"):
        events = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        return event_stream([f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"])
    message: dict[str, Any] = {}
    for delta in deltas:
        for name, value in delta.items():
            if isinstance(value, (str, list)) and type(message.get(name)) is type(value):
                message[name] = message[name] + value
            elif name != "extra_content":
                message[name] = value or message.get(name)
    return payload({"choices": [{"message": message, "finish_reason": "stop"}]})


async def both_ways(answer: Any, provider: type[Any] = OpenAI, name: str = "openai") -> tuple[Reply, Reply]:
    """Return a reply whole, and the same reply streamed."""
    with ChatServer(lambda received, attempt: answer(received)) as server:
        async with contextlib.aclosing(HttpClient()) as http:
            asked = provider(Endpoint(provider=name, base_url=server.url, key=Secret("k")), http)
            request, draft = ChatRequest(model="m", messages=HELLO), PartialReply()
            reply = await asked.complete(request)
            async with contextlib.aclosing(asked.stream(request)) as chunks:
                async for chunk in chunks:
                    draft.add(chunk)
    return reply, draft.reply(model=reply.model, elapsed_s=0.0, messages=())


@pytest.mark.anyio
@pytest.mark.parametrize("name", FIELDS)
async def test_thinking_is_read_from_every_servers_own_place(name: str) -> None:
    if name == "Gemini, without tags":  # a whole message cannot mark a part of its text
        replies = [(await both_ways(lambda received: openai_answer(received, FIELDS[name])))[1]]
    else:
        replies = list(await both_ways(lambda received: openai_answer(received, FIELDS[name])))
    for reply in replies:
        assert (reply.thinking, reply.text, reply.finish_reason) == ("Hm. Yes.", "Four.", "stop")


@pytest.mark.anyio
async def test_answer_with_a_schema_that_a_parser_of_thinking_has_taken_is_found() -> None:
    deltas = [{"role": "assistant", "content": ""}, {"reasoning_content": '{"n":'}, {"reasoning_content": " 1}"}]
    for reply in await both_ways(lambda received: openai_answer(received, deltas)):
        assert (reply.text, reply.thinking, reply.json) == ('{"n": 1}', "", {"n": 1})


# Anthropic --------------------------------------------------------------------------------------------------------

BLOCKS = [
    {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "c2VjcmV0"},
    {"type": "thinking", "thinking": "Yes.", "signature": "bW9yZQ=="},
    {"type": "text", "text": "Four."},
]


def anthropic_answer(received: Received) -> Answer:
    if not received.json.get("stream"):
        return payload({"type": "message", "content": BLOCKS, "stop_reason": "end_turn", "usage": {}})
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"content": [], "usage": {}}}]
    for index, block in enumerate(BLOCKS):
        kind = block["type"]
        empty = block if kind == "redacted_thinking" else {"type": kind, kind: ""}
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        pieces: list[dict[str, Any]] = []
        if kind == "thinking":
            pieces = [{"type": "thinking_delta", "thinking": letter} for letter in block["thinking"]]
            pieces.append({"type": "signature_delta", "signature": block["signature"]})
        elif kind == "text":
            pieces = [{"type": "text_delta", "text": block["text"]}]
        events += [{"type": "content_block_delta", "index": index, "delta": piece} for piece in pieces]
        events.append({"type": "content_block_stop", "index": index})
    events += [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}}, {"type": "message_stop"}]
    return event_stream([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events])


@pytest.mark.anyio
async def test_blocks_of_thinking_go_back_as_they_came_and_their_secrets_are_shown_nowhere() -> None:
    replies = await both_ways(anthropic_answer, Anthropic, "anthropic")
    for reply in replies:
        assert (reply.thinking, reply.text) == ("Hm.\n\nYes.", "Four.")
        assert [json.loads(block) for block in reply.thinking_blocks] == BLOCKS[:3]
        again = Message("assistant", reply.text, thinking_blocks=reply.thinking_blocks)
        for shown in (repr(reply), repr(again), str(reply), *reply._repr_mimebundle_().values()):
            assert not any(secret in shown for secret in ("c2ln", "c2VjcmV0", "bW9yZQ"))
        with ChatServer(lambda received, attempt: anthropic_answer(received)) as server:
            async with contextlib.aclosing(HttpClient()) as http:
                provider = Anthropic(Endpoint(provider="anthropic", base_url=server.url, key=Secret("k")), http)
                messages = (*HELLO, again, Message("user", "Sure?"))
                await provider.complete(ChatRequest(model="m", messages=messages))
            assert server.requests[0].json["messages"][1] == {"role": "assistant", "content": BLOCKS}


@pytest.mark.anyio
async def test_thinking_of_a_message_goes_to_no_other_api() -> None:
    message = Message("assistant", "Four.", thinking_blocks=('{"type": "thinking", "thinking": "Hm."}',))
    with ChatServer() as server:
        async with contextlib.aclosing(HttpClient()) as http:
            provider = OpenAI(Endpoint(provider="vllm", base_url=server.url), http)
            await provider.complete(ChatRequest(model="m", messages=(*HELLO, message, *HELLO)))
        assert server.requests[0].json["messages"][1] == {"role": "assistant", "content": "Four."}
        assert b"Hm." not in server.requests[0].body
