"""A model's text made safe to show: Markdown to HTML, plain text for a terminal, and small tables.

Everything here is a pure function of its arguments. What a model wrote never becomes markup: tags are escaped, images
are shown as text and not fetched, links lead to http, https and mailto only, and every tag, attribute and style in the
HTML is one of those written in this file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_core import StateCore
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

# Longer texts are shown as they are: the parser takes about a second for the worst 80,000 characters.
_MAX_MARKDOWN_CHARS = 80_000
_MAX_HIGHLIGHT_CHARS = 50_000
# A level of a list counts twice. Beyond it the parser drops text, so such a text is shown as it is.
_MAX_NESTING = 60
# Each bracket in prose costs the parser up to 50 µs, for the links that it could begin. Paragraphs beyond stay text.
_MAX_BRACKETS = 5_000
_MAX_TEX_CHARS = 4_000
_MAX_TEX_LINES = 100

# MathJax typesets what it finds in an element's text. All of a reply is closed to it but for the formulas found here
# (class names of MathJax 2 and 3, documentation of their options `ignoreClass` and `ignoreHtmlClass`).
_NO_MATH = "tex2jax_ignore mathjax_ignore"
_MATH = "tex2jax_process mathjax_process"

# Inline styles, in fixed colours of medium lightness: the sanitizer of JupyterLab, through which the outputs of an
# untrusted notebook go, removes <style> and the values var(...), JupyterLab has no style sheet for the classes of
# pygments in outputs, and VS Code has other variables. Each has a contrast of 3.8 or more on white and on #1e1e1e.
_RED, _ORANGE, _GREEN, _TEAL = "#d94e4a", "#b96a1a", "#249048", "#118b96"
_BLUE, _PURPLE, _GRAY = "#277ee0", "#ad5cc9", "#7e7e7e"
_TOKEN_STYLES = (
    ("Token.Comment", f"color:{_GRAY};font-style:italic"),
    ("Token.Keyword.Constant", f"color:{_ORANGE}"),
    ("Token.Keyword", f"color:{_PURPLE}"),
    ("Token.Operator.Word", f"color:{_PURPLE}"),
    ("Token.Literal.String", f"color:{_GREEN}"),
    ("Token.Literal.Number", f"color:{_ORANGE}"),
    ("Token.Name.Function", f"color:{_BLUE}"),
    ("Token.Name.Class", f"color:{_BLUE}"),
    ("Token.Name.Tag", f"color:{_BLUE}"),
    ("Token.Name.Builtin", f"color:{_TEAL}"),
    ("Token.Name.Attribute", f"color:{_TEAL}"),
    ("Token.Name.Decorator", f"color:{_TEAL}"),
    ("Token.Name.Exception", f"color:{_RED}"),
    ("Token.Generic.Deleted", f"color:{_RED}"),
    ("Token.Generic.Inserted", f"color:{_GREEN}"),
    ("Token.Generic.Heading", f"color:{_BLUE}"),
    ("Token.Generic.Prompt", f"color:{_GRAY}"),
    ("Token.Generic.Output", f"color:{_GRAY}"),
)
# JupyterLab gives `pre` no margin, breaks its lines anywhere, and puts a ground of its own behind `code`. Only `code`
# itself can say `white-space`.
_PRE = (
    '<pre dir="ltr" style="overflow-x:auto;margin:0.7em 0;padding:0.6em 0.8em;word-break:normal;'
    'background-color:rgba(128, 128, 128, 0.1)"><code style="background-color:rgba(0, 0, 0, 0);white-space:{space}">'
)
_CODE = _PRE.format(space="pre")
_PROSE = _PRE.format(space="pre-wrap")
_FOOTER = '<div style="opacity:0.7;font-size:smaller">'
# Languages that are coloured. A fixed list, because some of pygments' other lexers take very long on hostile text.
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
_UNSAFE_TEX = re.compile(
    r"\\(?:[hH]ref|[hH]yper\w*|url|nolinkurl|html\w*|class|cssId|style|data|require|includegraphics|mmlToken|bbox|"
    r"texttip|mathtip|tooltip|toggle|mathtoggle|enclose|menclose|fcolorbox|definecolor|ref|eqref|unicode|"
    r"[gex]?def|let|futurelet|(?:re)?new[a-z]*|providecommand|Declare\w*|Newextarrow|csname|catcode|input|include|"
    r"write|special|breakAlign|beginProof|setOptions)(?![A-Za-z])"
)
_TEX_LABEL = re.compile(r"\\label\s*\{[^{}]*\}")

# What a terminal could obey: C0 but for \n and \t, DEL, C1, and the marks that reorder text. Taking out ESC and CSI
# themselves leaves the rest of a sequence as harmless letters, also when the sequence arrives in two pieces.
_FORBIDDEN: dict[int, str | None] = {
    **dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), None),
    **dict.fromkeys((0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)), None),
}
del _FORBIDDEN[0x09], _FORBIDDEN[0x0A]
_SURROGATE = re.compile("[\ud800-\udfff]")
# A notebook that becomes Markdown keeps this HTML, and there a blank line ends HTML: what a reply shows as code would
# be read anew, its images fetched. Written as a character reference, a line feed shows as before and ends nothing.
_BLANK_LINE = re.compile(r"\n(?=[^\S\n]*(?:\n|\Z))")


def terminal_text(text: str) -> str:
    """Text that a terminal only shows and never obeys.

    Args:
        text: Any text, or a piece of one.

    Returns:
        The text without control characters (but for line feeds and tabs) and bidirectional controls, lone surrogates
        replaced by U+FFFD. Piece by piece it gives the same as at once.
    """
    return _SURROGATE.sub("\ufffd", text.translate(_FORBIDDEN))


def _one_line(text: str) -> str:
    """Text from outside as one printable line."""
    return " ".join(terminal_text(text).split())


def _wrapped(body: str, name: str = "") -> str:
    """The element around all of it. It cuts off what would be painted outside of it, such as a huge formula."""
    body = _BLANK_LINE.sub("&#10;", body)
    return f'<div class="{name}{_NO_MATH}" dir="auto" style="overflow-x:auto;overflow-y:hidden">{body}</div>'


def _body_html(text: str) -> str:
    """Markdown as HTML, or the text as it is where Markdown does not work out."""
    text = terminal_text(text.replace("\0", "\ufffd"))
    if len(text) <= _MAX_MARKDOWN_CHARS:
        # Whatever a hostile text sets off in the parser (too deep a recursion, say), the reply must still be shown.
        try:
            parser = _parser()
            tokens = parser.parse(text)
            if all(token.level < _MAX_NESTING - 1 for token in tokens):
                return str(parser.renderer.render(tokens, parser.options, {}))
        except Exception:
            pass
    return _plain_html(text)


def _plain_html(text: str) -> str:
    """A text as it is."""
    return f"{_PROSE}{escape(terminal_text(text))}</code></pre>\n"


def _parser() -> MarkdownIt:
    """CommonMark with tables, strikethrough and formulas; without HTML."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": _MAX_NESTING})
    parser.enable(["table", "strikethrough"])
    parser.validateLink = _is_safe_link  # type: ignore[method-assign]  # the parser's own way to restrict links
    parser.inline.ruler.before("escape", "math_inline", _inline_math)
    parser.block.ruler.before(
        "fence", "math_block", _block_math, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    parser.core.ruler.before("inline", "bracket_limit", _limit_brackets)
    for name, rule in _RULES.items():
        parser.add_render_rule(name, rule)
    return parser


def _limit_brackets(state: StateCore) -> None:
    """Rule of the parser: paragraphs after too many brackets are left as text."""
    brackets = 0
    for token in state.tokens:
        if token.type == "inline":
            brackets += token.content.count("[")
            if brackets > _MAX_BRACKETS:
                token.type = "prose"


def _is_safe_link(url: str) -> bool:
    """Whether a link may lead there; the parser has decoded its entities and escapes."""
    return _LINK.match(url) is not None


# How tokens become HTML. Names and signatures are the parser's.


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


def _cell(tag: str, side: str, more: str = "") -> str:
    return f'<{tag} style="text-align:{side};padding:0.2em 0.7em{more}">'


def _cell_open(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    # Said for every cell, because JupyterLab aligns the cells of HTML outputs to the right.
    wanted = re.fullmatch(r"text-align:(left|center|right)", str(tokens[index].attrGet("style")))
    return _cell(tokens[index].tag, wanted[1] if wanted else "left")


def _table_open(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return '<table style="margin-left:0">\n'


def _fence(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    language = token.info.split(maxsplit=1)[0].lower() if token.info.strip() else ""
    if language == "math":
        tex = token.content.strip()
        is_delimited = tex.startswith(("$$", "\\[", "\\begin"))
        return _formula(tex, *(("", "") if is_delimited else ("$$", "$$")), tag="div")
    return f"{_CODE}{_highlighted(token.content, language)}</code></pre>\n"


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
    # The parser makes no such tokens with HTML switched off; should it ever, they stay text.
    "html_inline": _escaped,
    "html_block": _escaped,
}


def _highlighted(code: str, language: str) -> str:
    """Code as escaped HTML, coloured when its language is known."""
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
    """A formula for the front end to typeset, or as code when it holds a command that could do more."""
    shown = escape(f"{opener}{_TEX_LABEL.sub('', tex)}{closer}")
    if _UNSAFE_TEX.search(tex) or len(tex) > _MAX_TEX_CHARS or (opener == "$$" and "$$" in tex):
        return f"{_CODE}{shown}</code></pre>\n" if tag == "div" else f"<code>{shown}</code>"
    return f'<{tag} class="{_MATH}">{shown}</{tag}>' + ("\n" if tag == "div" else "")


def _looks_like_math(opener: str, tex: str, following: str) -> bool:
    """Whether what stands between two delimiters is a formula, and not prose between two amounts of money."""
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
    """Whether an odd number of backslashes stands before a position."""
    before = text[max(0, position - 100) : position]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _inline_math(state: StateInline, silent: bool) -> bool:
    """Rule of the inline parser: a formula inside a paragraph."""
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
    """Rule of the block parser: a formula that begins a line and ends one, or a math environment."""
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
    # A full stop after a formula goes into it; any other text makes it a part of a paragraph.
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


# What commands answer with.
