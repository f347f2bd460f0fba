"""What others wrote inside a Markdown text of ours: quoted word for word, or as Markdown that cannot do harm.

`render` makes HTML; this is for files, which other programs show: they obey HTML and fetch images.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .words import shorten

if TYPE_CHECKING:
    from markdown_it.token import Token

_LINE_END: Final = re.compile("\r\n?")
# What begins a tag, a comment or an image. Addresses in <...> are no tags.
_MARKUP: Final = re.compile(r"<(?!(?:https?://|mailto:)[^\s<>]*>)(?=[A-Za-z/!?])|!(?=\[)")
_CODE_SPAN: Final = re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)")
_LINE_CHARS: Final = 120
# What the parser takes more than a second for, or drops text of, is shown as it is.
_LONGEST_MARKDOWN: Final = 80_000
_DEEPEST: Final = 60


def fenced(text: str, language: str = "") -> str:
    """Put a text as it is into a code block that nothing in it can end.

    Args:
        text: Any text.
        language: What is written behind the fence.

    Returns:
        Markdown.
    """
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def tamed(text: str) -> str:
    """Markdown whose HTML and images are text, and that leaves no code block open behind it.

    Args:
        text: Markdown that a model wrote.

    Returns:
        The same to look at, without what a viewer would obey or fetch. What cannot be told is shown as it is.
    """
    text = _LINE_END.sub("\n", text)
    if not text.strip():
        return "(empty)"
    try:
        for keeps_spans in (True, False):
            result = _attempt(text, keeps_spans)
            if not _has_markup(result):
                return result
    except (ValueError, RecursionError):
        pass
    return fenced(text, "text")


def _attempt(text: str, keeps_spans: bool) -> str:
    """The Markdown without markup outside of code; whether code inside lines is kept, too, is a guess for each line."""
    lines = text.split("\n")
    tokens = _tokens(f"{text}\n\nend", allows_html=False)
    is_code: set[int] = set()
    for token in tokens:
        if token.type in ("fence", "code_block") and token.map:
            is_code.update(range(*token.map))
    result = [line if n in is_code else _escaped(line, keeps_spans) for n, line in enumerate(lines)]
    # Lists and quotes end at the empty line before; only a fence of the outermost level goes on.
    if tokens[-1].type == "fence":
        result.append(tokens[-1].markup)
    return "\n".join(result).strip("\n")


def _has_markup(text: str) -> bool:
    """Whether a text has HTML or images, to a parser that knows them."""
    flat = [token for block in _tokens(text, allows_html=True) for token in (block, *(block.children or ()))]
    return any(token.type in ("html_block", "html_inline", "image") for token in flat)


def _tokens(text: str, *, allows_html: bool) -> list[Token]:
    """The parts of a Markdown text.

    Raises:
        ValueError: It is too long or too deeply nested to be looked at.
    """
    from markdown_it import MarkdownIt

    if len(text) > _LONGEST_MARKDOWN:
        raise ValueError("too long")
    parser = MarkdownIt("commonmark", {"html": allows_html, "maxNesting": _DEEPEST}).enable("table")
    tokens = parser.parse(text)
    if any(token.level >= _DEEPEST - 1 for token in tokens):
        raise ValueError("too deep")
    return tokens


def _escaped(line: str, keeps_spans: bool) -> str:
    """A line of Markdown without HTML and images."""
    if not keeps_spans:
        return _MARKUP.sub(_escape, line)
    parts: list[str] = []
    end = 0
    for span in _CODE_SPAN.finditer(line):
        parts += [_MARKUP.sub(_escape, line[end : span.start()]), span.group()]
        end = span.end()
    return "".join([*parts, _MARKUP.sub(_escape, line[end:])])


def _escape(match: re.Match[str]) -> str:
    return "&lt;" if match.group() == "<" else "\\!"


def one_line(text: str) -> str:
    """Any text as one short line of Markdown.

    Args:
        text: Any text.

    Returns:
        At most 120 characters of it, without HTML and images.
    """
    return _MARKUP.sub(_escape, shorten(text, _LINE_CHARS))
