"""Foreign text inside Markdown: quoted word for word, or as Markdown that cannot do harm.

`markdown` makes HTML. This is for files: the programs that show them may obey HTML, fetch images, and follow links to
commands and files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from .markdown import MAX_CHARS, MAX_NESTING, UNSAFE_TEX, is_safe_link
from .words import shorten

if TYPE_CHECKING:
    from markdown_it.token import Token

_LINE_END: Final = re.compile("\r\n?")
# The beginning of a tag, a comment or an image. URLs in <...> are no tags.
_MARKUP: Final = re.compile(r"<(?!(?:https?://|mailto:)[^\s<>]*>)(?=[A-Za-z/!?])|!(?=\[)")
# What stays as it is in a line: code spans, and a few elements without attributes that end in their line.
_KEPT: Final = re.compile(
    r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)|<br ?/?>|<(sub|sup|kbd|mark)>[^<>\[\]!`\\]*</\2>", re.IGNORECASE
)
_KEPT_TAG: Final = re.compile(r"<br ?/?>|</?(?:sub|sup|kbd|mark)>", re.IGNORECASE)
_BRACKET: Final = re.compile(r"(?<!\\)\[")
# The backslash of a command of TeX, after an even number of them.
_TEX_COMMAND: Final = re.compile(rf"(?<!\\)(?:\\\\)*(?={UNSAFE_TEX.pattern})")
_ATTEMPTS: Final = 4
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
    """Turn what a viewer would obey, fetch or follow in Markdown into text, and close its last code block.

    Args:
        text: Markdown that a model wrote.

    Returns:
        Markdown that looks the same, without HTML (but for ``<br>`` and the like), images, links elsewhere than to the
        web or mail, and commands of TeX that do more than typeset; where that is not certain, the whole text in a code
        block.
    """
    text = _LINE_END.sub("\n", text)
    if not text.strip():
        return "(empty)"
    try:
        keeps_all, unlinked = True, frozenset[int]()
        for _ in range(_ATTEMPTS):
            result = _attempt(text, keeps_all, unlinked)
            has_markup, linked = _problems(result)
            if not has_markup and not linked:
                return result.strip("\n")
            keeps_all = keeps_all and not has_markup
            unlinked |= linked
    except (ValueError, RecursionError):
        pass
    return fenced(text, "text")


def _attempt(text: str, keeps_all: bool, unlinked: frozenset[int]) -> str:
    """Escape markup outside of code blocks.

    Args:
        text: Markdown.
        keeps_all: Whether what seems to be a code span, and a few elements, stay as they are.
        unlinked: Numbers of the lines in which no link may begin.
    """
    lines = text.split("\n")
    tokens = _tokens(f"{text}\n\nend", allows_html=False)
    is_code: set[int] = set()
    for token in tokens:
        if token.type in ("fence", "code_block") and token.map:
            is_code.update(range(*token.map))
    result = [line if n in is_code else _escaped(line, keeps_all, n in unlinked) for n, line in enumerate(lines)]
    # Lists and quotes end at an empty line; only a fence of the outermost level stays open.
    if tokens[-1].type == "fence":
        result.append(tokens[-1].markup)
    return "\n".join(result)


def _problems(text: str) -> tuple[bool, frozenset[int]]:
    """Return whether a parser with HTML switched on finds HTML or images, and the lines with unsafe links."""
    has_markup, lines = False, set[int]()
    env: dict[str, Any] = {}
    for block in _tokens(text, allows_html=True, env=env):
        for token in (block, *(block.children or ())):
            is_kept = token.type == "html_inline" and _KEPT_TAG.fullmatch(token.content)
            has_markup |= token.type in ("html_block", "html_inline", "image") and not is_kept
            if token.type == "link_open" and not is_safe_link(str(token.attrGet("href"))):
                lines.update(range(*(block.map or (0, text.count("\n") + 1))))
    for reference in env.get("references", {}).values():
        if not is_safe_link(reference["href"]):
            lines.update(range(*reference["map"]))
    return has_markup, frozenset(lines)


def _tokens(text: str, *, allows_html: bool, env: dict[str, Any] | None = None) -> list[Token]:
    """Parse Markdown with all links, wherever they lead.

    Raises:
        ValueError: It is too long, or nested too deeply.
    """
    from markdown_it import MarkdownIt

    if len(text) > MAX_CHARS:
        raise ValueError("too long")
    parser = MarkdownIt("commonmark", {"html": allows_html, "maxNesting": MAX_NESTING}).enable("table")
    parser.validateLink = lambda url: True  # type: ignore[method-assign]  # as the documentation of the parser says
    tokens = parser.parse(text, env)
    if any(token.level >= MAX_NESTING - 1 for token in tokens):
        raise ValueError("too deep")
    return tokens


def _escaped(line: str, keeps_all: bool, is_unlinked: bool) -> str:
    """Escape what a viewer would obey in a line of Markdown."""
    parts: list[str] = []
    end = 0
    for kept in _KEPT.finditer(line) if keeps_all else ():
        parts += [_without_markup(line[end : kept.start()], is_unlinked), kept.group()]
        end = kept.end()
    return "".join([*parts, _without_markup(line[end:], is_unlinked)])


def _without_markup(text: str, is_unlinked: bool) -> str:
    text = _TEX_COMMAND.sub(r"\g<0>\\", _MARKUP.sub(_escape, text))
    return _BRACKET.sub(r"\\[", text) if is_unlinked else text


def _escape(match: re.Match[str]) -> str:
    return "&lt;" if match.group() == "<" else "\\!"


def one_line(text: str) -> str:
    """Shorten any text to one line of Markdown.

    Args:
        text: Any text.

    Returns:
        At most 120 characters of it, without HTML, images and links.
    """
    line = shorten(text, _LINE_CHARS).replace("\\", "\\\\")
    return _MARKUP.sub(_escape, line).replace("[", "\\[")
