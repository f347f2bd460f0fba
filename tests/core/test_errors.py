import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core import errors
from aichat_magic.core.errors import AichatError, ChatInterrupt
from aichat_magic.text.words import nearest, shorten

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


def test_nearest_names_the_known_one() -> None:
    assert nearest("opnai", ["openai", "groq"]) == " Did you mean 'openai'?"
    assert nearest("xyzzy", ["openai", "groq"]) == ""


@given(st.text(), st.integers(min_value=1, max_value=300))
def test_shortened_text_is_one_printable_line_within_its_limit(text: str, limit: int) -> None:
    line = shorten(text, limit)
    assert len(line) <= limit
    assert all(char.isprintable() for char in line)
