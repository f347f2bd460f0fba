"""Markdown to safe HTML.

Tags in the text of a model are escaped, except a few without attributes (`markdown_extras`); images are shown as text
and not fetched, links lead to http, https and mailto only, and every tag, attribute and style in the HTML is one of
those written in this package.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from .characters import terminal_text
from .html_parts import BLUE, GRAY, GREEN, ORANGE, PURPLE, RED, TEAL, cell_tag, code_html, plain_html
from .markdown_extras import add_extras

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_core import StateCore
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

# Longer texts are shown as they are: the parser takes about a second for the worst 80,000 characters.
MAX_CHARS = 80_000
_MAX_HIGHLIGHT_CHARS = 50_000
# A level of a list counts twice. Beyond this the parser drops text, so such a text is shown as it is.
MAX_NESTING = 60
# Each bracket in prose costs the parser up to 50 µs, for the links that it could begin. Later paragraphs stay text.
_MAX_BRACKETS = 5_000
_MAX_TEX_CHARS = 4_000
_MAX_TEX_LINES = 100

# MathJax typesets the elements of these classes only (class names of MathJax 2 and 3).
_MATH = "tex2jax_process mathjax_process"

# JupyterLab has no style sheet for the classes of pygments in outputs.
_TOKEN_STYLES = (
    ("Token.Comment", f"color:{GRAY};font-style:italic"),
    ("Token.Keyword.Constant", f"color:{ORANGE}"),
    ("Token.Keyword", f"color:{PURPLE}"),
    ("Token.Operator.Word", f"color:{PURPLE}"),
    ("Token.Literal.String", f"color:{GREEN}"),
    ("Token.Literal.Number", f"color:{ORANGE}"),
    ("Token.Name.Function", f"color:{BLUE}"),
    ("Token.Name.Class", f"color:{BLUE}"),
    ("Token.Name.Tag", f"color:{BLUE}"),
    ("Token.Name.Builtin", f"color:{TEAL}"),
    ("Token.Name.Attribute", f"color:{TEAL}"),
    ("Token.Name.Decorator", f"color:{TEAL}"),
    ("Token.Name.Exception", f"color:{RED}"),
    ("Token.Generic.Deleted", f"color:{RED}"),
    ("Token.Generic.Inserted", f"color:{GREEN}"),
    ("Token.Generic.Heading", f"color:{BLUE}"),
    ("Token.Generic.Prompt", f"color:{GRAY}"),
    ("Token.Generic.Output", f"color:{GRAY}"),
)
# Languages that are highlighted. A fixed list, because some other lexers of pygments take very long on hostile text.
_LANGUAGES = {
    "py": "python", "python": "python", "python3": "python", "ipython": "python", "pycon": "pycon", "sql": "sql",
    "r": "r", "julia": "julia", "json": "json", "jsonl": "json", "yaml": "yaml", "yml": "yaml", "toml": "toml",
    "ini": "ini", "bash": "bash", "sh": "bash", "shell": "bash", "zsh": "bash", "javascript": "javascript",
    "js": "javascript", "typescript": "typescript", "ts": "typescript", "html": "html", "xml": "xml", "css": "css",
    "c": "c", "cpp": "cpp", "c++": "cpp", "csharp": "csharp", "cs": "csharp", "java": "java", "kotlin": "kotlin",
    "scala": "scala", "go": "go", "rust": "rust", "swift": "swift", "ruby": "ruby", "php": "php", "perl": "perl",
    "lua": "lua", "matlab": "matlab", "latex": "latex", "tex": "latex", "diff": "diff", "makefile": "makefile",
    "dockerfile": "docker", "docker": "docker",
}  # fmt: skip

_LINK = re.compile(r"(?:https?://|mailto:)[^\s\\]+\Z", re.IGNORECASE)
_MATH_PAIRS = (("$`", "`$"), ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))
_MATH_ENVIRONMENT = re.compile(
    r"\\begin\{((?:equation|multline|gather|align|alignat|flalign|eqnarray|cases|array|[pbBvV]?matrix)\*?)\}"
)
_WORD = re.compile(r"[^\W\d_]{3}")
_TEX_SIGN = re.compile(r"[\\^_={}+<>|]")
# Commands that carry links, styles, ids or HTML, or that change the formulas of the whole page (MathJax 4's list of
# supported commands, 2026-11). `\label` is left out of formulas instead: it makes an id, and errors when seen twice.
UNSAFE_TEX = re.compile(
    r"\\(?:[hH]ref|[hH]yper\w*|url|nolinkurl|html\w*|class|cssId|style|data|require|includegraphics|mmlToken|bbox|"
    r"texttip|mathtip|tooltip|toggle|mathtoggle|enclose|menclose|fcolorbox|definecolor|ref|eqref|unicode|"
    r"[gex]?def|let|futurelet|(?:re)?new[a-z]*|providecommand|Declare\w*|Newextarrow|csname|catcode|input|include|"
    r"write|special|breakAlign|beginProof|setOptions)(?![A-Za-z])"
)
_TEX_LABEL = re.compile(r"\\label\s*\{[^{}]*\}")


def markdown_html(text: str) -> str:
    """Convert Markdown to safe HTML. What cannot be converted is shown as it is.

    Args:
        text: Any text.

    Returns:
        The body of an HTML element.
    """
    text = terminal_text(text.replace("\0", "\ufffd"))
    # Whatever a hostile text sets off in the parser (too deep a recursion, say), the reply must still be shown.
    with contextlib.suppress(Exception):
        parser = _parser()
        return str(parser.renderer.render(parsed(text, parser), parser.options, {}))
    return plain_html(text)


def parsed(text: str, parser: MarkdownIt | None = None) -> Sequence[Token]:
    """Return the tokens of Markdown.

    Args:
        text: Any text.
        parser: The parser; default: one that is made.

    Raises:
        ValueError: It is too long, or nested too deeply. Other exceptions are the parser's, for hostile texts.
    """
    if len(text) > MAX_CHARS:
        raise ValueError("too long")
    tokens = (parser or _parser()).parse(text)
    if any(token.level >= MAX_NESTING - 1 for token in tokens):
        raise ValueError("too deep")
    return tokens


def _parser() -> MarkdownIt:
    """Create a parser of CommonMark with tables, strikethrough, formulas and `markdown_extras`; without HTML."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_NESTING})
    parser.enable(["table", "strikethrough"])
    parser.validateLink = is_safe_link  # type: ignore[method-assign]  # as the documentation of the parser says
    parser.inline.ruler.before("escape", "math_inline", _inline_math)
    parser.block.ruler.before(
        "fence", "math_block", _block_math, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    parser.core.ruler.before("inline", "bracket_limit", _limit_brackets)
    for name, rule in _RULES.items():
        parser.add_render_rule(name, rule)
    add_extras(parser)
    return parser


def _limit_brackets(state: StateCore) -> None:
    """Leave paragraphs after too many brackets as text. A rule of the parser."""
    brackets = 0
    for token in state.tokens:
        if token.type == "inline":
            brackets += token.content.count("[")
            if brackets > _MAX_BRACKETS:
                token.type = "prose"


def is_safe_link(url: str) -> bool:
    """Tell whether a link may lead there; the parser has decoded its entities and escapes."""
    return _LINK.match(url) is not None


# Render rules: the parser calls them by name with these arguments.


def _link_open(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    href = escape(str(tokens[index].attrGet("href")))
    return f'<a href="{href}" target="_blank" rel="noopener noreferrer nofollow">'


def _image(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    label = renderer.renderInlineAsText(token.children or [], options, env)
    return f"[image: {escape(label)}] ({escape(str(token.attrGet('src')))})"


def _code_inline(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return f"<code>{escape(tokens[index].content)}</code>"


def _escaped(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return escape(tokens[index].content)


def _cell_open(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    wanted = re.fullmatch(r"text-align:(left|center|right)", str(tokens[index].attrGet("style")))
    return cell_tag(tokens[index].tag, wanted[1] if wanted else "left")


def _table_open(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return '<table style="margin-left:0">\n'


def _fence(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    language = token.info.split(maxsplit=1)[0].lower() if token.info.strip() else ""
    if language == "math":
        tex = token.content.strip()
        is_delimited = tex.startswith(("$$", "\\[", "\\begin"))
        return _formula(tex, *(("", "") if is_delimited else ("$$", "$$")), tag="div")
    return code_html(_highlighted(token.content, language))


def _math(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    opener = "$" if token.markup == "$`" else token.markup
    closer = {"\\(": "\\)", "\\[": "\\]"}.get(opener, opener)
    return _formula(token.content, opener, closer, tag="div" if token.block else "span")


_RULES = {
    "link_open": _link_open,
    "image": _image,
    "code_inline": _code_inline,
    "code_block": _fence,
    "fence": _fence,
    "table_open": _table_open,
    "th_open": _cell_open,
    "td_open": _cell_open,
    "math_inline": _math,
    "math_block": _math,
    "prose": _escaped,
    # The parser makes no such tokens with HTML switched off; if it ever does, they stay text.
    "html_inline": _escaped,
    "html_block": _escaped,
}


def _highlighted(code: str, language: str) -> str:
    """Convert code to escaped HTML, coloured when its language is known."""
    name = _LANGUAGES.get(language)
    if name is None or len(code) > _MAX_HIGHLIGHT_CHARS:
        return escape(code)
    from pygments.lexers import get_lexer_by_name

    lexer = get_lexer_by_name(name, stripnl=False, ensurenl=False)
    styles: dict[Any, str] = {}
    runs: list[tuple[str, str]] = []
    for kind, value in lexer.get_tokens(code):
        if kind not in styles:
            styles[kind] = next((style for prefix, style in _TOKEN_STYLES if str(kind).startswith(prefix)), "")
        style = styles[kind] if value.strip() else ""
        if runs and runs[-1][0] == style:
            value = runs.pop()[1] + value
        runs.append((style, value))
    return "".join(f'<span style="{style}">{escape(value)}</span>' if style else escape(value) for style, value in runs)


# Formulas.


def _formula(tex: str, opener: str, closer: str, *, tag: str) -> str:
    """Return a formula for the front end to typeset, or as code when it holds a command that could do more."""
    shown = escape(f"{opener}{_TEX_LABEL.sub('', tex)}{closer}")
    if UNSAFE_TEX.search(tex) or len(tex) > _MAX_TEX_CHARS or (opener == "$$" and "$$" in tex):
        return code_html(shown) if tag == "div" else f"<code>{shown}</code>"
    return f'<{tag} class="{_MATH}">{shown}</{tag}>' + ("\n" if tag == "div" else "")


def _looks_like_math(opener: str, tex: str, following: str) -> bool:
    """Tell whether the text between two delimiters is a formula, and not prose between two amounts of money."""
    body = tex.strip()
    if not body or body.startswith("$"):
        return False
    has_sign = _TEX_SIGN.search(body) is not None
    if opener == "$":
        is_tight = body == tex and not following.isdigit() and "`" not in tex
        return is_tight and (has_sign or not (body[0].isdigit() and " " in body))
    if opener in ("$$", "\\["):
        # Brackets escaped in prose look the same: \[1\], \[sic\].
        return has_sign or not (body.isdigit() or _WORD.search(body))
    return True


def _is_escaped(text: str, position: int) -> bool:
    """Tell whether an odd number of backslashes stands before a position."""
    before = text[max(0, position - 100) : position]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _inline_math(state: StateInline, silent: bool) -> bool:
    """Find a formula inside a paragraph. A rule of the inline parser."""
    source, position = state.src, state.pos
    opener, closer = next((pair for pair in _MATH_PAIRS if source.startswith(pair[0], position)), ("", ""))
    if not opener:
        return False
    begin = position + len(opener)
    limit = min(begin + _MAX_TEX_CHARS, state.posMax)
    end = source.find(closer, begin, limit)
    while end >= 0 and _is_escaped(source, end):
        end = source.find(closer, end + 1, limit)
    after = end + len(closer)
    if end < 0 or not _looks_like_math(opener, source[begin:end], source[after : after + 1]):
        return False
    if not silent:
        token = state.push("math_inline", "", 0)
        token.content, token.markup = source[begin:end], opener
    state.pos = after
    return True


def _block_math(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Find a formula that begins a line and ends one, or a math environment. A rule of the block parser."""
    if state.is_code_block(start):
        return False

    def line_text(line: int) -> str:
        return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip()

    text = line_text(start)
    environment = _MATH_ENVIRONMENT.match(text)
    if environment:
        opener, closer = environment[0], f"\\end{{{environment[1]}}}"
    elif text.startswith(("$$", "\\[")):
        opener, closer = text[:2], "$$" if text[0] == "$" else "\\]"
    else:
        return False
    line, at = start, text.find(closer, len(opener))
    while at < 0:
        line += 1
        text = line_text(line) if line < min(end, start + _MAX_TEX_LINES) else ""
        if not text or state.sCount[line] < state.blkIndent or (opener != closer and opener in text):
            return False
        at = text.find(closer)
    # Punctuation after a formula goes into it; any other text makes it a part of a paragraph.
    if text[at + len(closer) :] not in ("", ".", ",", ";"):
        return False
    content = state.getLines(start, line + 1, state.sCount[start], False).strip()
    stop = text[at + len(closer) :]
    content = content[: len(content) - len(stop)]
    tex = content if environment else content[2:-2]
    if not _looks_like_math(opener, tex, ""):
        return False
    if not silent:
        token = state.push("math_block", "", 0)
        token.block = True
        token.content, token.markup = (tex + stop).strip(), "" if environment else opener
        token.map = [start, line + 1]
    state.line = line + 1
    return True
