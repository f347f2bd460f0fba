"""Frozen values that are made quickly are those that their class makes."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest

from aichat_magic.chat.chat import Call
from aichat_magic.chat.embedding import EmbeddingCall
from aichat_magic.core.messages import ChatRequest, Chunk, Message, Reply
from aichat_magic.core.quick import quick
from aichat_magic.core.sharing import Remade
from aichat_magic.core.usage import Usage

QUICK = {cls.__name__: (cls, quick(cls)) for cls in (Message, ChatRequest, Chunk, Reply, Usage, Call)}
GIVEN: dict[str, dict[str, Any]] = {
    "Message": {"role": "user", "content": "Hi"},
    "ChatRequest": {"model": "m", "messages": (Message("user", "Hi"),)},
    "Chunk": {"text": "a", "remarks": ("b",)},
    "Reply": {"text": "a", "usage": Usage(input_tokens=1), "messages": (Message("user", "Hi"),), "notice": "n"},
    "Usage": {"output_tokens": 2, "cost_usd": 0.5},
}


@dataclass(frozen=True, slots=True)
class Checked:
    """Fields of every kind, with a check."""

    first: int
    second: list[int] = field(default_factory=list)
    third: str = field(default="x", kw_only=True, repr=False)

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError("negative")


@pytest.mark.parametrize("name", GIVEN)
def test_values_are_those_of_the_class(name: str) -> None:
    cls, new = QUICK[name]
    slow, fast = cls(**GIVEN[name]), new(**GIVEN[name])
    assert type(fast) is cls
    for value in (fast, pickle.loads(pickle.dumps(fast)), copy.deepcopy(fast), dataclasses.replace(fast)):
        assert type(value) is cls
        assert value == slow
        assert repr(value) == repr(slow)
        assert dataclasses.astuple(value) == dataclasses.astuple(slow)
        assert hash(value) == hash(slow)


@pytest.mark.parametrize("name", GIVEN)
def test_values_are_frozen(name: str) -> None:
    value = QUICK[name][1](**GIVEN[name])
    for each in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, each.name, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(value, each.name)


@pytest.mark.parametrize("name", QUICK)
def test_signature_is_that_of_the_class(name: str) -> None:
    cls, new = QUICK[name]
    assert inspect.signature(new) == inspect.signature(cls)


def test_it_takes_and_refuses_what_the_class_does() -> None:
    new: Any = quick(Checked)
    for args, kwargs in (
        ((1,), {}),
        ((1, [2]), {"third": "y"}),
        ((), {"first": 1, "second": []}),
        ((0,), {"third": ""}),
    ):
        assert dataclasses.astuple(new(*args, **kwargs)) == dataclasses.astuple(Checked(*args, **kwargs))
    for args, kwargs in (((), {}), ((1, [], "z"), {}), ((1,), {"first": 2}), ((1,), {"fourth": 2}), ((-1,), {})):
        errors = []
        for made in (Checked, new):
            with pytest.raises((TypeError, ValueError)) as caught:
                made(*args, **kwargs)
            errors.append((caught.type, str(caught.value)))
        assert errors[0] == errors[1]
    assert new(1).second is not new(1).second


def test_shared_histories_are_kept_as_what_they_are_made_of() -> None:
    def remake() -> Remade[Message]:
        return Remade.of((Message("user", "Hi"),), remake)

    history = remake()
    reply = QUICK["Reply"][1](text="a", messages=history)
    assert reply.messages == history
    assert reply.messages is not history


def test_a_subclass_is_made_as_such() -> None:
    made = quick(EmbeddingCall)
    assert issubclass(made, EmbeddingCall)
    assert made.check is EmbeddingCall.check
