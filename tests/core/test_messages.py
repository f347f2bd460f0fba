import math
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core.errors import MalformedReplyError, OptionError, PromptError
from aichat_magic.core.messages import (
    ChatRequest,
    Chunk,
    Image,
    Message,
    PartialReply,
    Reply,
    estimate_tokens,
    messages_from,
)
from aichat_magic.core.options import Options
from aichat_magic.core.usage import Usage

HELLO = (Message("user", "hello"),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.5),
        ("temperature", 2.1),
        ("temperature", math.nan),
        ("temperature", "0.5"),
        ("temperature", True),
        ("top_p", 1.5),
        ("presence_penalty", -2.5),
        ("frequency_penalty", 3),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("seed", 0.5),
        ("stop", ("",)),
        ("stop", "text"),
    ],
)
def test_option_outside_its_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(OptionError, match=name):
        Options(**{name: value})  # type: ignore[arg-type]  # that is what is tested


def test_options_that_are_not_set_are_not_sent() -> None:
    assert Options().sent() == {}
    assert Options(temperature=0, stop=("x",)).sent() == {"temperature": 0, "stop": ("x",)}


def test_a_kind_of_options_with_more_of_them_sends_them_all() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class More(Options):
        top_k: int | None = None

    assert More(temperature=0.5, top_k=3).sent() == {"temperature": 0.5, "top_k": 3}


def test_own_options_win_over_the_settings() -> None:
    merged = Options(temperature=0).over(Options(temperature=1, seed=3))
    assert merged == Options(temperature=0, seed=3)


def test_values_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        HELLO[0].content = "other"  # type: ignore[misc]  # that is what is tested


@pytest.mark.parametrize("content", ["", " \n\t"])
def test_empty_prompt_is_refused(content: str) -> None:
    with pytest.raises(PromptError, match="empty"):
        ChatRequest(model="m", messages=(Message("user", content),))


@pytest.mark.parametrize("timeout_s", [0, -1, math.inf, math.nan, True, "5"])
def test_timeout_that_is_no_positive_number_is_refused(timeout_s: object) -> None:
    with pytest.raises(OptionError, match="timeout"):
        ChatRequest(model="m", messages=HELLO, timeout_s=timeout_s)  # type: ignore[arg-type]  # that is what is tested


def test_unknown_role_is_refused() -> None:
    with pytest.raises(PromptError, match="'robot'"):
        messages_from([{"role": "robot", "content": "hi"}])


def test_mapping_without_content_is_refused() -> None:
    with pytest.raises(PromptError, match="'role' and 'content'"):
        messages_from([{"role": "user"}])


def test_content_that_is_no_text_is_refused() -> None:
    with pytest.raises(PromptError, match="not int"):
        messages_from([{"role": "user", "content": 3}])


def test_usage_adds_what_is_known_and_never_invents_a_cost() -> None:
    total = Usage(input_tokens=1, output_tokens=2) + Usage(input_tokens=3, cost_usd=0.5)
    assert total == Usage(input_tokens=4, output_tokens=2, cost_usd=None)
    assert (Usage(cost_usd=0.25) + Usage(cost_usd=0.5)).cost_usd == 0.75


def test_draft_joins_pieces_and_keeps_the_totals() -> None:
    draft = PartialReply()
    for chunk in (Chunk(text="a"), Chunk(text="b"), Chunk(finish_reason="length", usage=Usage(output_tokens=2))):
        draft.add(chunk)
    reply = draft.reply(model="p/m", elapsed_s=1.0, messages=HELLO)
    assert (reply.text, reply.finish_reason, reply.usage.output_tokens) == ("ab", "length", 2)


def test_interrupted_draft_says_so() -> None:
    draft = PartialReply()
    draft.add(Chunk(text="half"))
    reply = draft.reply(model="p/m", elapsed_s=1.0, messages=HELLO, finish_reason="interrupted")
    assert reply.text == "half"
    assert not reply.is_complete


def test_code_is_the_fenced_blocks() -> None:
    reply = Reply(text="Here:\n```python\na = 1\n```\nand\n~~~\nb = 2\n~~~\n")
    assert reply.code == "a = 1\n\nb = 2"
    assert Reply(text="no code").code == ""


def test_code_of_a_fence_that_was_never_closed_is_kept() -> None:
    assert Reply(text="```py\na = 1\n").code == "a = 1"


