"""The tree of errors."""

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

from aichat_magic.core import errors
from aichat_magic.core.errors import AichatError, ChatInterrupt
from aichat_magic.core.json_text import SchemaError
from aichat_magic.core.messages import RateLimits, Reply

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, AichatError)]


TREE = re.findall(r"(?:── |^ *)(\w+)(?: \(\w+\))?(?: +(R?F?)(?: |$))?", errors.__doc__ or "", re.MULTILINE)
MARKS = {name: marks for name, marks in TREE if name.endswith("Error")}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_tree_in_the_docstring_shows_every_class_and_its_marks(cls: type[AichatError]) -> None:
    assert MARKS[cls.__name__] == "R" * cls.is_retryable + "F" * cls.is_fatal


def test_interrupt_is_a_keyboard_interrupt_of_one_line() -> None:
    interrupt = ChatInterrupt()
    assert isinstance(interrupt, KeyboardInterrupt)
    assert interrupt._render_traceback_() == ["ChatInterrupt: Interrupted."]


VALUES: dict[str, Any] = {
    "provider": "x",
    "status": 429,
    "retry_after_s": 2.5,
    "rate_limits": RateLimits(limit_requests=5),
    "option": "top_k",
    "instead": "k",
    "limit_tokens": 8_192,
    "sent_tokens": 9_000,
    "reply": Reply(text="", thinking="Hm."),
    "finish_reason": "length",
}


@pytest.mark.parametrize("cls", [*CLASSES, SchemaError, ChatInterrupt], ids=lambda cls: cls.__name__)
def test_every_error_survives_pickle_and_copy(cls: type[BaseException]) -> None:
    names = inspect.signature(cls.__init__).parameters
    error = cls("It failed. Try again.", **{name: value for name, value in VALUES.items() if name in names})
    for made in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(made) is cls
        assert str(made) == str(error)
        assert vars(made) == vars(error)


def test_error_of_a_stopped_run_is_pickled_without_its_run() -> None:
    error = errors.BatchStoppedError("It stopped.", run=object())
    assert pickle.loads(pickle.dumps(error)).run is None
