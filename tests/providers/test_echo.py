"""The provider that repeats: the same words whole and in pieces, at no cost."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.messages import ChatRequest, Message, PartialReply
from aichat_magic.core.options import Options
from aichat_magic.http.client import HttpClient
from aichat_magic.providers import echo
from aichat_magic.providers.echo import Echo

TALK = (
    Message("system", "be brief"),
    Message("user", "one"),
    Message("assistant", "1"),
    Message("user", " two  three\n"),
)


def provider() -> Echo:
    return Echo(Endpoint(provider="echo"), HttpClient())


@pytest.mark.anyio
async def test_the_last_user_message_comes_back_whatever_model_and_options() -> None:
    request = ChatRequest(model="any", messages=TALK, options=Options(temperature=2, max_tokens=1, stop=("two",)))
    reply = await provider().complete(request)
    assert (reply.text, reply.model, reply.finish_reason) == (" two  three\n", "echo/any", "stop")
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.cost_usd) == (6, 2, 0.0)


@pytest.mark.anyio
async def test_it_streams_word_by_word() -> None:
    request = ChatRequest(model="echo", messages=TALK)
    async with contextlib.aclosing(provider().stream(request)) as chunks:
        pieces = [chunk async for chunk in chunks]
    assert [piece.text for piece in pieces] == [" ", "two  ", "three\n", ""]
    assert [piece.finish_reason for piece in pieces] == [None, None, None, "stop"]
    draft = PartialReply()
    for piece in pieces:
        draft.add(piece)
    whole = await provider().complete(request)
    streamed = draft.reply(model="echo/echo", elapsed_s=0.0, messages=())
    assert streamed == whole


@pytest.mark.anyio
async def test_without_a_user_message_the_last_one_comes_back() -> None:
    request = ChatRequest(model="echo", messages=(Message("system", "a"), Message("assistant", "b")))
    assert (await provider().complete(request)).text == "b"


@given(st.text())
def test_no_character_is_lost_between_the_words(text: str) -> None:
    assert "".join(echo._WORD.findall(text)) == text


@pytest.mark.anyio
async def test_the_class_and_its_default_model() -> None:
    assert (Echo.working, Echo.needs_auth, Echo.supports_stream, Echo.default_model) == (True, False, True, "echo")
    assert not Echo.presets
    assert await provider().models() == ["echo"]
