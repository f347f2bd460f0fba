"""Foreign text inside Markdown: quoted word for word, or as Markdown that cannot do harm.

`markdown` makes HTML. This is for files: the programs that show them may obey HTML and fetch images.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .markdown import MAX_CHARS, MAX_NESTING
from .words import shorten

if TYPE_CHECKING:
    from markdown_it.token import Token

_LINE_END: Final = re.compile("\r\n?")
# The beginning of a tag, a comment or an image. URLs in <...> are no tags.
_MARKUP: Final = re.compile(r"<(?!(?:https?://|mailto:)[^\s<>]*>)(?=[A-Za-z/!?])|!(?=\[)")
_CODE_SPAN: Final = re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)")
_LINE_CHARS: Final = 120


def fenced(text: str, language: str = "") -> str:
    """Put a text into a code block that nothing in it can close.

    Args:
        text: Any text.
        language: The language, written after the opening fence.

    Returns:
        Markdown.
    """
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def tamed(text: str) -> str:
    """Turn the HTML and images of Markdown into text, and close its last code block.

    Args:
        text: Markdown that a model wrote.

    Returns:
        Markdown that looks the same, without what a viewer would obey or fetch; where that is not certain, the whole
        text in a code block.
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
    """Escape markup outside of code blocks, and with `keeps_spans` outside of what seem to be code spans."""
    lines = text.split("\n")
    tokens = _tokens(f"{text}\n\nend", allows_html=False)
    is_code: set[int] = set()
    for token in tokens:
        if token.type in ("fence", "code_block") and token.map:
            is_code.update(range(*token.map))
    result = [line if n in is_code else _escaped(line, keeps_spans) for n, line in enumerate(lines)]
    # Lists and quotes end at an empty line; only a fence of the outermost level stays open.
    if tokens[-1].type == "fence":
        result.append(tokens[-1].markup)
    return "\n".join(result).strip("\n")


def _has_markup(text: str) -> bool:
    """Tell whether a parser with HTML switched on finds HTML or images in a text."""
    flat = [token for block in _tokens(text, allows_html=True) for token in (block, *(block.children or ()))]
    return any(token.type in ("html_block", "html_inline", "image") for token in flat)


def _tokens(text: str, *, allows_html: bool) -> list[Token]:
    """Parse Markdown.

    Raises:
        ValueError: It is too long, or nested too deeply.
    """
    from markdown_it import MarkdownIt

    if len(text) > MAX_CHARS:
        raise ValueError("too long")
    parser = MarkdownIt("commonmark", {"html": allows_html, "maxNesting": MAX_NESTING}).enable("table")
    tokens = parser.parse(text)
    if any(token.level >= MAX_NESTING - 1 for token in tokens):
        raise ValueError("too deep")
    return tokens


def _escaped(line: str, keeps_spans: bool) -> str:
    """Escape the HTML and images in a line of Markdown."""
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
    """Shorten any text to one line of Markdown.

    Args:
        text: Any text.

    Returns:
        At most 120 characters of it, without HTML and images.
    """
    return _MARKUP.sub(_escape, shorten(text, _LINE_CHARS))
