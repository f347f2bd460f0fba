"""Keys of requests: equal for equal requests, and for no others."""

import json
from hashlib import sha256

import pytest
from effort import calls_of
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core.messages import ChatRequest, Image, Message
from aichat_magic.core.options import Options
from aichat_magic.store.keys import RequestKeys, request_key


def a_request(**changes: object) -> ChatRequest:
    fields = {"model": "m", "messages": (Message("system", "Be brief."), Message("user", "Hi"))}
    return ChatRequest(**{**fields, **changes})  # type: ignore[arg-type]  # a test's shorthand


def test_key_is_the_hash_of_canonical_json() -> None:
    request = a_request(options=Options(temperature=0.5, seed=7, stop=("\n",)))
    canonical = '[1,"p","h:1","m",{"seed":7,"stop":["\\n"],"temperature":0.5},[["system","Be brief."],["user","Hi"]]]'
    assert request_key(provider="p", host="h:1", request=request) == sha256(canonical.encode()).digest()


@pytest.mark.parametrize(
    "changed",
    [
        a_request(model="m2"),
        a_request(messages=(Message("user", "Hi"),)),
        a_request(messages=(Message("user", "Be brief."), Message("user", "Hi"))),
        a_request(messages=(Message("system", "Be brief."), Message("user", "Hi "))),
        a_request(options=Options(temperature=0)),
        a_request(options=Options(temperature=0.1)),
        a_request(options=Options(stop=("a",))),
        a_request(options=Options(stop=("a", "b"))),
        a_request(options=Options(schema="{}")),
        a_request(options=Options(max_tokens=1)),
        a_request(options=Options(seed=1)),
        a_request(options=Options(reasoning="none")),
        a_request(options=Options(extra='{"top_k":40}')),
    ],
)
def test_any_change_of_the_request_changes_the_key(changed: ChatRequest) -> None:
    """Row 28."""
    assert request_key(provider="p", host="h", request=changed) != request_key(
        provider="p", host="h", request=a_request()
    )


def test_tier_strictness_and_unset_options_do_not_change_the_key() -> None:
    same = a_request(options=Options(tier="flex,auto", strict_options=True, unset=("temperature",)))
    assert request_key(provider="p", host="h", request=same) == request_key(provider="p", host="h", request=a_request())


def test_keys_of_messages_without_images_are_what_they_always_were() -> None:
    key = RequestKeys(provider="p", host="h", model="m", options=Options(temperature=0)).key([Message("user", "hi")])
    assert key.hex() == "3550c89ef72d1c0ddf62db3620eccfd64355f6094e097eaef759ae2a1a345cea"


def test_images_belong_to_the_key() -> None:
    keys = RequestKeys(provider="p", host="h", model="m", options=Options())
    one, two = Image("image/png", b"1"), Image("image/png", b"2")
    sent = [(), (one,), (two,), (one, two), (two, one), (Image("image/gif", b"1"),)]
    assert len({keys.key([Message("user", "hi", images)]) for images in sent}) == len(sent)
    assert keys.key([Message("user", "hi", (one,))]) == keys.key([Message("user", "hi", (one,))])


def test_blocks_of_thinking_belong_to_the_key() -> None:
    keys = RequestKeys(provider="p", host="h", model="m", options=Options())
    sent = [(), ("{}",), ('{"a":1}',), ("{}", "{}")]
    assert len({keys.key([Message("assistant", "hi", thinking_blocks=blocks)]) for blocks in sent}) == len(sent)


def test_provider_and_host_belong_to_the_key() -> None:
    request = a_request()
    keys = {request_key(provider=p, host=h, request=request) for p in ("a", "ab") for h in ("c", "bc")}
    assert len(keys) == 4


def test_what_does_not_decide_the_reply_is_not_in_the_key() -> None:
    def key(request: ChatRequest) -> bytes:
        return request_key(provider="p", host="h", request=request)

    assert key(a_request(timeout_s=1)) == key(a_request(timeout_s=2))
    assert key(a_request(options=Options(temperature=1))) == key(a_request(options=Options(temperature=1.0)))


messages = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text(st.characters(), min_size=1)),
    min_size=1,
    max_size=4,
)


@given(messages, messages)
def test_keys_are_equal_for_equal_messages_only(one: list[Message], two: list[Message]) -> None:
    keys = RequestKeys(provider="p", host="h", model="m", options=Options(top_p=0.5))
    assert (keys.key(one) == keys.key(two)) == (one == two)


def test_lone_surrogates_do_not_stand_for_the_character_they_make() -> None:
    keys = RequestKeys(provider="p", host="h", model="m", options=Options())
    texts = ("\ud83d\ude00", "\U0001f600", "\ud83d", "\ude00", "?", "\\ud83d")
    assert len({keys.key([Message("user", text)]) for text in texts}) == len(texts)


def test_keys_are_cheap_enough_for_a_million_rows() -> None:
    """About 3 microseconds each: what all requests of a run have in common is hashed once."""
    keys = RequestKeys(provider="p", host="h", model="m", options=Options())
    prompts = [(Message("user", json.dumps({"row": number})),) for number in range(200)]
    assert calls_of(lambda: [keys.key(prompt) for prompt in prompts]) <= 20 * len(prompts)