@pytest.mark.parametrize("text", ['{"a": 1}', 'Sure:\n```json\n{"a": 1}\n```\n'])
def test_json_is_read_from_the_text_or_its_fence(text: str) -> None:
    assert Reply(text=text).json == {"a": 1}


@pytest.mark.parametrize("text", ["no", "[" * 100_000, ""])
def test_json_that_is_none_is_a_clear_error(text: str) -> None:
    with pytest.raises(MalformedReplyError, match=r"cannot be read as JSON: .*reply\.text"):
        _ = Reply(text=text).json


def test_reply_survives_pickling() -> None:
    reply = Reply(text="x", usage=Usage(output_tokens=1), messages=HELLO)
    assert pickle.loads(pickle.dumps(reply)) == reply


@given(st.text())
def test_estimate_grows_with_the_text_and_never_fails(text: str) -> None:
    shorter = estimate_tokens([Message("user", text)])
    assert 4 <= shorter <= estimate_tokens([Message("user", text + "four")])


def test_estimate_takes_lone_surrogates() -> None:
    assert estimate_tokens([Message("user", "\ud800")]) == 5


def test_image_counts_as_800_tokens_and_keeps_its_bytes_out_of_its_repr() -> None:
    image = Image("image/png", b"canary" * 9)
    assert estimate_tokens([Message("user", "four", (image, image))]) == 1605
    assert "canary" not in repr(image)
    assert str(image) == "[image: png, 54 bytes]"


def test_messages_are_equal_when_their_images_are() -> None:
    one, same, other = (Message("user", "x", (Image("image/png", data),)) for data in (b"1", b"1", b"2"))
    assert one == same != other
    assert hash(one) == hash(same)


def test_what_is_no_image_or_not_the_users_is_refused() -> None:
    with pytest.raises(PromptError, match="image/png"):
        Image("image/tiff", b"x")
    with pytest.raises(PromptError, match="not empty"):
        Image("image/png", b"")
    with pytest.raises(PromptError, match="tuple"):
        Message("user", "x", [Image("image/png", b"x")])  # type: ignore[arg-type]  # what is refused
    with pytest.raises(PromptError, match="of the user"):
        Message("assistant", "x", (Image("image/png", b"x"),))


def test_image_alone_is_a_prompt() -> None:
    assert ChatRequest(model="m", messages=(Message("user", "", (Image("image/png", b"x"),)),))


def test_prompt_is_empty_although_there_is_a_system_message() -> None:
    with pytest.raises(PromptError, match="empty"):
        ChatRequest(model="m", messages=(Message("system", "Be brief."), Message("user", " ")))


@pytest.mark.parametrize("role", ["user", "system"])
def test_thinking_goes_with_messages_of_the_assistant_only(role: Any) -> None:
    with pytest.raises(PromptError, match="Thinking goes with a message of the assistant"):
        Message(role, "hi", thinking_blocks=("{}",))
    assert "secret" not in repr(Message("assistant", "hi", thinking_blocks=('{"signature":"secret"}',)))


def test_reply_that_begins_again_has_the_usage_of_both_attempts_and_the_text_of_the_second() -> None:
    draft = PartialReply()
    draft.add(Chunk(thinking="Hm", text=" ", usage=Usage(input_tokens=3, output_tokens=2), logprobs=[1], model="a"))
    draft.restart()
    assert (draft.text, draft.thinking) == ("", "")
    draft.restart()
    draft.add(Chunk(text="Four.", usage=Usage(input_tokens=3, output_tokens=4), finish_reason="stop", model="b"))
    reply = draft.reply(model="x/y", elapsed_s=1.0, messages=())
    assert reply.usage == Usage(input_tokens=6, output_tokens=6)
    assert (reply.text, reply.thinking, reply.logprobs, reply.model_version) == ("Four.", "", None, "b")


def test_chunk_that_replaces_takes_the_place_of_all_before() -> None:
    draft = PartialReply()
    draft.add(Chunk(thinking="Hm. ", text="So it is 4."))
    draft.add(Chunk(thinking="So it is 4.", text="Fo", replaces=True))
    draft.add(Chunk(text="ur."))
    assert (draft.thinking, draft.text) == ("So it is 4.", "Four.")
