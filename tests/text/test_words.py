"""Nearest names, and text shortened to one line."""

from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.text.words import did_you_mean, shorten


def test_nearest_names_the_known_one() -> None:
    assert did_you_mean("opnai", ["openai", "groq"]) == " Did you mean 'openai'?"
    assert did_you_mean("xyzzy", ["openai", "groq"]) == ""


@given(st.text(), st.integers(min_value=1, max_value=300))
def test_shortened_text_is_one_printable_line_within_its_limit(text: str, limit: int) -> None:
    line = shorten(text, limit)
    assert len(line) <= limit
    assert all(char.isprintable() for char in line)
