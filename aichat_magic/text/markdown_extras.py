"""What models write beyond CommonMark, as rules of the parser: a few HTML elements, folds, tasks, footnotes, bare URLs.

Elements are recognised without any attribute, except ``<details open>``, and are written anew by the renderer. Every
other tag, also one without its counterpart, stays text. Footnotes have no anchors, because an id would be one of the
whole page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

from .code_blocks import closes, opened_by

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_core import StateCore
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

# Elements inside of a paragraph.
INLINE_TAGS: Final = "sub sup kbd mark b strong i em u s del ins small code".split()
_TAG: Final = re.compile(rf"<(/?)(br|{'|'.join(INLINE_TAGS)})\s*/?>", re.IGNORECASE)
_MAX_OPEN_TAGS: Final = 20
_DETAILS: Final = re.compile(r"<(/?)details(\s+open(?:=\"\")?)?\s*>", re.IGNORECASE)
_SUMMARY: Final = re.compile(r"[\s>]*<summary>(.{0,1000}?)</summary>", re.IGNORECASE | re.DOTALL)
_TASK: Final = re.compile(r"\[([ xX])\](?=\s)")
_FOOTNOTE: Final = re.compile(r"\[\^([^\s\[\]]{1,40})\]:[ \t]*")
_FOOTNOTE_MARK: Final = re.compile(r"\[\^([^\s\[\]]{1,40})\]")
_URL: Final = re.compile(r"://[^\s<>\"'`\\^{}|]{1,2000}")
# Before a URL: nothing that could make it the end of something longer, such as blob:https://...
_BEFORE_URL: Final = re.compile(r"(?<![\w:/\\.@+=%&#?-])https?\Z", re.IGNORECASE)
_AFTER_URL: Final = "?!.,:;*_~)]\u3002\uff0c\u3001\uff09\u300d\u2019\u201d\u00bb\u2026"


def add_extras(parser: MarkdownIt) -> None:
    """Add the rules to a parser.

    Args:
        parser: A parser that allows no HTML.
    """
    parser.block.ruler.before("fence", "details", _details, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    parser.block.ruler.before("reference", "footnote", _footnote, {"alt": ["paragraph", "reference"]})
    parser.inline.ruler.before("autolink", "tag", _tag)
    parser.inline.ruler.before("link", "footnote_mark", _footnote_mark)
    parser.inline.ruler.before("escape", "bare_url", _bare_url)
    parser.core.ruler.before("inline", "tasks", _tasks)
    parser.core.ruler.after("inline", "pairs", _pairs)
    for name, rule in _RULES.items():
        parser.add_render_rule(name, rule)


# Elements in a line


def _tag(state: StateInline, silent: bool) -> bool:
    """Find the tag of an element that may stand in a line. A rule of the inline parser."""
    if state.src[state.pos] != "<" or not (found := _TAG.match(state.src, state.pos, state.posMax)):
        return False
    if not silent:
        name = found[2].lower()
        token = state.push("hardbreak" if name == "br" else "tag", name, 0)
        token.content, token.markup = found[0], found[1]
    state.pos = found.end()
    return True


def _pairs(state: StateCore) -> None:
    """Turn tags that have no counterpart into text. A rule of the parser."""
    for block in state.tokens:
        if not any(token.type == "tag" for token in block.children or ()):
            continue
        opened: list[Token] = []
        for token in block.children or ():
            if token.nesting > 0:
                opened.append(token)
            elif token.nesting < 0:
                # The parser's own elements are balanced. What was opened inside of one cannot be closed outside.
                while opened and opened.pop().type == "tag":
                    continue
            elif token.type == "tag" and not token.markup:
                if len(opened) < _MAX_OPEN_TAGS:
                    opened.append(token)
            elif token.type == "tag" and opened and opened[-1].tag == token.tag and opened[-1].type == "tag":
                opened.pop().type = token.type = "pair"
        for token in block.children or ():
            if token.type == "tag":
                token.type = "text"


def _pair_html(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return f"<{tokens[index].markup}{tokens[index].tag}>"


def _break_html(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return "<br>\n"


# Folds


def _details(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Find a fold: ``<details><summary>...</summary>...</details>``. A rule of the block parser."""
    begin = state.bMarks[start] + state.tShift[start]
    opening = _DETAILS.match(state.src, begin, state.eMarks[start])
    if state.is_code_block(start) or not opening or opening[1]:
        return False
    if silent:
        return True
    last, stop, after = _end_of_details(state, start, end)
    at = opening.end()
    state.push("details_open", "details", 1).info = "open" if opening[2] else ""
    if summary := _SUMMARY.match(state.src, at, stop):
        at = summary.end()
        state.push("summary_open", "summary", 1)
        _push_inline(state, " ".join(summary[1].split()), start)
        state.push("summary_close", "summary", -1)
    first = next(line for line in range(start, last + 1) if at <= state.eMarks[line] or line == last)
    saved = state.bMarks[first], state.tShift[first], state.sCount[first], state.eMarks[last], state.lineMax
    state.bMarks[first], state.eMarks[last] = at, stop
    indent = re.compile(r"[ \t]*").match(state.src, at, stop)
    state.tShift[first] = len(indent[0]) if indent else 0
    state.sCount[first] = state.blkIndent
    state.lineMax = last + 1
    state.md.block.tokenize(state, first, last + 1)
    state.bMarks[first], state.tShift[first], state.sCount[first], state.eMarks[last], state.lineMax = saved
    state.push("details_close", "details", -1)
    if rest := state.src[after : state.eMarks[last]].strip():
        state.push("paragraph_open", "p", 1)
        _push_inline(state, rest, last)
        state.push("paragraph_close", "p", -1)
    state.line = last + 1
    return True


