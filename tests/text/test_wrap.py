"""Text at the width of a terminal."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.text.wrap import WordWrap, text_width, wrapped

PROSE = (
    "Photosynthesis is how green plants, algae and some bacteria turn light into sugar; the oxygen that we breathe is "
    "what is left over of the water that they split.\n"
)


def test_words_stay_whole() -> None:
    lines = wrapped(PROSE, 40).split("\n")
    assert max(map(len, lines)) <= 40
    assert min(map(len, lines[:-2])) > 25
    assert " ".join(lines).split() == PROSE.split()


def test_short_lines_stay_as_they_are() -> None:
    text = "One\n\n  two \n\tthree   four\n"
    assert wrapped(text, 40) == text


def test_items_hang_below_their_text() -> None:
    text = "- one two three four five six\n10. one two three four five six\n  * deep one two three four five"
    assert wrapped(text, 20).split("\n") == [
        "- one two three four",
        "  five six",
        "10. one two three",
        "    four five six",
        "  * deep one two",
        "    three four five",
    ]


@pytest.mark.parametrize("fence", ["```", "~~~~"])
def test_code_and_tables_are_left_whole(fence: str) -> None:
    code = f"{fence}python\nvalue = function(first, second, third)\n``\n\nx = y = z = a = b = c = d\n{fence}\n"
    table = "| a column | another column | one more |\n|---|---|---|\n"
    text = f"{code}after the code it goes on\n{table}and after the table"
    lines = wrapped(text, 20).split("\n")
    assert code in "\n".join(lines)
    assert table in "\n".join(lines)
    assert "after the code it" in lines
    assert "and after the table" in lines


def test_word_longer_than_a_line_begins_one() -> None:
    url = "https://example.org/a/long/address"
    assert wrapped(f"see {url} there", 20) == f"see\n{url}\nthere"


def test_scripts_without_spaces_break_between_characters() -> None:
    lines = wrapped("光合成は植物が光をエネルギーに変える働きです。とても大切です。", 24).split("\n")
    assert len(lines) > 2
    assert max(map(text_width, lines)) <= 24
    assert not [line for line in lines if line.startswith("。")]


def test_narrow_or_unknown_width_changes_nothing() -> None:
    assert wrapped(PROSE, 0) == wrapped(PROSE, 19) == PROSE


def test_word_is_written_when_its_end_is_known() -> None:
    lines = WordWrap(40)
    assert [lines.add(piece) for piece in ("Hel", "lo ", "wor", "ld", ".")] == ["", "Hello", "", "", ""]
    assert lines.flush() == " world."
    assert lines.flush() == ""


def test_endless_word_is_not_held_back() -> None:
    lines = WordWrap(40)
    assert len(lines.add("x" * 10_000)) == 10_000
    assert [lines.add("yy"), lines.add(" z"), lines.flush()] == ["", "yy", "\nz"]


def test_code_is_written_as_it_arrives() -> None:
    lines = WordWrap(40)
    assert [lines.add(piece) for piece in ("```\n", "x", " = ", "f(", "1)")] == ["```\n", "x", " = ", "f(", "1)"]


def test_code_that_ends_in_its_own_line_is_no_fence() -> None:
    text = "```a``` is code\nand these words are wrapped"
    assert wrapped(text, 20) == "```a``` is code\nand these words are\nwrapped"


WORDS = [
    "word",
    " ",
    "  ",
    "\n",
    "\n\n",
    "- ",
    "1. ",
    "```",
    "`",
    "~~~",
    "| ",
    "日本語",
    "。",
    "é",
    "long" * 9,
    "x" * 300,
]
TEXT = st.lists(st.sampled_from(WORDS) | st.text(max_size=8))


@given(TEXT, st.integers(0, 60))
def test_pieces_give_the_same_as_the_whole_and_nothing_is_lost(pieces: list[str], width: int) -> None:
    text = "".join(pieces)
    lines = WordWrap(width)
    shown = "".join(lines.add(piece) for piece in pieces) + lines.flush()
    assert shown == wrapped(text, width)
    assert re.sub(r"\s", "", shown) == re.sub(r"\s", "", text)
    assert shown.count("\n") >= text.count("\n")
