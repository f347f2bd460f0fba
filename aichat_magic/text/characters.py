"""Characters that no text may hold, and texts that hold nothing to read."""

from __future__ import annotations

import re
from typing import Final

# Halves of surrogate pairs have no form in UTF-8: Arrow, Parquet, CSV and SQL refuse the whole column. NUL ends a text
# for whatever is written in C, PostgreSQL refuses it. Tag characters (U+E0000 and following) are plain characters that
# flags are made of, and are taken everywhere.
_UNFIT: Final = re.compile("[\0\ud800-\udfff]")
# White space, and what has no width: zero-width space, joiners, word joiner, byte order mark.
_BLANK: Final = re.compile("[\\s\u200b-\u200d\u2060\ufeff]*\\Z")


def fit(text: str) -> str:
    """Replace what no text may hold by U+FFFD.

    Args:
        text: Any text.

    Returns:
        The text with each NUL and each half of a surrogate pair replaced; `text` itself where there is none.
    """
    # Spelled out, because a run does this for every row: both looks are of memory's speed.
    if text.isascii() and "\0" not in text:
        return text
    return _UNFIT.sub("\ufffd", text) if _UNFIT.search(text) else text


def replaced_line(count: int) -> list[str]:
    """Say of how many replies characters were replaced: one line, or none for none."""
    if not count:
        return []
    replies = "reply" if count == 1 else "replies"
    return [f"{count:,} {replies} held characters that no text may hold (NUL, half of a surrogate pair): now U+FFFD."]


def is_blank(text: str) -> bool:
    """Tell whether a text holds nothing but white space and characters without a width."""
    return _BLANK.match(text) is not None