def _end_of_details(state: StateBlock, start: int, end: int) -> tuple[int, int, int]:
    """Return the last line of a fold, where its content ends, and where the text after it begins.

    A fold that is still open ends with the block that it is in.
    """
    depth, fence, last = 0, "", start
    for line in range(start, end):
        begin, limit = state.bMarks[line] + state.tShift[line], state.eMarks[line]
        text = state.src[begin:limit]
        if line > start and text and state.sCount[line] < state.blkIndent:
            break
        last = line
        if fence:
            fence = "" if closes(text, fence) else fence
            continue
        if fence := opened_by(text):
            continue
        for tag in _DETAILS.finditer(state.src, begin, limit):
            depth += -1 if tag[1] else 1
            if depth == 0:
                return line, tag.start(), tag.end()
    return last, state.eMarks[last], state.eMarks[last]


def _push_inline(state: StateBlock, content: str, line: int) -> None:
    token = state.push("inline", "", 0)
    token.content, token.map, token.children = content, [line, line + 1], []


def _details_open(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    is_open = ' open=""' if tokens[index].info else ""
    return f'<details{is_open} style="margin-bottom:0.7em">'


def _summary_open(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return '<summary style="cursor:pointer">'


# Tasks


def _tasks(state: StateCore) -> None:
    """Turn ``[ ]`` and ``[x]`` at the beginning of list items into boxes. A rule of the parser."""
    for item, paragraph, token in zip(state.tokens, state.tokens[1:], state.tokens[2:], strict=False):
        if (item.type, paragraph.type, token.type) == ("list_item_open", "paragraph_open", "inline"):
            if task := _TASK.match(token.content):
                token.content = ("\u2610" if task[1] == " " else "\u2611") + token.content[task.end() :]


# Footnotes


def _footnote(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Find the text of a footnote: ``[^1]: ...``, with indented lines after it. A rule of the block parser."""
    begin = state.bMarks[start] + state.tShift[start]
    found = _FOOTNOTE.match(state.src, begin, state.eMarks[start])
    if state.is_code_block(start) or not found or found.end() >= state.eMarks[start]:
        return False
    if silent:
        return True
    state.env.setdefault("footnotes", set()).add(found[1])
    opening = state.push("footnote_open", "div", 1)
    opening.info = found[1]
    n_before = len(state.tokens)
    saved = state.bMarks[start], state.tShift[start], state.sCount[start], state.parentType
    state.bMarks[start], state.tShift[start] = found.end(), 0
    state.blkIndent += 4
    state.sCount[start] = state.blkIndent
    state.parentType = "footnote"
    state.md.block.tokenize(state, start, end)
    state.blkIndent -= 4
    state.bMarks[start], state.tShift[start], state.sCount[start], state.parentType = saved
    inside = state.tokens[n_before:]
    # The first paragraph stands beside the number.
    if len(inside) > 2 and inside[0].type == "paragraph_open":
        inside[0].hidden = inside[2].hidden = True
    state.push("footnote_close", "div", -1)
    return True


def _footnote_mark(state: StateInline, silent: bool) -> bool:
    """Find the mark of a footnote that has a text. A rule of the inline parser."""
    found = _FOOTNOTE_MARK.match(state.src, state.pos, state.posMax) if state.src[state.pos] == "[" else None
    if not found or found[1] not in state.env.get("footnotes", ()):
        return False
    if not silent:
        state.push("footnote_mark", "sup", 0).content = found[1]
    state.pos = found.end()
    return True


def _footnote_open(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return f'<div style="font-size:smaller"><sup>{escape(tokens[index].info)}</sup> '


def _footnote_mark_html(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return f"<sup>{escape(tokens[index].content)}</sup>"


# Bare URLs


def _bare_url(state: StateInline, silent: bool) -> bool:
    """Find a URL of the web that stands in the text as it is. A rule of the inline parser."""
    if silent or state.linkLevel > 0 or state.src[state.pos] != ":":
        return False
    scheme = _BEFORE_URL.search(state.pending[-40:])
    found = _URL.match(state.src, state.pos, state.posMax)
    if not scheme or not found:
        return False
    rest = found[0]
    n_unopened = rest.count(")") - rest.count("(")
    while rest[-1] in _AFTER_URL and (rest[-1] != ")" or n_unopened > 0):
        n_unopened -= rest[-1] == ")"
        rest = rest[:-1]
    url = scheme[0] + rest
    href = state.md.normalizeLink(url)
    if len(rest) <= len("://") or not state.md.validateLink(href):
        return False
    state.pending = state.pending[: -len(scheme[0])]
    state.push("link_open", "a", 1).attrs = {"href": href}
    state.push("text", "", 0).content = url
    state.push("link_close", "a", -1)
    state.pos += len(rest)
    return True


_RULES: Final = {
    "pair": _pair_html,
    "hardbreak": _break_html,
    "details_open": _details_open,
    "summary_open": _summary_open,
    "footnote_open": _footnote_open,
    "footnote_mark": _footnote_mark_html,
}
