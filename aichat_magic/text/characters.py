"""Characters that no text may hold, that no terminal should get, or that show nothing."""

from __future__ import annotations

import re
import sys
from typing import Final

# Halves of surrogate pairs have no form in UTF-8: Arrow, Parquet, CSV and SQL refuse the whole column. NUL ends a text
# in C programs, and PostgreSQL refuses it. Tag characters (U+E0000 and following) are plain characters of which flags
# are made, and are accepted everywhere.
_UNFIT: Final = re.compile("[\0\ud800-\udfff]")
# White space, and characters without a width: zero-width space, joiners, word joiner, byte order mark.
_BLANK: Final = re.compile("[\\s\u200b-\u200d\u2060\ufeff]*\\Z")
# What a terminal could obey: C0 except \n and \t, DEL, C1, and the marks that reorder text. Without ESC and CSI, the
# rest of an escape sequence is harmless letters, also when the sequence arrives in two pieces.
_FORBIDDEN: Final[dict[int, str | None]] = {
    **dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), None),
    **dict.fromkeys((0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)), None),
}
del _FORBIDDEN[0x09], _FORBIDDEN[0x0A]
# What is written for letters that a terminal lacks. Plain text of this package has the same ones.
_PLAIN: Final = {
    **{"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2026": "...", "\u00a0": " ", "\u202f": " "},
    **{"\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": "--", "\u2212": "-", "\u2022": "*", "\u00b7": "|"},
    **{"\u2192": "->", "\u2190": "<-", "\u21d2": "=>", "\u2264": "<=", "\u2265": ">=", "\u2260": "!=", "\u00d7": "x"},
    **{"\u26a0": "(!)", "\u2713": "v", "\u2610": "[ ]", "\u2611": "[x]", "\u2502": "|", "\u2500": "-"},
}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def fit(text: str) -> str:
    """Replace the characters that no text may hold by U+FFFD.

    Args:
        text: Any text.

    Returns:
        The text with each NUL and each half of a surrogate pair replaced; `text` itself where there is none.
    """
    # Both checks are as fast as memory, which matters because a batch does this for every row.
    if text.isascii() and "\0" not in text:
        return text
    return _UNFIT.sub("\ufffd", text) if _UNFIT.search(text) else text


def replaced_line(count: int) -> list[str]:
    """Return the line that reports in how many replies characters were replaced; an empty list for none."""
    if not count:
        return []
    replies = "reply" if count == 1 else "replies"
    return [f"{count:,} {replies} held characters that no text may hold (NUL, half of a surrogate pair): now U+FFFD."]


def is_blank(text: str) -> bool:
    """Tell whether a text holds nothing but white space and characters without a width."""
    return _BLANK.match(text) is not None


def terminal_text(text: str) -> str:
    """Return a text that a terminal only shows and never obeys.

    Args:
        text: Any text, or a piece of one.

    Returns:
        The text without control characters (except line feeds and tabs) and bidirectional controls, with lone
        surrogates replaced by U+FFFD. Applied piece by piece, it gives the same as at once.
    """
    return _SURROGATE.sub("\ufffd", text.translate(_FORBIDDEN))


def encodable(text: str, encoding: str | None) -> str:
    """Return a text as a stream can write it: with replacements for the characters that its encoding lacks.

    Args:
        text: Any text.
        encoding: The encoding; None: it takes every character.

    Returns:
        `text` itself where nothing is lacking; else with plain letters for typographic ones, and escapes for others.
    """
    try:
        if encoding is not None:
            text.encode(encoding)
        return text
    except (UnicodeEncodeError, LookupError):
        return text.translate({ord(char): _replacement(char, encoding or "") for char in set(text)})


def _replacement(char: str, encoding: str) -> str:
    """Return a character, or what is written where the encoding lacks it."""
    try:
        return char.encode(encoding).decode(encoding)
    except (UnicodeEncodeError, LookupError):
        return _PLAIN.get(char) or char.encode("ascii", "backslashreplace").decode()


def shown_text(text: str) -> str:
    """Return a text as the present `sys.stdout` can write it, for views that IPython prints there itself."""
    return encodable(text, getattr(sys.stdout, "encoding", None))


def printable_line(text: str) -> str:
    """Return a text from outside as one line for a terminal, with white space folded."""
    return " ".join(terminal_text(text).split())
