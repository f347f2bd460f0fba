import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic import errors
from aichat_magic.errors import AichatError, ChatInterrupt, nearest, shorten

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, AichatError)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_tree_in_the_docstring_shows_every_class_and_whether_it_is_retryable(cls: type[AichatError]) -> None:
    line = next(line for line in (errors.__doc__ or "").splitlines() if f" {cls.__name__}" in f" {line.strip()} "
                .replace("├── ", " ").replace("└── ", " ").replace("│", " "))  # fmt: skip
    assert (" R " in f"{line} ") == cls.is_retryable


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
