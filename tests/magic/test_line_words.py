r"""The words of a magic line. Row 97: backslashes in paths are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.magic.flags import ArgumentError
from aichat_magic.magic.line_words import quoted, split_line


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (r"-i C:\data\x.csv", ["-i", r"C:\data\x.csv"]),
        (r"--template .\a -t 0", ["--template", r".\a", "-t", "0"]),
        (r"..\new\table.csv", [r"..\new\table.csv"]),
        (r"\\server\share\file", [r"\\server\share\file"]),
        (r'"\\server\my share\file"', [r"\\server\my share\file"]),
        (r'"C:\new folder\table.csv" x', [r"C:\new folder\table.csv", "x"]),
        (r"'C:\My Data\' -t 0", ["C:\\My Data\\", "-t", "0"]),
        ("C:\\data\\", ["C:\\data\\"]),
        ("C:\\data\\;", ["C:\\data\\"]),
        (r'"C:\data\\" x', [r"C:\data" + "\\\\", "x"]),
        (r"My\ File.txt", ["My File.txt"]),
        (r"It\'s \"so\"", ["It's", '"so"']),
        (r'"say \"hi\"\n"', [r'say "hi"\n']),
        (r"\d+\.csv", [r"\d+\.csv"]),
        (r'x="a b"\c', [r"x=a b\c"]),
        ("'' \"\"", ["", ""]),
        ("", []),
        (" ; ", []),
    ],
)
def test_backslash_counts_before_a_quote_or_a_blank_alone(line: str, words: list[str]) -> None:
    assert split_line(line) == words


@pytest.mark.parametrize(("line", "way"), [("'open", "apostrophe"), (r'"C:\My Data\"', "leave out the last backslash")])
def test_open_quote_says_what_to_do(line: str, way: str) -> None:
    with pytest.raises(ArgumentError, match=f"quote is not closed.*{way}"):
        split_line(line)


@given(st.lists(st.text(alphabet="ab \\'\";\n=-", max_size=8)), st.sampled_from(["", "'", '"']))
def test_quoted_words_are_read_back(words: list[str], quote: str) -> None:
    line = " ".join(quoted(word, quote) for word in words)
    assert split_line(line) == words
