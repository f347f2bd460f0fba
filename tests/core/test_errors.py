"""The tree of errors."""

import inspect
import re

import pytest

from aichat_magic.core import errors
from aichat_magic.core.errors import AichatError, ChatInterrupt

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
