"""The types of the keywords name exactly what is taken."""

import dataclasses

import pytest

from aichat_magic.batching.keywords import BatchKeywords
from aichat_magic.batching.options import BatchOptions
from aichat_magic.chat.keywords import CallKeywords
from aichat_magic.core.errors import UnknownNameError
from aichat_magic.core.options import CallOptions

VALUES = {"stop": "x", "max_tokens": 1, "seed": 1, "allow_not_working": True, "model": "echo/echo"}
TEXTS = ("base_url", "system", "proxy")


@pytest.mark.parametrize("name", sorted(CallKeywords.__annotations__))
def test_keyword_of_a_call_is_taken(name: str) -> None:
    value = VALUES.get(name, "http://127.0.0.1:1" if name in TEXTS else 0.5)
    assert CallOptions.from_keywords({name: value}) != CallOptions()


def test_no_keyword_of_a_call_is_missing() -> None:
    with pytest.raises(UnknownNameError):
        CallOptions.from_keywords({"nothing": 1})
    options = {field.name for field in dataclasses.fields(CallOptions().options)} - {"schema"}
    others = {field.name for field in dataclasses.fields(CallOptions)} - {"options", "timeout_s", "is_dry"} | {
        "timeout"
    }
    assert set(CallKeywords.__annotations__) == options | others


def test_keywords_of_a_run_are_those_of_a_call_and_its_own() -> None:
    own = {field.name for field in dataclasses.fields(BatchOptions)}
    assert set(BatchKeywords.__annotations__) == own | set(CallKeywords.__annotations__)
